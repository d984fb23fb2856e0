"""Ask the decoder itself, before there is a model, whether it can hold answers to the adapters' response schemas.

    python -m press.model.grammar FOLDER      says what it cannot take of FOLDER/schema.json

It runs in a process of its own, since what compiles a schema may crash or never end.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from press.core import files, paths, shell
from press.core.errors import UserError
from press.data import guidance
from press.model import packaged

if TYPE_CHECKING:
    # Which the process for a schema does without.
    from press.params.settings import Settings

SCHEMA = "schema.json"
# How long the decoder may take to compile a schema, and does again for each answer: long, since on a busy machine one
# that takes a second has taken twenty.
SECONDS = 60
END = "<end>"
HINT = (
    "write it with keywords that it can take, such as patternProperties with additionalProperties: false in place of "
    "propertyNames"
)


def check(params: "Settings") -> None:
    """Refuse response schemas that the decoder cannot hold answers to."""
    for name, adapter in params.adapters.items():
        if adapter.response_schema is not None and (wrong := complaint(adapter.response_schema)):
            raise UserError(
                f"{paths.PARAMS}: adapters.{name}.response_schema: the decoder cannot hold answers to it (llguidance: "
                f"{wrong}): {HINT}"
            )


def complaint(schema: dict) -> str | None:
    """Return why the decoder cannot hold answers to a schema, or None if it can."""
    options = schema.get(guidance.OPTIONS)
    if isinstance(options, dict) and options.get("lenient"):
        return f"{guidance.OPTIONS}.lenient leaves out what it cannot take"
    # As it will be read in a package, with what is said there of how JSON is written.
    if len(json.dumps(guidance.adapted(schema, []))) > packaged.LONGEST_SCHEMA:
        return f"it has more than {packaged.LONGEST_SCHEMA} characters"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files.write_json(folder / SCHEMA, schema)
        ended = shell.run(sys.executable, "-m", "press.model.grammar", scratch, seconds=SECONDS)
    return ended.reason if ended.failed else ended.output.strip() or None


def _write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of bytes, and what the runtime wants to know of a model beside it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    tokenizer.save(str(folder / "tokenizer.json"))
    files.write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "eos_token": END})
    end, sizes = len(letters), ("head_size", "hidden_size", "num_attention_heads", "num_key_value_heads")
    tokens = {"vocab_size": end + 1, "eos_token_id": end, "pad_token_id": end, "context_length": 8}
    model = {**tokens, "decoder": dict.fromkeys(sizes, 1)}
    files.write_json(folder / paths.RUNTIME_CONFIG, {"model": model, "search": {"max_length": 8}})


def main() -> None:
    """Print what the decoder cannot take of the schema in the folder that is named."""
    folder = Path(sys.argv[1])
    _write_tokenizer(folder)
    print(packaged.schema_complaint(folder, files.read_json(folder / SCHEMA)) or "")


if __name__ == "__main__":
    main()
