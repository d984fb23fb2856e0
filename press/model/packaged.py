"""Read a package that somebody else may have made, before anything of it is loaded.

A package can name code: genai_config.json may name a library of operators, a provider's library or a folder elsewhere,
and a link may lead out of the folder. So a package has plain files only, those that its manifest names, and its configs
set only what `capture` and `convert` write.

app.py has all that follows the imports, too, since it is used alone; tests/test_app_elsewhere.py holds them together.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from press.core.errors import UserError
from press.core.paths import MANIFEST, RUNTIME_CONFIG

# What a decoder's inputs have where its layers remember a text otherwise than by keys and values of its tokens: then
# they remember padding, too, and can forget no part of a text.
STATES = {"past_conv_names", "past_recurrent_names"}

AGAIN = "build, fetch or copy the package again"
# What libraries take for the name of a Python class to import, or of a vocabulary that may lie elsewhere.
FOREIGN = ("auto_map", "tiktoken_file")
CHAT_TEMPLATE = "chat_template.jinja"
# A name that the package's maker chooses.
ANY = "*"


def _number(value: object) -> bool:
    return isinstance(value, int | float)


def _text(value: object) -> bool:
    return isinstance(value, str)


def _graph_name(value: object) -> bool:
    """Whether it names an input or output of a graph; the runtime formats the layer's number into it, as C does."""
    return isinstance(value, str) and re.fullmatch(r"[^%]*(%d)?[^%]*", value) is not None


def _file_name(value: object) -> bool:
    """Whether it names a file of the same folder."""
    return isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value) is not None


Allowed = Callable[[object], bool] | dict[str, "Allowed"]
SESSION: dict[str, Allowed] = {
    "log_id": _text,
    "session.disable_quant_qdq": _text,
    "session.qdq_matmulnbits_accuracy_level": _text,
    "provider_options": {
        "NvTensorRtRtx": {"enable_cuda_graph": _text, "multi_rotary_cache_concat_offset": _text},
        "OpenVINO": {"device_type": _text},
        "QNN": {"backend_type": _text},
        "VitisAI": {},
        "cuda": {"enable_cuda_graph": _text},
        "dml": {"enable_graph_capture": _text},
        "webgpu": {"enableGraphCapture": _text, "multiRotaryCacheConcatOffset": _text, "validationMode": _text},
    },
}
PART: dict[str, Allowed] = {
    "filename": _file_name,
    "session_options": SESSION,
    "inputs": _graph_name,
    "outputs": _graph_name,
    "run_on_prompt": _number,
    "run_on_token_gen": _number,
    "is_lm_head": _number,
}
DECODER: dict[str, Allowed] = {
    "filename": _file_name,
    "session_options": SESSION,
    "inputs": {ANY: _graph_name},
    "outputs": {ANY: _graph_name},
    "pipeline": {ANY: PART},
    "sliding_window": {
        "alignment": _text,
        "pad_value": _number,
        "slide_inputs": _number,
        "slide_key_value_cache": _number,
        "window_size": _number,
    },
    "layer_types": _text,
    **dict.fromkeys(
        (
            "conv_cache_size",
            "head_size",
            "hidden_size",
            "num_attention_heads",
            "num_hidden_layers",
            "num_key_value_heads",
        ),
        _number,
    ),
}
TOKENS = ("bos", "eos", "pad", "sep", "bot", "eot", "bor", "eor")
# What genai_config.json may set. A list in the file may have whatever its key may have.
CONFIG: dict[str, Allowed] = {
    "model": {
        "type": _text,
        "context_length": _number,
        "vocab_size": _number,
        "decoder": DECODER,
        **dict.fromkeys((f"{name}_token_id" for name in TOKENS), _number),
    },
    "search": {ANY: _number},
}
# How answers are given: the default of each setting, its least and its most. A temperature of 0 is greedy.
GENERATION: dict[str, tuple[float, float, float]] = {
    "temperature": (0.0, 0, 100),
    "top_p": (1.0, 0.001, 1),
    "top_k": (50, 0, 10**6),
    "repetition_penalty": (1.0, 0.01, 100),
    "max_new_tokens": (512, 1, 10**9),
}
# A graph of one Cast, from i to o: all that the runtime needs in order to load a model.
NO_WEIGHTS = bytes.fromhex(
    "08083a4a0a170a016912016f2204436173742a090a02746f1801a001021201675a150a016912100a0e0807120a0a0312"
    "01620a0312017362150a016f12100a0e0801120a0a031201620a0312017342040a001011"
)
# Characters of a response schema; the decoder compiles it for each answer, in a second where it is that long.
LONGEST_SCHEMA = 100_000


def open_package(folder: Path, beside: Collection[str] = ()) -> tuple[dict, dict[str, str]]:
    """Return a package's manifest and the SHA-256 of every file that is there.

    :param beside: names of files that may lie beside those of the manifest
    :raises UserError: naming the first file that is missing, damaged, not in the manifest or no plain file, or the
        first setting that a package may not have
    """
    try:
        present = plain_files(folder)
        if MANIFEST not in present:
            raise UserError(
                f"{folder / MANIFEST} is missing: {folder} is neither a package (`make repro` builds one) nor a release"
            )
        manifest = read_object(folder / MANIFEST)
        listed = manifest.get("files")
        if not isinstance(listed, dict) or not isinstance(manifest.get("base_sha256"), str):
            raise UserError(f"{folder / MANIFEST} is damaged: {AGAIN}")
        wrong = dict.fromkeys(sorted(listed.keys() - present.keys()), "missing")
        wrong |= dict.fromkeys(sorted(present.keys() - listed.keys() - {MANIFEST, *beside}), "not in the manifest")
        for name, what in wrong.items():
            raise UserError(f"{shown(folder / name)} is {what}: {AGAIN}")
        digests = {name: sha256(path) for name, path in present.items()}
    except OSError as error:
        raise UserError(f"{shown(error.filename)} cannot be read ({error.strerror}): {AGAIN}") from error
    for name in listed:
        if listed[name] != digests[name]:
            raise UserError(f"{shown(folder / name)} is damaged: {AGAIN}")
    for name in listed:
        check_config(folder / name)
    return manifest, digests


def plain_files(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their relative POSIX paths, sorted, and empty folders by theirs and a slash.

    :raises UserError: for anything else that is there, such as a link or a pipe
    """
    entries = {}
    for parent, folders, names in os.walk(folder, onerror=_failed):
        here = Path(parent)
        if here != folder and not folders and not names:
            entries[f"{here.relative_to(folder).as_posix()}/"] = here
        for name in folders + names:
            path = here / name
            # Windows has links to folders of another kind, too.
            if path.is_symlink() or path.resolve() != here.resolve() / name:
                raise UserError(
                    f"{shown(path)} is a link, but a package has plain files only: copy what it leads to in its place, "
                    "if you trust that (DVC makes links where its cache.type says so)"
                )
            if name in names and not stat.S_ISREG(path.lstat().st_mode):
                raise UserError(f"{shown(path)} is no plain file, and a package has nothing else: {AGAIN}")
        entries |= {(here / name).relative_to(folder).as_posix(): here / name for name in names}
    return dict(sorted(entries.items()))


def _failed(error: OSError) -> None:
    raise error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown(path: Path | str) -> str:
    """Return a path for a sentence, without what a terminal would take for a command."""
    return str(path) if str(path).isprintable() else repr(str(path))


def read_object(path: Path) -> dict:
    """Read a JSON object in UTF-8; the libraries that read it next take another one of two equal keys.

    :raises UserError: if it is not there, or anything else
    """
    try:
        value = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{shown(path)} is missing: {AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown(path)} is damaged: {AGAIN}") from error
    if not isinstance(value, dict):
        raise UserError(f"{shown(path)} is damaged: {AGAIN}")
    return value


def parse(text: str) -> object:
    """Return the value of a JSON text, if every reader takes it for the same.

    :raises ValueError: with what is wrong about it, or RecursionError
    """
    value = json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_number)
    # An escape may stand for half of a character, which no tokenizer takes.
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _each_once(pairs: list[tuple[str, object]]) -> dict:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name is there twice in one object")
    return members


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def read_adapter(path: Path) -> dict:
    """Return what adapter.json says of an adapter, with all settings of how its answers are given.

    :raises UserError: if it does not say that as a package may
    """
    manifest = read_object(path)
    schema = manifest.setdefault("response_schema", None)
    try:
        manifest["generation"] = generation(manifest.get("generation", {}))
        if not isinstance(schema, dict | None):
            raise ValueError("response_schema is no JSON Schema of an object")
        if schema is not None and (length := len(json.dumps(schema))) > LONGEST_SCHEMA:
            raise ValueError(f"response_schema has {length} characters, but may have {LONGEST_SCHEMA}")
        for name in ("template", "turn"):
            if "\0" in str(manifest.get(name)):
                raise ValueError(f"{name} has the character U+0000, at which the runtime cuts a text off")
    except ValueError as error:
        raise UserError(f"{shown(path)} is damaged ({error}): {AGAIN}") from error
    return manifest


def generation(given: object) -> dict:
    """Return the settings of how answers are given, all of them.

    :raises ValueError: with what is wrong about them
    """
    if not isinstance(given, dict):
        raise ValueError("generation is no object")
    settings = {name: given.get(name, default) for name, (default, _, _) in GENERATION.items()}
    for name, (default, least, most) in GENERATION.items():
        if type(settings[name]) not in (type(default), int) or not least <= settings[name] <= most:
            kind = "an integer" if isinstance(default, int) else "a number"
            raise ValueError(f"{name} is {settings[name]!r}, but must be {kind} from {least} to {most}")
    stop = given.get("stop", [])
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        raise ValueError(f"stop is {stop!r}, but must be a list of texts, none of them empty")
    return settings | {"stop": stop}


def schema_complaint(folder: Path, schema: dict) -> str | None:
    """Return why the runtime cannot hold answers to a response schema, or None if it can.

    What it does then, it does here: it may also crash, or never end. So ask it in a process that may.

    :param folder: of a model, whose tokenizer is read, but not its weights
    """
    import onnxruntime_genai as og

    config = og.Config(str(folder))
    config.clear_providers()
    names = {"filename": "none.onnx", "num_hidden_layers": 0, "inputs": {"input_ids": "i"}, "outputs": {"logits": "o"}}
    config.overlay(json.dumps({"model": {"type": "llama", "decoder": names}}))
    config.add_model_data(names["filename"], NO_WEIGHTS)
    model = og.Model(config)
    params = og.GeneratorParams(model)
    params.set_guidance("json_schema", json.dumps(schema))
    try:
        og.Generator(model, params)
    except RuntimeError as error:
        return " ".join(str(error).split()).removeprefix("Error creating grammar: ")
    return None


def search_options(settings: Mapping[str, Any], greedy: bool = False) -> dict:
    """Return settings of how answers are given as onnxruntime-genai's search options.

    :param greedy: whether to choose the likeliest token whatever the temperature is
    """
    sampled = settings["temperature"] > 0 and not greedy
    chosen = ("repetition_penalty", "temperature", "top_p", "top_k") if sampled else ("repetition_penalty",)
    return {"do_sample": sampled, **{name: settings[name] for name in chosen}}


def check_config(path: Path) -> None:
    """Refuse a config that sets what could load code or read files from elsewhere; other files are not looked at."""
    name = path.name.lower()
    if name == RUNTIME_CONFIG:
        runtime_config(path)
    elif name.endswith(("config.json", "tokenizer_module.json")):
        config = read_object(path)
        for key in config.keys() & set(FOREIGN):
            _refuse(path, key)
        _check_whole(path, config.get("chat_template"))
    elif name == CHAT_TEMPLATE:
        _check_whole(path, path.read_text(encoding="utf-8", errors="replace"))


def _check_whole(path: Path, value: object) -> None:
    """Refuse a chat template, or some of them by their names, that would be cut off."""
    if isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            _check_whole(path, each)
    elif "\0" in str(value):
        raise UserError(f"{shown(path)} has the character U+0000, at which the runtime cuts a text off: {AGAIN}")


def runtime_config(path: Path) -> dict:
    """Return what genai_config.json sets, all of which a package may set.

    :raises UserError: naming the first setting that it may not have
    """
    config = read_object(path)
    _check_settings(config, CONFIG, path, "")
    model = config.get("model")
    length = model.get("context_length") if isinstance(model, dict) else None
    if type(length) is not int or length < 1:
        raise UserError(f"{shown(path)} has no model.context_length: {AGAIN}")
    return config


def _check_settings(value: object, allowed: Allowed, path: Path, where: str) -> None:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict) and isinstance(allowed, dict):
            for key, inner in each.items():
                setting = f"{where}.{key}".removeprefix(".")
                if key not in allowed and ANY not in allowed:
                    _refuse(path, setting)
                _check_settings(inner, allowed[key if key in allowed else ANY], path, setting)
        elif isinstance(allowed, dict) or not allowed(each):
            _refuse(path, where, f" to {each!r}" if isinstance(each, str) else "")


def _refuse(path: Path, setting: str, value: str = "") -> None:
    raise UserError(
        f"{shown(path)} sets {shown(setting)}{value}, which is not among what a package may set, since code or files "
        "from elsewhere could be loaded by it: use only a package whose maker you trust, and tell them"
    )
