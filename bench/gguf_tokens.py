"""What llama.cpp's own tokenizer makes of a thousand awkward texts, for each pre-tokenizer that a GGUF file may name.

    python -m bench.gguf_tokens            compares press/sources/gguf_tokenizer.py with it, for all that it knows
    python -m bench.gguf_tokens --record   also writes tests/press/sources/gguf_tokens.json, with which tests compare

llama.cpp is the prebuilt one of the npm package node-llama-cpp, which bench/npm pins. The files that it reads have no
weights, and a vocabulary of pairs that cross every border at which one pre-tokenizer or another splits: wherever two
split otherwise, the tokens differ. Some tokens come from no merge, which only llama.cpp's `ignore_merges` finds.
"""

import argparse
import contextlib
import hashlib
import json
import random
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType

from bench.runtime import contestants
from press.core import files
from press.core.errors import UserError
from press.data import tokens
from press.sources import gguf_tokenizer

RECORD = Path("tests/press/sources/gguf_tokens.json")
TEXTS, SEED = 1000, 20
# Hexadecimal digits of the SHA-256 of a text's tokens.
DIGITS = 6
CONTROL, DEFINED = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<｜User｜>"), ("<think>", "</think>")
MARKS = (*CONTROL, *DEFINED)
SPM_CONTROL = ("<s>", "</s>", "<|im_end|>")
LEARNED = 1500
# Every so many of the merges is left out, with its token left in.
LEFT_OUT = 9
FRAGMENTS = (
    *(" ", "  ", "   ", "    ", " \t", "\t", "\t\t", "\n", "\n\n", " \n", "\n ", "\n  ", "\r\n", "\r", "\v", "\f"),
    *("\u00a0", "\u2003", "\u200a", "\u3000", "\u2028", "\u0085", "\u200b", "\u200d", "\ufeff", "\u00ad"),
    *(
        "0",
        "7",
        "12",
        "345",
        "6789",
        "12345",
        "1234567",
        "3.14",
        "1,000",
        "2024-07-26",
        "½",
        "²",
        "Ⅷ",
        "٣٤",
        "१२",
        "９",
    ),
    *(
        "a",
        "I",
        "hello",
        "Hello",
        "HELLO",
        "world",
        "helloWorld",
        "XMLHttp",
        "don't",
        "DON'T",
        "I'm",
        "we'LL",
        "they've",
    ),
    *("'s", "'S", "'t", "'re", "'Ve", "'d", "'x", "’s", "''", "O'Neill", "'ll", "ſ", "'ſ", "naïve", "nai\u0308ve"),
    *(
        "Straße",
        "Ελλάδα",
        "русский",
        "Ǆ",
        "ǅ",
        "ʰ",
        "ª",
        "İ",
        "ﬁ",
        "Å",
        "A\u030a",
        "e\u0301\u0302",
        "\u0301",
        "ก็",
        "ภาษาไทย",
    ),
    *(
        "中文",
        "中文字符",
        "日本語",
        "ひらがな",
        "カタカナ",
        "한국어",
        "ᄒ\u1161\u11ab",
        "漢字かな交じり",
        "你好，世界。",
        "「引用」",
        "々",
    ),
    *("हिन्दी", "বাংলা", "தமிழ்", "العربية", "שלום", "שָׁלוֹם", "ქართული", "አማርኛ", "\u202bابج\u202c", "𐍈", "𝒳", "𝟘", "𠀀"),
    *("🙂", "👍🏽", "👩‍👩‍👧", "🇩🇪", "☃", "☃️", "™", "©", "€", "£9", "$5", "°C", "±", "×", "→", "√2", "■", "\u20dd"),
    *(
        "!",
        "?!",
        "...",
        "…",
        "—",
        "–",
        "-",
        "--",
        "_",
        "__init__",
        "a_b",
        "(",
        ")",
        "()",
        "[x]",
        "{",
        "}",
        "{}",
        '"',
        "“",
        "”",
    ),
    *(
        "`",
        "~",
        "@",
        "#",
        "%",
        "^",
        "&",
        "*",
        "+",
        "=",
        "==",
        "<",
        ">",
        "<=",
        "|",
        "||",
        "\\",
        "/",
        "//",
        "/*",
        ":",
        ";",
        ",",
        ".",
    ),
    *(
        "http://a.b/c?d=e&f",
        "x@y.zz",
        "C++",
        "#include <a>",
        "if (x) {\n",
        "};\n\n",
        "\treturn 1;\n",
        ")\n",
        ".\n\n",
        "!\r\n",
    ),
    *CONTROL,
    *DEFINED,
    *("<|im_start", "im_end|>", "<think", "<unk>", "\x01", "\x1f", "\x7f", "\ufffd", "\ue000", "\u0378"),
)
# One name of each way to split, which is recorded.
RECORDED = (
    *("smollm", "gpt-2", "llama-bpe", "dbrx", "qwen2", "qwen35", "tekken", "gpt-4o", "deepseek-v3", "deepseek-coder"),
    *("seed-coder", "minicpm5", "falcon", "default"),
)
# Files whose tokens are not bytes', as SentencePiece makes them: the architecture, and whether a space comes first.
PIECES = {
    "llama, a space first": ("llama", True),
    "llama, none first": ("llama", False),
    "gemma2": ("gemma2", False),
    "phi3": ("phi3", True),
}
# llama.cpp says of these that it does not have the model's own regular expression: a letter is a capital where it is
# none of a to z, and an accent is no part of a word. transformers has the model's own.
APPROXIMATED = frozenset({"tekken", "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"})
# The long s is a small s to the models' own regular expressions, which llama.cpp spells out.
LONG_S = re.compile("'\u017f")


def texts() -> list[str]:
    """Return texts of few parts each, which begin and end with anything and have anything beside anything."""
    chance = random.Random(SEED)
    samples = list(FRAGMENTS)
    while len(samples) < TEXTS:
        samples.append("".join(chance.choices(FRAGMENTS, k=chance.randint(2, 9))))
    return samples


def learned() -> tuple[list[str], list[str]]:
    """Return the tokens of a byte-level vocabulary and its merges, most of which make one of the tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=LEARNED, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([text for text in texts() if not any(mark in text for mark in MARKS)], trainer)
    made = json.loads(tokenizer.to_str())["model"]
    merges = [" ".join(merge) for index, merge in enumerate(made["merges"]) if index % LEFT_OUT]
    return [*sorted(made["vocab"], key=made["vocab"].__getitem__), *MARKS], merges


def write(path: Path, keys: dict[str, Any], names: list[str], merges: list[str]) -> Path:
    """Write a GGUF file of a byte-level vocabulary; return its path.

    :param keys: of its metadata, by what follows tokenizer.ggml
    """
    writer = _begun(path, "llama", "gpt2")
    writer.add_token_list(names)
    kinds = dict.fromkeys(CONTROL, TokenType.CONTROL) | dict.fromkeys(DEFINED, TokenType.USER_DEFINED)
    writer.add_token_types([kinds.get(token, TokenType.NORMAL) for token in names])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(names.index(CONTROL[0]))
    writer.add_eos_token_id(names.index(CONTROL[2]))
    writer.add_add_bos_token(False)
    for key, value in keys.items():
        writer.add_string(f"tokenizer.ggml.{key}", value)
    return _written(writer, path)


def write_pieces(path: Path, architecture: str, prefix: bool, names: list[str]) -> Path:
    """Write a GGUF file of a vocabulary as SentencePiece has it; return its path.

    :param prefix: whether a text is read with a space before it
    :param names: tokens of bytes' alphabet
    """
    writer = _begun(path, architecture, "llama")
    pieces = dict.fromkeys(("<unk>", *SPM_CONTROL), 0.0)
    byte = {f"<0x{value:02X}>": 0.0 for value in range(256)}
    pieces |= byte
    whole = []
    for token in [each for each in names if each not in CONTROL]:
        with contextlib.suppress(UnicodeDecodeError):
            whole.append(_text(token).replace(" ", gguf_tokenizer.SPACE))
    # SentencePiece's have each character of a longer one.
    for place, piece in enumerate([*sorted(set("".join(whole))), *whole]):
        pieces.setdefault(piece, -float(place))
    kinds = {"<unk>": TokenType.UNKNOWN} | dict.fromkeys(SPM_CONTROL, TokenType.CONTROL)
    kinds |= dict.fromkeys(byte, TokenType.BYTE) | dict.fromkeys(DEFINED, TokenType.USER_DEFINED)
    writer.add_token_list(list(pieces))
    writer.add_token_scores(list(pieces.values()))
    writer.add_token_types([kinds.get(piece, TokenType.NORMAL) for piece in pieces])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(prefix)
    return _written(writer, path)


def _text(token: str) -> str:
    """Return the text that a token of bytes' alphabet stands for."""
    if token in MARKS:
        return token
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {symbol: byte for byte, symbol in bytes_to_unicode().items()}
    return bytes(byte_of[symbol] for symbol in token).decode()


def _begun(path: Path, architecture: str, tokenizer: str) -> GGUFWriter:
    """Begin a file with what llama.cpp wants to know of a model before it reads the tokenizer."""
    writer = GGUFWriter(path, architecture)
    for add in (writer.add_context_length, writer.add_embedding_length, writer.add_feed_forward_length):
        add(64)
    for add in (writer.add_block_count, writer.add_head_count, writer.add_head_count_kv):
        add(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(tokenizer)
    return writer


def _written(writer: GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def llama(paths: list[Path], of: list[str]) -> list[dict[str, list]]:
    """Return what llama.cpp makes of texts by each GGUF file: their tokens, and those that end an answer."""
    command = ["node", str(contestants.NPM / "tokens.mjs"), *map(str, paths)]
    ended = subprocess.run(command, input=json.dumps(of), capture_output=True, text=True, check=False)
    if ended.returncode:
        raise UserError(f"llama.cpp cannot read the GGUF files: {ended.stderr.strip()}")
    return json.loads(ended.stdout)


def is_approximated(name: str, text: str) -> bool:
    """Tell whether llama.cpp may read a text otherwise than the model's own tokenizer, as its source says."""
    if LONG_S.search(text):
        return True
    kinds = {unicodedata.category(each) for each in text if not each.isascii()}
    return name in APPROXIMATED and any(kind.startswith("M") or kind in ("Lu", "Lt") for kind in kinds)


def digest(tokens: Sequence[int]) -> str:
    """Return the beginning of the SHA-256 of a text's tokens."""
    return hashlib.sha256(" ".join(map(str, tokens)).encode()).hexdigest()[:DIGITS]


def written(folder: Path, names: Iterable[str], vocabulary: list[str], merges: list[str]) -> dict[str, Path]:
    """Write a GGUF file for each pre-tokenizer, and for each kind of pieces; return their paths by these names."""
    folder.mkdir(exist_ok=True)
    gguf_files = {}
    for name in names:
        path = folder / f"{name.replace(', ', '-').replace(' ', '-')}.gguf"
        gguf_files[name] = (
            write_pieces(path, *PIECES[name], vocabulary)
            if name in PIECES
            else write(path, {"pre": name}, vocabulary, merges)
        )
    return gguf_files


def ours(path: Path, of: list[str]) -> list[list[int]]:
    """Return the tokens of each text by the tokenizer that `fetch` makes of a GGUF file."""
    from transformers.integrations.gguf import read_gguf_metadata

    metadata, _ = read_gguf_metadata(str(path))
    return tokens.encode_all(gguf_tokenizer.read(path, metadata), of)


def main() -> int:
    """Compare, and record what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write what tests compare with")
    chosen = parser.parse_args()
    contestants.install_llama()
    of, (vocabulary, merges) = texts(), learned()
    names = [*sorted(gguf_tokenizer.known()), *PIECES]
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), names, vocabulary, merges)
        theirs = dict(zip(names, llama(list(paths.values()), of), strict=True))
        differing = {
            name: [
                text
                for text, own, other in zip(of, ours(path, of), theirs[name]["tokens"], strict=True)
                if own != other and not is_approximated(name, text)
            ]
            for name, path in paths.items()
        }
    for name, misread in differing.items():
        print(f"{name}: {len(misread)} of {len(of)} texts differ{f', such as {misread[0]!r}' if misread else ''}")
    if chosen.record:
        files.write_json(RECORD, record(vocabulary, merges, {name: theirs[name] for name in (*RECORDED, *PIECES)}))
    return int(any(differing.values()))


def record(vocabulary: list[str], merges: list[str], found: dict[str, dict[str, list]]) -> dict[str, Any]:
    """Return what tests compare with: the vocabulary, and what llama.cpp made of the texts with it."""
    return {
        "command": "python -m bench.gguf_tokens --record",
        "node-llama-cpp": files.read_json(contestants.NPM / "package.json")["dependencies"]["node-llama-cpp"],
        "tokens": " ".join(vocabulary),
        "merges": "\n".join(merges),
        "digests": {name: "".join(map(digest, each["tokens"])) for name, each in found.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
