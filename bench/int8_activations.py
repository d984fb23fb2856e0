"""Does an adapter that learns on what the graph computes, int8 activations and tables included, lose less in ONNX?

    python -m bench.int8_activations export FOLDER     in a project that is built
    python -m bench.int8_activations measure FOLDER    there, or on a machine with a GPU that FOLDER was copied to
    python -m bench.int8_activations table FILE        of what `measure` wrote, one line for each loss

`measure` needs PyTorch, transformers, safetensors, onnx-ir, ONNX Runtime and the folder `press`, but no Olive. Each
adapter is trained in several ways, by the steps, batches and seeds of `finetune`, in fp32:

- `weights`: as `finetune` does it, on the dequantized integers, with floats for all else;
- `int8`: the same, but what the layers' linears read is rounded as MatMulNBits rounds it at accuracy level 4: blocks as
  long as the weights' groups, each by its largest magnitude to int8; the gradient passes straight through;
- `graph-int8`, `graph-int4`: int8, and the embedding and lm_head of the graph with tables of that precision,
  dequantized, the head's input rounded, too;
- `tables-int4`: the graph's int4 embedding and lm_head, and floats for activations.

An adapter's branch reads the activations as they are, in the graph as here. All seeds of a way learn at once: a batch
has the examples of each, for which the branches have weights of their own. The loss is that of the held-out answers in
nats a token: `simulated` in PyTorch with what the target rounds, and `onnx` in ONNX Runtime. The way `built` trains
nothing and measures the project's own adapter.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from press.core import files, paths
from press.data import jsonl
from press.model import adapter_inputs, head_tables, node_names

FLOAT, PRECISIONS = "float", ("int8", "int4")
BUILT = "built"


class Way(NamedTuple):
    """What a training computes with.

    :param tables: embedding and lm_head of the graph of that precision; or the checkpoint's own
    :param rounds: whether what quantized products read is rounded
    """

    tables: str
    rounds: bool


# The most telling first, in case that there is no time for all.
WAYS = {
    "weights": Way(FLOAT, rounds=False),
    "graph-int4": Way("int4", rounds=True),
    "graph-int8": Way("int8", rounds=True),
    "int8": Way(FLOAT, rounds=True),
    "tables-int4": Way("int4", rounds=False),
}
TARGETS = {FLOAT: Way(FLOAT, rounds=False), **{each: Way(each, rounds=True) for each in PRECISIONS}}


def export(folder: Path) -> None:
    """Put all that `measure` reads into a new folder, from a project whose first target has int8 tables."""
    from safetensors.numpy import load_file, save_file

    from press.params import settings

    params = settings.load()
    name = next(iter(params.targets))
    target = params.target(name)
    if target.precision != "int8":
        raise SystemExit(f"the tables of targets.{name} are {target.precision}, not int8")
    (folder / "int4").mkdir(parents=True)
    shutil.copytree(paths.CAPTURED / name, folder / "int8")
    weights = load_file(paths.QUANTIZED / "model.safetensors")
    floats = {key: tensor for key, tensor in weights.items() if key.endswith("weight") and ".qweight" not in key}
    save_file(floats, folder / "floats.safetensors")
    write_int4(folder / "int8", folder / "int4", floats["model.embed_tokens.weight"], target.block_size)
    config = files.read_json(paths.QUANTIZED / paths.CONFIG)
    del config["quantization_config"]
    files.write_json(folder / paths.CONFIG, config)
    about: dict[str, Any] = {"seed": params.seed, "block_size": target.block_size, "adapters": {}}
    for adapter in params.adapters:
        chosen = params.adapter(adapter)
        about["adapters"][adapter] = {**chosen.training.model_dump(), **chosen.lora.model_dump()}
        shutil.copytree(paths.PREPARED / adapter, folder / "prepared" / adapter)
        shutil.copytree(paths.ADAPTERS / adapter, folder / "adapters" / adapter)
    files.write_json(folder / "about.json", about)


def write_int4(source: Path, target: Path, table: np.ndarray, block_size: int) -> None:
    """Write a graph with an int4 table in place of its int8 one, rounded as onnxruntime-genai's builder rounds it."""
    import onnx
    from onnxruntime.capi import _pybind_state

    rows, width = table.shape
    codes = np.zeros((rows, width // block_size, block_size // 2), np.uint8)
    scales = np.zeros(rows * width // block_size, np.float32)
    zeros = np.zeros(rows * (width // block_size + 1) // 2, np.uint8)
    turned = np.ascontiguousarray(table.T)
    _pybind_state.quantize_matmul_4bits(codes, turned, scales, zeros, block_size, rows, width, True)
    proto = onnx.load(source / paths.GRAPH)
    head = next(node for node in proto.graph.node if node.name == node_names.HEAD_IN_BLOCKS)
    of_before = {tensor.name: tensor for tensor in proto.graph.initializer}
    shape = of_before[head.input[2]].dims
    for old, new in ((head.input[1], codes), (head.input[2], scales.reshape(shape))):
        of_before[old].CopyFrom(onnx.numpy_helper.from_array(new, old))
    for node in proto.graph.node:
        if head.input[1] in node.input:
            bits = next(each for each in node.attribute if each.name == "bits")
            bits.i = 4
    onnx.save(proto, target / paths.GRAPH, save_as_external_data=True, location=f"{paths.GRAPH}.data")
    shutil.copyfile(source / paths.LAYOUT, target / paths.LAYOUT)


@torch.no_grad()
def rounded(values: torch.Tensor, block_size: int) -> torch.Tensor:
    """Round to int8 by blocks of the last dimension, as MLAS does for accuracy level 4, and back."""
    blocks = values.unflatten(-1, (-1, block_size))
    scales = blocks.abs().amax(-1, keepdim=True) / 127
    return (torch.round(blocks / scales.clamp_min(1e-30)) * scales).flatten(-2)


class Product(nn.Module):
    """A product with frozen weights, whose input may be rounded by blocks."""

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor, block_size: int) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.block_size = block_size
        self.rounds = False

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if self.rounds:
            values = values + (rounded(values, self.block_size) - values).detach()
        return functional.linear(values, self.weight)


class Branched(Product):
    """A layer's product with a LoRA branch for each seed; as many of the inputs' rows belong to each."""

    def add_branches(self, down: torch.Tensor, up: torch.Tensor, scaling: float) -> None:
        """Take A of shape (seeds, rank, width) and B of (seeds, rows, rank)."""
        self.down, self.up, self.scaling = nn.Parameter(down), nn.Parameter(up), scaling

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        base = super().forward(values)
        by_seed = values.reshape(len(self.down), -1, values.shape[-1])
        return base + (by_seed @ self.down.mT @ self.up.mT * self.scaling).view(base.shape)


class Model:
    """The quantized model in PyTorch, with branches for several seeds, and aimed at what it is to compute with."""

    def __init__(self, folder: Path, where: str) -> None:
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModelForCausalLM

        self.where = where
        about = files.read_json(folder / "about.json")
        floats = load_file(folder / "floats.safetensors")
        config = AutoConfig.from_pretrained(folder)
        whole = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
        self.layers = dict(_layers(folder / PRECISIONS[0]))
        for name, layer in self.layers.items():
            whole.set_submodule(name, layer)
        left, unknown = whole.load_state_dict(floats, strict=False)
        left = [name for name in left if name.removesuffix(".weight") not in self.layers and name != "lm_head.weight"]
        if left or unknown:
            raise SystemExit(f"the checkpoint lacks {left} and has {unknown}")
        self.inner = whole.model.to(where).eval().requires_grad_(requires_grad=False)
        own = floats["model.embed_tokens.weight"]
        self.tables = {FLOAT: (own, floats.get("lm_head.weight", own))}
        for precision in PRECISIONS:
            read = head_tables.read(folder / precision / paths.GRAPH)
            self.tables[precision] = (torch.from_numpy(read.embedding), torch.from_numpy(read.head))
        self.head = Product(own, about["block_size"])

    def aim(self, way: Way) -> None:
        """Compute from now on as a way does."""
        embedding, head = (table.to(self.where) for table in self.tables[way.tables])
        self.inner.embed_tokens.weight = nn.Parameter(embedding, requires_grad=False)
        self.head.weight, self.head.rounds = head, way.rounds and way.tables != FLOAT
        for layer in self.layers.values():
            layer.rounds = way.rounds

    def begin(self, seeds: Sequence[int], rank: int, scaling: float) -> None:
        """Add new branches, with PEFT's initial values."""
        drawn = [list(_initial(seed, rank, self.layers.values())) for seed in seeds]
        for layer, *downs in zip(self.layers.values(), *drawn, strict=True):
            up = torch.zeros(len(seeds), len(layer.weight), rank, device=self.where)
            layer.add_branches(torch.stack(downs).to(self.where), up, scaling)

    def take(self, weights: dict[str, torch.Tensor], scaling: float) -> None:
        """Take the branches of one adapter in PEFT's format."""
        for name, layer in self.layers.items():
            down, up = (weights[f"{adapter_inputs.PREFIX}{name}.lora_{side}.weight"][None] for side in "AB")
            layer.add_branches(down.to(self.where), up.to(self.where), scaling)

    def branches(self, index: int) -> dict[str, np.ndarray]:
        """Return the branches of a seed as PEFT names them."""
        return {
            f"{adapter_inputs.PREFIX}{name}.lora_{side}.weight": tensor[index].detach().cpu().numpy()
            for name, layer in self.layers.items()
            for side, tensor in (("A", layer.down), ("B", layer.up))
        }

    def losses(self, rows: Sequence[dict], seeds: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum of each seed's losses of the answers' tokens, and how many tokens these are.

        :param rows: examples, as many of each seed
        """
        ids = nn.utils.rnn.pad_sequence([torch.tensor(row["input_ids"]) for row in rows], batch_first=True)
        learned = torch.zeros_like(ids, dtype=torch.bool)
        for place, row in zip(learned, rows, strict=True):
            place[row["prompt_tokens"] : len(row["input_ids"])] = True
        ids, learned = ids.to(self.where), learned[:, 1:].to(self.where)
        # Padding is behind all tokens, and attention causal.
        hidden = self.inner(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][learned]
        losses = functional.cross_entropy(self.head(hidden), ids[:, 1:][learned], reduction="none")
        owner = torch.arange(seeds, device=self.where).repeat_interleave(len(rows) // seeds)
        owner = owner[:, None].expand_as(learned)[learned]
        sums = torch.zeros(seeds, device=self.where).index_add(0, owner, losses)
        return sums, torch.bincount(owner, minlength=seeds)

    def parameters(self) -> list[nn.Parameter]:
        """Return what is trained; the first dimension of each is the seeds."""
        return [tensor for layer in self.layers.values() for tensor in (layer.down, layer.up)]


def _layers(graph: Path) -> Iterator[tuple[str, Branched]]:
    """Yield each linear of the checkpoint's layers by its name, in the order of the model, as a graph has it."""
    import onnx_ir as ir

    nodes = {node.name: node for node in ir.load(graph / paths.GRAPH).graph}
    by_name = {}
    for name, node in nodes.items():
        if match := node_names.PROJECTION.fullmatch(name or ""):
            by_name["model.layers.{}.{}.{}".format(*match.groups())] = node
    for projection in files.read_json(graph / paths.LAYOUT)["projections"]:
        node = by_name[projection["name"]]
        weight = torch.from_numpy(np.ascontiguousarray(head_tables.weight(node)))
        for segment in projection["segments"]:
            rows = weight[segment["column"] : segment["column"] + segment["rows"]].clone()
            yield segment["module"], Branched(rows, cast(int, node.attributes["block_size"].value))


def _initial(seed: int, rank: int, layers: Any) -> Iterator[torch.Tensor]:
    torch.manual_seed(seed)
    for layer in layers:
        rows, width = layer.weight.shape
        # PEFT makes both as linears, which draws numbers of their own, before it draws A again.
        down, _ = nn.Linear(width, rank, bias=False), nn.Linear(rank, rows, bias=False)
        yield nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5)).detach()


def order(examples: int, count: int, seed: int) -> list[int]:
    """Return the training's order of examples, as passes.trainer.training_order has it."""
    generator = torch.Generator().manual_seed(seed)
    found: list[int] = []
    while len(found) < count:
        found += torch.randperm(examples, generator=generator).tolist()
    return found[:count]


def train(model: Model, examples: Sequence[dict], about: dict, seeds: Sequence[int]) -> None:
    """Train the branches of all seeds, as the Trainer does it with AdamW and a cosine schedule."""
    steps, size, warmup = about["max_steps"], about["batch_size"], about["warmup_steps"]
    orders = [order(len(examples), steps * size, seed) for seed in seeds]
    parameters = model.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=about["weight_decay"], fused=True)
    for step in range(steps):
        share = (step - warmup) / max(1, steps - warmup)
        factor = step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * share))
        optimizer.param_groups[0]["lr"] = about["learning_rate"] * factor
        rows = [examples[index] for each in orders for index in each[step * size : (step + 1) * size]]
        sums, tokens = model.losses(rows, len(seeds))
        (sums / tokens).sum().backward()
        gradients = [cast(torch.Tensor, parameter.grad) for parameter in parameters]
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        clipped = (1 / (norms + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(clipped[:, None, None])
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def simulated(model: Model, heldout: Sequence[dict], seeds: int) -> list[float]:
    """Return each seed's loss in PyTorch, as the model is aimed."""
    sums, tokens = torch.zeros(seeds, dtype=torch.float64), torch.zeros(seeds, dtype=torch.float64)
    size = 16 if model.where == "cuda" else 4
    for start in range(0, len(heldout), size):
        found = model.losses(list(heldout[start : start + size]) * seeds, seeds)
        sums, tokens = sums + found[0].cpu(), tokens + found[1].cpu()
    return (sums / tokens).tolist()


class Graph:
    """A captured model in ONNX Runtime alone, which takes an adapter's tensors as inputs."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(folder / paths.GRAPH, options, providers=["CPUExecutionProvider"])
        self._layout = files.read_json(folder / paths.LAYOUT)
        config = files.read_json(folder.parent / paths.CONFIG)
        # One row, and no token yet.
        shape = [1, config["num_key_value_heads"], 0, config["head_dim"]]
        names = [each.name for each in self._session.get_inputs() if each.name.startswith("past_key_values.")]
        self._empty = {name: np.zeros(shape, np.float32) for name in names}

    def loss(self, heldout: Sequence[dict], branches: dict[str, np.ndarray], config: dict) -> float:
        """Return the loss with an adapter.

        :param branches: in PEFT's format
        :param config: what PEFT's adapter_config.json says of it
        """
        given = self._empty | adapter_inputs.graph_inputs(config, branches, self._layout)
        losses = []
        for example in heldout:
            ids, start = example["input_ids"], example["prompt_tokens"]
            words = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
            (logits,) = self._session.run(["logits"], given | words)
            chosen = torch.from_numpy(logits[0, start - 1 : -1])
            losses.append(functional.cross_entropy(chosen, torch.tensor(ids[start:]), reduction="none").numpy())
        return float(np.concatenate(losses).mean(dtype=np.float64))


def run(words: argparse.Namespace) -> None:
    """Train an adapter in one way, and write its losses as soon as each is there."""
    about = files.read_json(words.folder / "about.json")
    chosen = about["adapters"][words.adapter]
    config = {"r": chosen["rank"], "lora_alpha": chosen["alpha"]}
    seeds = [about["seed"]] if words.way == BUILT else list(range(about["seed"], about["seed"] + words.seeds))
    torch.set_num_threads(words.threads)
    examples, heldout = (
        list(jsonl.read(words.folder / "prepared" / words.adapter / name)) for name in (paths.TRAIN, paths.HELDOUT)
    )

    def write(seed: int, target: str, by: str, loss: float) -> None:
        line = {"adapter": words.adapter, "way": words.way, "seed": seed, "target": target, "by": by, "loss": loss}
        with words.out.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")

    model = Model(words.folder, "cuda" if torch.cuda.is_available() else "cpu")
    scaling = chosen["alpha"] / chosen["rank"]
    if words.way == BUILT:
        from safetensors.torch import load_file

        model.take(load_file(words.folder / "adapters" / words.adapter / adapter_inputs.WEIGHTS), scaling)
    else:
        model.begin(seeds, chosen["rank"], scaling)
        model.aim(WAYS[words.way])
        train(model, examples, chosen, seeds)
    for target, computed in TARGETS.items():
        model.aim(computed)
        for seed, loss in zip(seeds, simulated(model, heldout, len(seeds)), strict=True):
            write(seed, target, "simulated", loss)
    branches = [model.branches(index) for index in range(len(seeds))]
    del model
    torch.cuda.empty_cache()
    torch.set_num_threads(1)
    own = WAYS.get(words.way, TARGETS[FLOAT]).tables
    for target in PRECISIONS if own == FLOAT else (own,):
        graph = Graph(words.folder / target)
        with ThreadPoolExecutor(words.threads) as threads:
            found = [threads.submit(graph.loss, heldout, each, config) for each in branches]
            for seed, loss in zip(seeds, found, strict=True):
                write(seed, target, "onnx", loss.result())


def measure(words: argparse.Namespace) -> None:
    """Run each way for each adapter in a process of its own, several at a time; what fails once more, alone."""
    adapters = files.read_json(words.folder / "about.json")["adapters"]
    jobs = [(adapter, way) for way in words.ways for adapter in adapters]

    def done(job: tuple[str, str]) -> bool:
        options = ["--seeds", str(words.seeds), "--threads", str(words.threads), "--out", str(words.out)]
        command = [sys.executable, "-m", "bench.int8_activations", "run", str(words.folder), *job, *options]
        status = subprocess.run(command, check=False).returncode
        print(*job, f"ended with {status}", flush=True)
        return status == 0

    with ThreadPoolExecutor(words.jobs) as side_by_side:
        failed = [job for job, good in zip(jobs, side_by_side.map(done, jobs), strict=True) if not good]
    for job in failed:
        done(job)
    table(words.out)


def table(results: Path) -> None:
    """Print each way's losses, and by how much they are below those of `weights` with the same seeds."""
    losses: dict[tuple, dict[int, float]] = {}
    for line in jsonl.read(results):
        key = (line["adapter"], line["target"], line["by"], line["way"])
        losses.setdefault(key, {})[line["seed"]] = line["loss"]
    print("| adapter | target | loss by | way | seeds | mean | spread | below `weights` | standard error | in seeds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (*where, way), found in sorted(losses.items()):
        reference = losses.get((*where, "weights"), {})
        gains = [reference[seed] - loss for seed, loss in found.items() if seed in reference]
        spread = f"{statistics.stdev(found.values()):.4f}" if len(found) > 1 else "–"
        cells = [*where, way, len(found), f"{statistics.mean(found.values()):.4f}", spread]
        if way != "weights" and len(gains) > 1:
            error = statistics.stdev(gains) / math.sqrt(len(gains))
            better = sum(gain > 0 for gain in gains)
            cells += [f"{statistics.mean(gains):+.4f}", f"{error:.4f}", f"{better} of {len(gains)}"]
        else:
            cells += ["–"] * 3
        print(f"| {' | '.join(map(str, cells))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("export").add_argument("folder", type=Path)
    commands.add_parser("table").add_argument("results", type=Path)
    cores = os.cpu_count() or 1
    for name in ("measure", "run"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path)
        if name == "run":
            command.add_argument("adapter")
            command.add_argument("way", choices=[*WAYS, BUILT])
        else:
            command.add_argument("--ways", nargs="+", choices=[*WAYS, BUILT], default=list(WAYS))
            command.add_argument("--jobs", type=int, default=1, help="ways side by side, on one GPU (default: 1)")
        command.add_argument("--seeds", type=int, default=3, help="from the project's own on (default: 3)")
        command.add_argument("--threads", type=int, default=cores, help="of each way (default: all cores)")
        command.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "int8_activations.jsonl")
    words = parser.parse_args()
    if words.command == "export":
        export(words.folder)
    elif words.command == "table":
        table(words.results)
    else:
        {"measure": measure, "run": run}[words.command](words)


if __name__ == "__main__":
    main()
