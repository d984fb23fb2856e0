"""The project's parameters with changes, every key spelled out, and what `press.params.settings` says about them."""

import copy
import functools
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from press.core import paths
from press.core.errors import UserError
from press.params import recorded, resolving, settings

ROOT = Path(__file__).parents[1]
GIVEN = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
# All that it amounts to; the blocks that say nothing about what is built are as they are.
PARAMS = {name: GIVEN[name] for name in resolving.OUTSIDE} | resolving.Resolved(ROOT / "params.yaml").values
TRAVEL = PARAMS["adapters"]["travel"]
KEYS = (
    "seed, threads, device, arithmetic, base, data_sets, quantize, passes, every_adapter, adapters, targets, evaluate, "
    "gates, package"
)
# A response schema that even random weights can be held to.
SCHEMA = {
    "x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
    "type": "object",
    "properties": {"weather": {"enum": ["wet", "hot"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["weather", "days"],
    "additionalProperties": False,
}
# The sets of gates that the defaults have.
GATES = yaml.safe_load(resolving.DEFAULTS.read_text(encoding="utf-8"))["gates"]
DELETED = object()
JARGON = (
    "Input should",
    "input should",
    "type=",
    "instance of",
    "pydantic",
    "Traceback",
    "Value error",
    "[key]",
    "validat",
)


class Dumper(yaml.SafeDumper):
    """Writes equal blocks out, each for itself."""

    def ignore_aliases(self, data: object) -> bool:
        return True


# Another valid value of every parameter, to set it to where a stage does not name it.
OTHERS = {
    "seed": 7,
    "threads": 1,
    "device": "cpu",
    "arithmetic": "native",
    "base.source": "local",
    "base.package": {
        "name": "other",
        "version": "9",
        "sha256": "0" * 64,
        "gguf": "other.gguf",
        "model": "other/model",
        "license": "other",
        "language": ["fr"],
    },
    "base.local": {"path": "other", "sha256": "0" * 64},
    "base.hub": {"id": "other/model", "revision": "0" * 40},
    "base.azureml.uri": "azureml://registries/other/models/other/versions/9",
    "base.random.config": {"model_type": "gpt2"},
    "base.thinking": True,
    "base.trust_remote_code": True,
    "data_sets": {"other": {"id": "a/b", "revision": "0" * 40, "config": None, "split": "train", "data_files": []}},
    "quantize.algorithm": "rtn",
    "quantize.bits": 8,
    "quantize.group_size": 64,
    "quantize.symmetric": True,
    "quantize.mixed_precision.share": 0.5,
    "quantize.awq": {
        "grid_points": 3,
        "search_rows": 1,
        "clip": False,
        "clip_modules": ["o_proj"],
        "rounding": "nearest",
        "damping": 0.5,
        "processes": 2,
    },
    "quantize.calibration": {"data": "data/other.jsonl", "rows": 2, "row_tokens": 16},
    "passes.before_quantize": [{"type": "QuaRot"}],
    "passes.after_quantize": [{"type": "Rtn"}],
    "passes.after_capture": [{"type": "OnnxPeepholeOptimizer"}],
    "adapters.*.data": "data/other.jsonl",
    "adapters.*.format": "prompt",
    "adapters.*.fields": {"response": "answer"},
    "adapters.*.template": "{other}: {response}",
    "adapters.*.turns": "last",
    "adapters.*.max_seq_len": 8,
    "adapters.*.too_long": "skip",
    "adapters.*.control_tokens": "escape",
    "adapters.*.heldout": 0.5,
    "adapters.*.heldout_examples": 1,
    "adapters.*.response_schema": {"type": "string"},
    "adapters.*.thinking": False,
    "adapters.*.samples": ["other"],
    "adapters.*.generation": {
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "repetition_penalty": 1.5,
        "max_new_tokens": 1,
        "stop": ["other"],
    },
    "adapters.*.lora": {"method": "rslora", "rank": 1, "alpha": 1, "dropout": 0.5, "target_modules": ["o_proj"]},
    "adapters.*.training.objective": "dpo",
    "adapters.*.training.beta": 0.5,
    "adapters.*.training.max_steps": 1,
    "adapters.*.training.batch_size": 4,
    "adapters.*.training.processes": 2,
    "adapters.*.training.nodes": 2,
    "adapters.*.training.packing": True,
    "adapters.*.training.gradient_accumulation": 3,
    "adapters.*.training.gradient_checkpointing": True,
    "adapters.*.training.learning_rate": 1.0,
    "adapters.*.training.schedule": "constant",
    "adapters.*.training.warmup_steps": 0,
    "adapters.*.training.weight_decay": 0.5,
    "adapters.*.training.response_only": False,
    "adapters.*.training.checkpoint_every": 1,
    "targets.*.device": "gpu",
    "targets.*.provider": "CUDAExecutionProvider",
    "targets.*.precision": "float",
    "targets.*.block_size": 128,
    "targets.*.accuracy_level": 1,
    "targets.*.adapters": "dora",
    "evaluate.bare_answers": 1,
    "evaluate.batch": 1,
    "evaluate.logits_mb": 1,
    "evaluate.pytorch_answers": True,
    "evaluate.pytorch_forgetting": True,
    "evaluate.pytorch_head": True,
    "evaluate.general": {"data": "data/other-text.jsonl", "rows": 1, "row_tokens": 16},
    "evaluate.tasks": {"names": ["other"], "folder": "data/other", "limit": 1},
    "gates": [],
    "package.name": "other",
    "package.description": "other",
}
# The blocks that say what is built; the others are left out.
BUILD = set(settings.Settings.model_fields)
# Of 8 bits, no layer can have more.
WITHOUT = ["quantize.mixed_precision.method"]
# What another parameter leaves no choice about.
FOLLOWS = {"targets.*.device": "targets.*.provider"}


def changed(folder: Path, changes: dict) -> Path:
    """Write params.yaml with changes; a change's key is a path of keys."""
    values = copy.deepcopy(PARAMS)
    for keys, value in changes.items():
        block = values
        for key in keys[:-1]:
            block = block[key]
        if value is DELETED:
            del block[keys[-1]]
        else:
            block[keys[-1]] = value
    return written(folder, values)


def complaint(path: Path) -> str:
    """Return what `load` says about a file, as a sentence without the path."""
    with pytest.raises(UserError) as caught:
        settings.load(path)
    message = str(caught.value)
    assert not [word for word in JARGON if word in message]
    assert message.startswith(f"{path}")
    return message.removeprefix(f"{path}").removeprefix(": ").strip()


def base(source: str, **block: str) -> dict:
    return {("base", "source"): source, **{("base", source, key): value for key, value in block.items()}}


def read_by(stage: Mapping) -> set[str]:
    """Return the names of the parameters that a stage of dvc.yaml or dvc.lock reads, of those that `check` writes."""
    given, names = stage.get("params", {}), set()
    for path, keys in (pair for file in ([given] if isinstance(given, dict) else given) for pair in file.items()):
        assert Path(path) == paths.RESOLVED or Path(path).parent == paths.RESOLVED_ADAPTERS
        names |= {f"{recorded.prefix(Path(path))}{key}" for key in keys}
    deps = {dep if isinstance(dep, str) else dep["path"] for dep in stage["deps"]}
    return names | ({recorded.ADAPTERS} if str(paths.RESOLVED_ADAPTERS) in deps else set())


def covers(some: set[str], name: str) -> bool:
    return any(f"{name}.".startswith(f"{each}.") for each in some)


def disguised(params: dict, named: set[str]) -> dict:
    """Return params.yaml's values, all others than given, but for those that `named` covers."""
    result = {block: values for block, values in yaml.safe_load(yaml.safe_dump(params)).items() if block in BUILD}
    for pattern, other in OTHERS.items():
        block, star, rest = pattern.partition(".*.")
        for name in params[block] if star else [""]:
            path = f"{block}.{name}.{rest}" if star else pattern
            follows = FOLLOWS.get(pattern, pattern).replace("*", name)
            if not covers(named, path) and not covers(named, follows):
                *parents, leaf = path.split(".")
                functools.reduce(dict.__getitem__, parents, result)[leaf] = other
    return result


def spelled_out(values: dict) -> dict:
    """Return what params.yaml must say so that it amounts to values: each key, and no gates but these."""
    gates = values.get("gates")
    if not isinstance(gates, list):
        return {resolving.SHARED: {}} | values
    sets = dict.fromkeys(GATES) | {"own": {f"gate-{index:02}": gate for index, gate in enumerate(gates)}}
    return {resolving.SHARED: {}} | values | {"gates": sets}


def written(folder: Path, values: dict) -> Path:
    """Write params.yaml into a folder so that it amounts to values; return its path."""
    path = folder / "params.yaml"
    path.write_text(yaml.dump(spelled_out(values), Dumper=Dumper, sort_keys=False), encoding="utf-8")
    return path
