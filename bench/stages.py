"""Run the pipeline's stages on a model that a bench makes, each in a process of its own, and measure what they take."""

import contextlib
import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.memory import peak_bytes
from press.core import files, paths
from press.data import jsonl
from press.model import checkpoints, conversion, device, graphs, olive_run, quantization
from press.params import schema, settings
from press.training import finetuning, preparation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROOT = Path(__file__).parents[1]
ADAPTER, TARGET = "travel", "cpu"
TRAINED, CAPTURED = paths.ADAPTERS / ADAPTER, paths.CAPTURED / TARGET
CONVERTED = paths.CONVERTED / TARGET / ADAPTER
OUTPUTS = {"quantize": paths.QUANTIZED, "finetune": TRAINED, "capture": CAPTURED, "convert": CONVERTED}
# Where a step leaves what it found, and each process of a training what that took.
FOUND, TRAINING = Path("found.json"), "training-{}.json"
# What Python calls the module of a program in a process that the program's launcher started.
STARTED = "__mp_main__"


@contextlib.contextmanager
def project() -> Iterator[None]:
    """Work in a new folder that has what stages read."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        Path("passes").symlink_to(ROOT / "passes")
        # A parameter may name no data outside of the project.
        shutil.copytree(ROOT / "data", "data")
        yield


def in_its_own_process(module: str, *words: str) -> dict:
    """Run one step of a bench as a stage runs, in a new process, and return what it found."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-m", module, *words], env=environment, check=True)
    return files.read_json(FOUND)


def prepare(adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Write an adapter's examples for the base model."""
    folder = paths.PREPARED / ADAPTER
    folder.mkdir(parents=True)
    with jsonl.writing(folder / paths.TRAIN) as train, jsonl.writing(folder / paths.HELDOUT) as heldout:
        into = preparation.Prepared(train, heldout)
        preparation.prepare(adapter, tokenizer, checkpoints.eos_ids(paths.BASE), into)
    about = {"template": adapter.template, "response_schema": None, "generation": {}}
    files.write_json(folder / paths.ADAPTER_MANIFEST, about)


def run(name: str, params: settings.Settings, where: device.Device, building: Path) -> Path:
    """Run one stage's function; return the folder of its result."""
    if name == "quantize":
        return quantization.quantize(params.quantize, paths.BASE, building, params.seed)
    if name == "finetune":
        resumed = building / "checkpoints"
        adapter = params.adapter(ADAPTER)
        return finetuning.finetune(ADAPTER, adapter, params.seed, paths.QUANTIZED, building, resumed, where)
    if name == "capture":
        with files.digesting(paths.QUANTIZED) as digest:
            captured = graphs.build(olive_run.hf_model(paths.QUANTIZED), params.target(TARGET), building)
            files.write_json(captured / paths.BASE_DIGEST, {"base_sha256": digest.result()})
            return captured
    return conversion.convert(TARGET, ADAPTER, params, building)


def measure(name: str, params: settings.Settings, where: device.Device) -> dict[str, Any]:
    """Run one stage in this process; return its seconds, the processors', peaks of memory and its output, in bytes.

    A training has its own: of its slowest process, all seconds and the median between the starts of two passes.
    """
    start = time.perf_counter()
    if name == "finetune":
        watch_training()
    with files.building(OUTPUTS[name]) as building:
        files.publish(run(name, params, where, building), OUTPUTS[name])
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    each = [files.read_json(path) for path in Path().glob(TRAINING.format("*"))] if name == "finetune" else []
    training = {key: max(one[key] for one in each) for key in (each[0] if each else ())}
    return {
        "seconds": seconds,
        "processor": used.ru_utime + used.ru_stime,
        "gpu": max(gpu_bytes(), training.pop("gpu", 0)),
        "beside": beside_bytes(),
        "host": peak_bytes(),
        "output": files.size(OUTPUTS[name]),
        "training": training,
    }


def gpu_bytes() -> int:
    """Return the most memory of its GPU that PyTorch held for this process; 0 without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def beside_bytes() -> int:
    """Return what is taken of this process's GPU beside what PyTorch holds: by CUDA, if nobody else is there."""
    if not torch.cuda.is_initialized():
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()


def watch_training() -> None:
    """Let this process write down what the Trainer's training takes."""
    import transformers

    of_transformers: Any = transformers.Trainer
    train, step = of_transformers.train, of_transformers.training_step
    starts: list[tuple[float, float]] = []

    def timed(trainer: transformers.Trainer, **options: Any) -> Any:
        start = time.perf_counter()
        output = train(trainer, **options)
        all_seconds = time.perf_counter() - start
        median, processor = (
            statistics.median(later - earlier for earlier, later in itertools.pairwise(times))
            for times in zip(*starts, strict=True)
        )
        found = {"all": all_seconds, "median": median, "processor": processor, "gpu": gpu_bytes()}
        files.write_json(Path(TRAINING.format(os.environ.get("RANK", "0"))), found)
        return output

    def noted(*arguments: Any, **options: Any) -> torch.Tensor:
        starts.append((time.perf_counter(), time.process_time()))
        return step(*arguments, **options)

    of_transformers.train, of_transformers.training_step = timed, noted
