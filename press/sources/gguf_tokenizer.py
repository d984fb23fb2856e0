"""The tokenizer of a GGUF file, as llama.cpp reads it: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp

transformers reads most of it. What it leaves out is added here; bench/gguf_tokens.py compares the two on awkward texts.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from press.core.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

BYTE_LEVEL, PIECES = "gpt2", "llama"
# Of the kinds of tokens that a file names.
CONTROL, USER_DEFINED = 3, 4
# What SentencePiece writes for a space.
SPACE = "\u2581"
# Ids of tokens that end an answer.
ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
DIGIT, DIGITS, THREE_DIGITS = r"\p{N}", r"\p{N}+", r"\p{N}{1,3}"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
CJK = "[一-龥぀-ゟ゠-ヿ]+"
DEEPSEEK = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{SPACES}"
)
# The regular expressions by which a text is split, one after the other, where transformers knows none for a
# pre-tokenizer. With these steps, and not as Digits before ByteLevel, onnxruntime-genai splits it likewise.
STEPS: dict[tuple[str, ...], tuple[str, ...]] = {
    (DIGIT, WORDS): ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"),
    (WORDS,): (
        *("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "gigachat", "a.x-4.0", "mellum"),
        "exaone4",
    ),
    (THREE_DIGITS, CJK, DEEPSEEK): ("deepseek-v3", "hunyuan-dense", "joyai-llm"),
    (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", DIGIT): ("deepseek-coder",),
    (rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{SPACES}",): ("seed-coder",),
    (
        THREE_DIGITS,
        rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}",
    ): ("minicpm5",),
    (r"[\p{P}\$\+<=>\^~\|`]+", WORDS, "[0-9][0-9][0-9]"): ("falcon",),
    (r"[\p{P}\$\+<=>\^~\|]+", WORDS, DIGITS, "[0-9][0-9][0-9]"): ("default",),
}
SPLITS = {name: steps for steps, names in STEPS.items() for name in names}
# Those that split as one that transformers knows.
LIKE = {
    **dict.fromkeys(("stablelm2", "hunyuan", "solar-open", "grok-2", "bailingmoe", "bailingmoe2"), "qwen2"),
    **dict.fromkeys(("glm4", "chatglm-bpe"), "llama-bpe"),
}
# Those with which a part of a text that is a token is that token, whatever the merges make of it.
WHOLE = frozenset(
    {
        *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"),
        *("tekken", "minicpm5"),
    }
)


def read(path: Path, metadata: dict) -> "PreTrainedTokenizerBase":
    """Return a model's tokenizer.

    :param metadata: of the file
    :raises UserError: if it names a pre-tokenizer that is not known
    """
    from transformers import AutoTokenizer

    file = {"gguf_file": path.name, "trust_remote_code": False}
    tokenizer = cast("PreTrainedTokenizerBase", AutoTokenizer.from_pretrained(path.parent, **file))
    kind = metadata.get("tokenizer.ggml.model")
    if kind == BYTE_LEVEL:
        tokenizer = with_marks(tokenizer, path, metadata)
        set_pre_tokenizer(tokenizer, path.name, metadata.get("tokenizer.ggml.pre"))
    elif kind == PIECES and not metadata["general.architecture"].startswith("gemma"):
        set_spaces(tokenizer.backend_tokenizer, metadata.get("tokenizer.ggml.add_space_prefix", True))
    return tokenizer


def known() -> set[str]:
    """Return the names of the pre-tokenizers that are known."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    return {*SPLITS, *LIKE, *GGUF_PRE_TOKENIZER_SPLITS}


def set_pre_tokenizer(tokenizer: "PreTrainedTokenizerBase", name: str, chosen: str | None) -> None:
    """Let a byte-level tokenizer split texts as the model's own does, where transformers leaves that out.

    :param name: the file, for the sentence
    :param chosen: the pre-tokenizer
    :raises UserError: if it is not known
    """
    from tokenizers import Regex, pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    if chosen not in known():
        raise UserError(
            f"{name} names the pre-tokenizer {chosen or '(none)'} (tokenizer.ggml.pre), but those that are known are "
            f"{', '.join(sorted(known()))}: texts would be split into other tokens than the model was trained on"
        )
    backend = tokenizer.backend_tokenizer
    if chosen in WHOLE:
        cast(Any, backend.model).ignore_merges = True
    if chosen in GGUF_PRE_TOKENIZER_SPLITS:
        return
    patterns = (GGUF_PRE_TOKENIZER_SPLITS[LIKE[chosen]],) if chosen in LIKE else SPLITS[chosen]
    steps = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, bytewise])


def set_spaces(backend: "Tokenizer", prefix: bool) -> None:
    """Let a tokenizer of SentencePiece read spaces as they are, those at the beginning of a text, too.

    :param prefix: whether there is one more before each text, and behind each control token
    """
    from tokenizers import decoders, normalizers

    first = [normalizers.Prepend(SPACE)] if prefix else []
    backend.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", SPACE)])
    backend.pre_tokenizer = None
    last = [decoders.Strip(content=" ", left=1)] if prefix else []
    backend.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *last])


def with_marks(tokenizer: "PreTrainedTokenizerBase", path: Path, metadata: dict) -> "PreTrainedTokenizerBase":
    """Return a byte-level tokenizer with the control tokens whose names are not of bytes' alphabet.

    transformers takes such a name, as DeepSeek's have a wide bar, for a mistake, and for text.
    """
    from tokenizers import AddedToken, Tokenizer, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.integrations.gguf import read_gguf_metadata

    whole, _ = read_gguf_metadata(str(path), ("tokenizer.ggml.tokens",))
    names, kinds = whole["tokenizer.ggml.tokens"], metadata.get("tokenizer.ggml.token_type") or ()
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    marks = {
        index: (name, kind)
        for index, (name, kind) in enumerate(zip(names, kinds, strict=False))
        if kind in (CONTROL, USER_DEFINED) and not set(name) <= alphabet
    }
    if not marks:
        return tokenizer
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    model = state["model"]
    model["vocab"] = {marks[index][0] if index in marks else name: index for name, index in model["vocab"].items()}
    # Without those that transformers put behind the vocabulary, and what it puts before a text with their ids.
    state["added_tokens"] = [each for each in state["added_tokens"] if each["id"] < len(names)]
    state["post_processor"] = None
    backend = Tokenizer.from_str(json.dumps(state))
    for name, kind in marks.values():
        special = kind == CONTROL
        add = backend.add_special_tokens if special else backend.add_tokens
        add([AddedToken(name, normalized=False, special=special)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=tokenizer.chat_template,
        add_bos_token=getattr(tokenizer, "add_bos_token", False),
        add_eos_token=getattr(tokenizer, "add_eos_token", False),
        **tokenizer.special_tokens_map,
    )


def ends(metadata: dict) -> list[int]:
    """Return the ids of the tokens that end an answer, those of a turn and of a message among them."""
    ids = (metadata.get(f"tokenizer.ggml.{key}") for key in ENDS)
    return list(dict.fromkeys(each for each in ids if each is not None))
