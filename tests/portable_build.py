"""Build a tiny model by every algorithm, and known products, and print the digests as JSON.

python tests/portable_build.py FOLDER products|model|all THREADS

tests/test_portable.py runs it on this processor and on emulated ones.
"""

import contextlib
import gc
import hashlib
import json
import os
import sys
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from press.core import arithmetic, cli, environment, files, paths  # noqa: E402
from press.data import jsonl  # noqa: E402

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}
ALGORITHMS = ("awq", "gptq", "rtn", "kquant")
# Rows, terms and columns: the terms of models' sums, whose blocks depend on caches, and odd sizes.
SHAPES = (
    *((33, 576, 96), (17, 1536, 129), (9, 3072, 64), (5, 8192, 48), (288, 64, 288), (1, 576, 1536), (7, 1025, 255)),
    *((96, 64, 96), (24, 700, 100), (5, 20011, 4), (128, 96, 64), (3, 17, 5)),
)


def import_less() -> None:
    """Let libraries import half as many modules: what is left out computes nothing here.

    On an emulated processor, most of the time is that of imports.
    """

    def unchanged(function=None, *_: object, **__: object):
        return function or unchanged

    # PyTorch's compiler, export, shapes without values, and many processes; ONNX; searches, metrics and telemetry.
    hollow = (
        *("torch._dynamo", "torch._dynamo._trace_wrapped_higher_order_op", "torch._meta_registrations", "torch.export"),
        *("torch.distributed.tensor", "onnxscript", "olive.telemetry", "optuna", "optuna.samplers", "torchmetrics"),
    )
    sys.modules.update({name: mock.MagicMock() for name in hollow})
    compiler, many = sys.modules["torch._dynamo"], sys.modules["torch.distributed.tensor"]
    compiler.disable = sys.modules["olive.telemetry"].action = unchanged
    compiler.eval_frame.OptimizedModule = many.DTensor = type("Hollow", (), {})
    # Without these, transformers does as well.
    sys.modules.update(dict.fromkeys(("datasets", "pandas", "scipy")))
    import torch
    from torch._opaque_base import OpaqueBaseMeta

    torch.distributed.is_available = lambda: False
    # Which what registers the shapes does besides.
    torch._C._set_generator_metaclass(OpaqueBaseMeta)
    # transformers reads the files of all models, to know their names.
    every = os.scandir

    def few(path: str):
        if not Path(path).match("transformers/models"):
            return every(path)
        return contextlib.nullcontext([each for each in every(path) if each.name in ("auto", "bloom", "llama")])

    with mock.patch.object(os, "scandir", few):
        import transformers  # noqa: F401


def digest(values) -> str:
    return hashlib.sha256(values.detach().contiguous().numpy().tobytes()).hexdigest()


def numbers(rows: int, columns: int):
    import torch

    found = torch.arange(rows * columns, dtype=torch.int64) * 1103515245 + 12345
    return ((found >> 8) % 65536 - 32768).float().reshape(rows, columns) / 32768


def products() -> dict[str, str]:
    """Multiply by each way that PyTorch has, forwards and backwards, and compute what else MKL has kernels for."""
    import torch

    found = {}
    for rows, terms, columns in SHAPES:
        left, right = numbers(rows, terms), numbers(columns, terms)
        name = f"{rows}x{terms}x{columns}"
        found[f"mm {name}"] = digest(left @ right.T)
        weight = right.clone().requires_grad_()
        added = torch.nn.functional.linear(left, weight, right[:, 0].contiguous())
        found[f"addmm {name}"] = digest(added)
        found[f"bmm {name}"] = digest(torch.bmm(left[None].expand(2, -1, -1), right.T[None].expand(2, -1, -1)))
        found[f"NumPy {name}"] = hashlib.sha256((left.numpy() @ right.numpy().T).tobytes()).hexdigest()
        added.square().sum().backward()
        found[f"gradient {name}"] = digest(weight.grad)
    values = numbers(100, 700).abs() + 2**-10
    found |= {name: digest(getattr(torch, name)(values)) for name in ("sqrt", "rsqrt", *arithmetic.VECTOR_FUNCTIONS)}
    covariance = values[:, :64].T @ values[:, :64] + torch.eye(64)
    return found | {
        "sqrt in place": digest(values.clone().sqrt_()),
        "softmax": digest(values.softmax(-1)),
        "sums": digest(values.sum(0)),
        "Cholesky": digest(torch.linalg.cholesky(covariance)),
        "inverse": digest(torch.cholesky_inverse(torch.linalg.cholesky(covariance))),
    }


def models(folder: Path) -> dict[str, str]:
    """Quantize a random model by each algorithm, train an adapter on it, and merge it."""
    from peft import PeftModel

    from press.model import checkpoints, quantization
    from press.params import schema, settings
    from press.sources import random_model
    from press.training import finetuning

    params = settings.load(ROOT / paths.PARAMS)
    base = folder / "base"
    base.mkdir()
    random_model.build(schema.RandomSource(config=CONFIG), 0, base)
    found = {"base": files.folder_digest(base)}
    text = folder / "text.jsonl"
    jsonl.write(text, [{"text": f"line {index} of a text about {index * 7919 % 101} cats"} for index in range(40)])
    calibration = params.quantize.calibration.model_copy(update={"data": str(text), "rows": 4, "row_tokens": 32})
    awq = params.quantize.awq.model_copy(update={"search_rows": 2, "grid_points": 3})
    shared = {"calibration": calibration, "awq": awq, "group_size": 32}
    changes: dict[str, dict] = {name: {"algorithm": name} for name in ALGORITHMS}
    mixed = params.quantize.mixed_precision.model_copy(update={"method": "k_quant_mixed"})
    changes["mixed"] = {"algorithm": "rtn", "mixed_precision": mixed}
    for name, change in changes.items():
        building = folder / f"building-{name}"
        building.mkdir()
        # So that Olive, which looks for reference cycles after each, does not look through what is imported.
        gc.freeze()
        result = quantization.quantize(params.quantize.model_copy(update=shared | change), base, building, 0)
        files.publish(result, folder / name)
        found[name] = files.folder_digest(folder / name)
    (folder / paths.PREPARED / "tiny").mkdir(parents=True)
    examples = [
        {
            "prompt": f"q{index}",
            "completion": f"a{index}<|im_end|>",
            "input_ids": [60 + index, 70, 80, 258],
            "prompt_tokens": 1,
        }
        for index in range(6)
    ]
    jsonl.write(folder / paths.PREPARED / "tiny" / paths.TRAIN, examples[:4])
    jsonl.write(folder / paths.PREPARED / "tiny" / paths.HELDOUT, examples[4:])
    adapter = params.adapter("travel")
    lora = adapter.lora.model_copy(update={"rank": 4})
    training = adapter.training.model_copy(update={"max_steps": 4, "warmup_steps": 1, "checkpoint_every": 4})
    building = folder / "building-adapter"
    building.mkdir()
    trained = finetuning.finetune(
        "tiny",
        adapter.model_copy(update={"lora": lora, "training": training}),
        0,
        folder / "awq",
        building,
        folder / "resumed",
        "cpu",
        params.arithmetic,
    )
    found["adapter"] = files.folder_digest(trained)
    merged = PeftModel.from_pretrained(checkpoints.dequantize(checkpoints.load(folder / "awq")), trained)
    merged = merged.merge_and_unload()
    return found | {
        f"merged {name}": digest(value) for name, value in merged.state_dict().items() if "down_proj" in name
    }


def main(folder: Path, what: str, threads: int) -> None:
    cli.collect_rarely()
    if "WHOLE" not in os.environ:
        import_less()
    os.environ.update(environment.STAGE)
    # The tests plant a fault that the self-test would refuse.
    arithmetic.begin(arithmetic.NATIVE if "NATIVE" in os.environ else arithmetic.PORTABLE, threads)
    (folder / "passes").symlink_to(ROOT / "passes")
    os.chdir(folder)
    found = products() if what != "model" else {}
    found |= models(folder) if what != "products" else {}
    Path("digests.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2], int(sys.argv[3]))
