"""Olive's own passes that params.yaml names: which of them go where, what is wrong about one, and how they run.

What can be told by Olive's registry is told without importing Olive, which takes seconds, and for which there must be a
pass at all.
"""

import ast
import difflib
import importlib.util
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from pydantic import JsonValue, ValidationError

from press.core import files, packages, paths
from press.core.errors import UserError
from press.model import olive_run
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
DATA = re.compile(r"(^|_)data_config$")
CODE = re.compile(r"^(user_script|script_dir|trust_remote_code)$")
FILES = re.compile(r"(^|_)(path|dir|file|folder|workspace)$|^(external_data_name|cost_model)$")
# With it, weights lie beside the graph, as they do in what capture makes.
BESIDE = "save_as_external_data"


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


def blocks(place: str, passes: list[schema.OlivePass], data: Mapping[str, Any] | None = None) -> dict[str, dict]:
    """Return Olive's passes block of the passes of a place.

    :param data: Olive's config of the calibration text, for passes that need one
    """
    return {f"{place}_{index}": _completed(each, data) for index, each in enumerate(passes)}


def apply(
    place: str,
    given: dict[str, dict],
    model: dict,
    building: Path,
    finish: Callable[[Path, Path], Path],
    accelerator: dict | None = None,
) -> dict:
    """Run the passes of a place one by one, and return Olive's input_model block of the last one's result.

    :param given: their blocks, as `blocks` returns them
    :param model: Olive's input_model block, with a path
    :param finish: makes a model of the folders with the model before a pass and with Olive's result, and judges it
    :raises UserError: if Olive fails, or `finish` refuses the result
    """
    for index, (name, block) in enumerate(given.items()):
        folder = building / name
        folder.mkdir()
        try:
            result = olive_run.run(model, {name: block}, folder, accelerator)
            model = {**model, "model_path": str(finish(Path(model["model_path"]), result))}
        except (RuntimeError, UserError) as error:
            raise UserError(f"{paths.PARAMS}: passes.{place}.{index}, {block['type']}: {error}") from error
        files.remove(folder / "cache")
    return model


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
    found = importlib.util.find_spec("olive")
    return Path(str(found and found.origin)).parent


def _options(each: schema.OlivePass) -> dict[str, JsonValue]:
    return each.model_extra or {}


def _mistake(place: str, key: str, each: schema.OlivePass) -> str | None:
    """Return what is wrong about a pass, cheap questions first, or None."""
    return (
        _out_of_place(place, key, each.type)
        or next(_outside(key, _options(each)), None)
        or _lacking(key, each)
        or _against_schema(place, key, each)
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
    return f"{key}.type is {name}, which cannot be used here: {REFUSED[name]}" if name in REFUSED else None


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
    locked = packages.read()
    for text in wanted:
        name = Requirement(text).name
        # What only this option asks for, which is on by default.
        switch = f"{name}_optimize"
        if packages.normalize(name) not in locked and _options(each).get(switch) is not False:
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


def _class(name: str) -> Any:
    from olive.package_config import OlivePackageConfig

    return OlivePackageConfig.load_default_config().import_pass_module(name)


@cache
def _schema_of(name: str) -> Any:
    from olive.hardware import DEFAULT_CPU_ACCELERATOR

    return _class(name).get_config_class(DEFAULT_CPU_ACCELERATOR, disable_search=True)[0]


def _against_schema(place: str, key: str, each: schema.OlivePass) -> str | None:
    """Return what Olive's own schema says against a pass's options, or None."""
    return _misnamed(place, key, each) or _misfit(key, each)


def _misnamed(place: str, key: str, each: schema.OlivePass) -> str | None:
    """Return which option a pass does not have, or which one it lacks, or None."""
    fields, options = _schema_of(each.type).model_fields, _options(each)
    for name in options:
        if name not in fields:
            known = [other for other in fields if not _reaches_out(other)]
            return f"{key}.{name} is no option of {each.type}, only {', '.join(known) or 'none is'}"
    for name in (name for name, field in fields.items() if field.is_required() and name not in options):
        if DATA.search(name) and place == "after_capture":
            return f"{key}.type is {each.type}, which needs inputs of the graph as data, and there are none"
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
        return f"{key}.{name} is {sentences.shown(_options(each)[name])}, but must be {expected}"
    except (AssertionError, ValueError) as error:
        takes, reasons = False, [" ".join(str(error).split())]
    if takes:
        return None
    return f"{key}: {each.type} does not take these options: {'; '.join(reasons) or 'Olive does not say why'}"


def _defaults(name: str) -> Any:
    from olive.hardware import DEFAULT_CPU_ACCELERATOR

    return _class(name).default_config(DEFAULT_CPU_ACCELERATOR)


def _judged(each: schema.OlivePass) -> tuple[bool, list[str]]:
    """Return whether a pass takes its options, by its own judgement, and what it said of them."""
    from olive.hardware import DEFAULT_CPU_ACCELERATOR

    given = _completed(each, {"name": "calibration", "type": "DummyDataContainer"})
    del given["type"]
    pass_class, said = _class(each.type), logging.getLogger("olive")
    handler, level = _Messages(), said.level
    said.addHandler(handler)
    said.setLevel(logging.INFO)
    try:
        config = pass_class.generate_config(DEFAULT_CPU_ACCELERATOR, given, disable_search=True)
        return pass_class.validate_config(config, DEFAULT_CPU_ACCELERATOR), handler.messages
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


def _completed(each: schema.OlivePass, data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a pass's block with what the stage says besides what params.yaml says."""
    fields = _schema_of(each.type).model_fields
    given = {name: dict(data) for name in fields if DATA.search(name)} if data else {}
    beside = {BESIDE: True} if BESIDE in fields else {}
    return {"type": each.type, **beside, **_options(each), **given}
