"""What is wrong about Olive's own passes that params.yaml names, told before anything runs.

What can be told by Olive's registry and code is told without importing Olive, which takes seconds; its own schema
judges the rest, where there is a pass at all.
"""

import ast
import difflib
import importlib.util
import logging
import re
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from pydantic import JsonValue, ValidationError

from press.core import files, packages, paths
from press.core.errors import UserError
from press.model.olive_passes import DATA, completed, pass_class, schema_of
from press.params import schema, sentences

# Where Olive's passes for a kind of model are, by the place that has such a model.
KINDS = {
    "before_quantize": ("olive.passes.pytorch.", "a PyTorch model"),
    "after_quantize": ("olive.passes.pytorch.", "a PyTorch model"),
    "after_capture": ("olive.passes.onnx.", "an ONNX graph"),
}
# The places whose passes each stage runs.
STAGES = {
    "quantize": ("before_quantize", "after_quantize"),
    "capture": ("after_capture",),
    "convert": ("after_quantize", "after_capture"),
}
_ADAPTS = "adapters are trained by finetune: use adapters.NAME.lora"
_QUANTIZES = "it quantizes the layers, which quantize.algorithm does"
_CONVERTS = "it makes a graph of a PyTorch model, which capture does"
_PARTS = "its result is not one graph"
_CHANGES_NOTHING = "it changes nothing in the model's files"
# Passes of a fitting kind that cannot do here what they are for, and why.
REFUSED = {
    "SpinQuant": "it trains on a data set of the hub that Olive chooses: QuaRot rotates without one",
    **dict.fromkeys(("DoRA", "LoftQ", "LoHa", "LoKr", "LoRA", "MergeAdapterWeights", "QLoRA"), _ADAPTS),
    **dict.fromkeys(("AutoAWQQuantizer", "Gptq", "GptqModel", "GptqQuantizer", "KQuant", "Rtn"), _QUANTIZES),
    "SelectiveMixedPrecision": "quantize.mixed_precision does that",
    **dict.fromkeys(("CaptureLayerAnnotations", "CaptureSplitInfo", "OnnxDiscrepancyCheck"), _CHANGES_NOTHING),
    "OrtSessionParamsTuning": "what it chooses depends on timings",
    **dict.fromkeys(("MobiusBuilder", "ModelBuilder", "OnnxConversion", "OptimumConversion"), _CONVERTS),
    **dict.fromkeys(("ComposeOnnxModels", "OptimumMerging", "SplitModel", "StaticLLM"), _PARTS),
}
# Options by which a pass would run code, read what no stage depends on, or write where no stage does, and why not.
CODE = re.compile(r"^(user_script|script_dir|trust_remote_code)$")
FILES = re.compile(r"(^|_)(path|dir|file|folder|workspace)$|^(external_data_name|cost_model)$")


def check(passes: schema.Passes) -> None:
    """Refuse passes that Olive does not have, that do not go there, or whose options Olive does not take.

    :raises UserError: naming place, index and key
    """
    for place, index, each in _listed(passes):
        key = f"passes.{place}.{index}"
        if wrong := _mistake(place, key, each):
            raise UserError(f"{paths.PARAMS}: {wrong}")


def trees(passes: schema.Passes, stage: str) -> list[ast.Module]:
    """Return the syntax trees of the modules of those passes that a stage runs, by which its libraries are known."""
    return [_tree(each.type) for place, _, each in _listed(passes) if place in STAGES.get(stage, ())]


def _listed(passes: schema.Passes) -> Iterator[tuple[str, int, schema.OlivePass]]:
    for place in KINDS:
        for index, each in enumerate(getattr(passes, place)):
            yield place, index, each


@cache
def _registry() -> dict[str, dict]:
    """Return Olive's own registry: its passes by their types, and which packages each of its extras has."""
    return files.read_json(_olive() / "olive_config.json")


def _olive() -> Path:
    # Found, and not imported.
    spec = importlib.util.find_spec("olive")
    return Path(str(spec and spec.origin)).parent


def _mistake(place: str, key: str, each: schema.OlivePass) -> str | None:
    """Return what is wrong about a pass, cheap questions first, or None."""
    return (
        _out_of_place(place, key, each.type)
        or next(_outside(key, (each.model_extra or {})), None)
        or _lacking(key, each)
        or _against_schema(key, each)
    )


def _out_of_place(place: str, key: str, name: str) -> str | None:
    known = _registry()["passes"]
    prefix, kind = KINDS[place]
    fitting = [other for other in known if known[other]["module_path"].startswith(prefix) and other not in REFUSED]
    if name not in known:
        near = difflib.get_close_matches(name.lower(), {other.lower(): other for other in known}, 1)
        meant = next((other for other in known if near and other.lower() == near[0]), None)
        hint = f"is {meant} meant?" if meant else f"{place} takes {', '.join(fitting)}"
        return f"{key}.type is {name!r}, which Olive has no pass of: {hint}"
    if not known[name]["module_path"].startswith(prefix):
        others = [other for other, (start, _) in KINDS.items() if known[name]["module_path"].startswith(start)]
        where = f"; it goes with {' or '.join(others)}" if others and name not in REFUSED else ""
        return f"{key}.type is {name}, which is no pass for {kind}, as {place} has it{where}"
    reason = REFUSED.get(name)
    if place == "after_capture" and known[name].get("dataset") == "dataset_required":
        reason = "it needs inputs of the graph as data, of which there are none"
    return f"{key}.type is {name}, which cannot be used here: {reason}" if reason else None


def _outside(key: str, value: JsonValue) -> Iterator[str]:
    """Yield which options reach out of what the stage depends on, at any depth."""
    members = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
    for name, inner in members.items():
        option = f"{key}.{name}"
        if DATA.search(str(name)):
            yield f"{option} is given by the stage, the text of quantize.calibration: leave it out"
        elif CODE.search(str(name)):
            yield f"{option} would run code that no stage depends on: leave it out"
        elif FILES.search(str(name)):
            yield f"{option} names a place for files, but a pass reads and writes its model alone: leave it out"
        elif isinstance(inner, str) and ("://" in inner or ".." in re.split(r"[/\\]", inner)):
            yield f"{option} is {sentences.shown(inner)}, which is a place outside: a pass reads its model alone"
        yield from _outside(option, inner)


def _lacking(key: str, each: schema.OlivePass) -> str | None:
    """Return which package a pass needs that is not locked, or None."""
    entry, extras = _registry()["passes"][each.type], _registry()["extra_dependencies"]
    wanted = [*entry.get("module_dependencies", ())]
    for extra in entry.get("extra_dependencies", ()):
        wanted += extras.get(extra, [extra])
    locked = packages.read() if wanted else {}
    for text in wanted:
        name = Requirement(text).name
        # What only this option asks for, which is on by default.
        switch = f"{name}_optimize"
        if packages.normalize(name) not in locked and (each.model_extra or {}).get(switch) is not False:
            off = f", or set {switch} to false" if _says(_tree(each.type), switch) else ""
            return f"{key}.type is {each.type}, which needs the package {name}: {_how_to_add(off)}"
    tops = {name.partition(".")[0] for name in _needed(_tree(each.type), each.type)}
    missing = sorted(top for top in tops if importlib.util.find_spec(top) is None)
    return f"{key}.type is {each.type}, which needs the package {missing[0]}: {_how_to_add()}" if missing else None


def _says(tree: ast.Module, text: str) -> bool:
    return any(isinstance(node, ast.Constant) and node.value == text for node in ast.walk(tree))


def _how_to_add(instead: str = "") -> str:
    return f"add it to {packages.REQUIREMENTS}, then `make lock` and `{packages.INSTALL}`{instead}"


@cache
def _tree(name: str) -> ast.Module:
    module = _registry()["passes"][name]["module_path"].split(".")[1:-1]
    return ast.parse(_olive().joinpath(*module).with_suffix(".py").read_bytes())


def _needed(tree: ast.Module, name: str) -> Iterator[str]:
    """Yield the modules that a pass's module cannot do without: no matter what, or in the methods of the pass."""
    pending: list[ast.AST] = [*tree.body]
    while pending:
        match pending.pop():
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, _, 0) if module:
                yield module
            case ast.ClassDef() as defined if defined.name == name:
                pending += defined.body
            case ast.FunctionDef() as method if method not in tree.body:
                pending += method.body
            case _:
                pass


def _against_schema(key: str, each: schema.OlivePass) -> str | None:
    """Return what Olive's own schema says against a pass's options, or None."""
    return _misnamed(key, each) or _misfit(key, each)


def _misnamed(key: str, each: schema.OlivePass) -> str | None:
    """Return which option a pass does not have, or which one it lacks, or None."""
    fields, options = schema_of(each.type).model_fields, (each.model_extra or {})
    for name in options:
        if name not in fields:
            known = [other for other in fields if not _reaches_out(other)]
            return f"{key}.{name} is no option of {each.type}, only {', '.join(known) or 'none is'}"
    for name in (name for name, field in fields.items() if field.is_required() and name not in options):
        if not DATA.search(name):
            said = (
                "cannot be given here"
                if _reaches_out(name)
                else f"is missing: {_defaults(each.type)[name].description}"
            )
            return f"{key}.{name}, which {each.type} needs, {said}"
    return None


def _misfit(key: str, each: schema.OlivePass) -> str | None:
    """Return what a pass says against the values of its options, or None."""
    try:
        takes, reasons = _judged(each)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        parameter = _defaults(each.type)[name]
        expected = _expected(parameter.type_) or parameter.description
        return f"{key}.{name} is {sentences.shown((each.model_extra or {})[name])}, but must be {expected}"
    except (AssertionError, ValueError) as error:
        takes, reasons = False, [" ".join(str(error).split())]
    if takes:
        return None
    return f"{key}: {each.type} does not take these options: {'; '.join(reasons) or 'Olive does not say why'}"


def _defaults(name: str) -> Any:
    from olive.hardware import DEFAULT_CPU_ACCELERATOR

    return pass_class(name).default_config(DEFAULT_CPU_ACCELERATOR)


def _judged(each: schema.OlivePass) -> tuple[bool, list[str]]:
    """Return whether a pass takes its options, by its own judgement, and what it said of them."""
    from olive.hardware import DEFAULT_CPU_ACCELERATOR

    given = completed(each, {"name": "calibration", "type": "DummyDataContainer"})
    del given["type"]
    olive_pass, said = pass_class(each.type), logging.getLogger("olive")
    handler, level = _Messages(), said.level
    said.addHandler(handler)
    said.setLevel(logging.INFO)
    try:
        config = olive_pass.generate_config(DEFAULT_CPU_ACCELERATOR, given, disable_search=True)
        return olive_pass.validate_config(config, DEFAULT_CPU_ACCELERATOR), handler.messages
    finally:
        said.setLevel(level)
        said.removeHandler(handler)


class _Messages(logging.Handler):
    """Keep what Olive logs."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _reaches_out(name: str) -> bool:
    return any(pattern.search(name) for pattern in (DATA, CODE, FILES))


def _expected(kind: object) -> str | None:
    """Return in words what a value of a simple type must be; None for others."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(str(member.value) for member in kind)
    return {bool: "true or false", int: "an integer", float: "a number", str: "text"}.get(kind)  # type: ignore[call-overload]
