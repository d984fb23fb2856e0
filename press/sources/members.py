"""Which files of a source belong to a checkpoint: weights, configuration, tokenizer and what is said about them."""

from pathlib import PurePath

LEGAL = ("LICENSE*", "LICENCE*", "NOTICE*")
KEPT = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "tokenizer.model.v?",
    "tokenizer.tiktoken",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    *LEGAL,
    "README.md",
)
CODE = "*.py"
# What Python loads, but nobody can read: of no use to a checkpoint.
COMPILED = ("*.pyc", "*.pyd", "*.so")


def is_kept(name: str, trust: bool) -> bool:
    """Whether a file belongs to a checkpoint.

    :param name: without folders
    :param trust: whether the checkpoint's own Python code does
    """
    if is_code(name):
        return trust
    return _matches(name, KEPT) and not _matches(name.lower(), COMPILED)


def is_legal(name: str) -> bool:
    """Whether a file says under which terms a model may be used."""
    return _matches(name, LEGAL) and not is_code(name) and not _matches(name.lower(), COMPILED)


def is_code(name: str) -> bool:
    """Whether a file is Python code, whatever the rest of its name is that of."""
    return PurePath(name.lower()).match(CODE)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(PurePath(name).match(pattern) for pattern in patterns)
