"""A release for Foundry Local: its models in the folder that Foundry Local takes for its cache of models.

It finds a model by `genai_config.json` and `inference_model.json`, which names it and has its prompt with {Content} for
the question (https://learn.microsoft.com/azure/foundry-local/how-to/how-to-compile-hugging-face-models). It has no
adapters beside a model: one that is merged is a model of its own, and others are left out.
"""

import json
import shutil
from pathlib import Path
from string import Formatter

from press.core import files, paths
from press.core.errors import UserError
from press.model import packaged
from press.release import package
from press.release.package import Package

FILE = "inference_model.json"
CONTENT, RESPONSE = "{Content}", "{response}"
# Behind which the runtime's sentence for a model without a template goes on.
NO_TEMPLATE = "Empty chat template"


def write(released: Package, into: Path, name: str) -> Path:
    """Put a release's models into a folder of the cache, in the place of what was there of an earlier release.

    :param into: the cache
    :return: the folder, in which each model has its own
    :raises UserError: if another one has the folder, or it cannot be written
    """
    target = path(into, name)
    if target.exists() and not is_ours(target):
        raise UserError(f"{target} exists, and is not what `make deploy TO=foundry` writes: move it away")
    with package.writing(target), files.replaced(target) as building:
        _model(released, name, released.folder, prompt(released.folder), building / name)
        for adapter in sorted(merged(released)):
            folder = released.folder / "adapters" / adapter
            text = adapter_prompt(packaged.read_adapter(folder / paths.ADAPTER_MANIFEST))
            _model(released, f"{name}-{adapter}", folder, text, building / f"{name}-{adapter}")
    return target


def path(into: Path, name: str) -> Path:
    """Return where a release's models are."""
    return into / name


def is_ours(folder: Path) -> bool:
    """Whether a folder is what was written here."""
    return (folder / folder.name / FILE).is_file() and (folder / folder.name / paths.MANIFEST).is_file()


def merged(released: Package) -> list[str]:
    """Return the adapters that are models of their own."""
    all_parts = [Path(name).parts for name in released.digests]
    return [parts[1] for parts in all_parts if parts[0] == "adapters" and parts[2:] == (paths.RUNTIME_CONFIG,)]


def prompt(folder: Path) -> str:
    """Return what a model is given for a question, by its own chat template.

    :raises UserError: if its tokenizer cannot be loaded
    """
    import onnxruntime_genai as og

    try:
        tokenizer = og.Tokenizer(og.Config(str(folder)))
        turns = json.dumps([{"role": "user", "content": CONTENT}])
        return str(tokenizer.apply_chat_template(turns, add_generation_prompt=True))
    except RuntimeError as error:
        if str(error).startswith(NO_TEMPLATE):
            return CONTENT
        reason = " ".join(str(error).split())
        raise UserError(f"the tokenizer of {folder} cannot be loaded ({reason}): `dvc repro`") from error


def adapter_prompt(manifest: dict) -> str:
    """Return what an adapter is given for a question, whatever its template calls that."""
    before_answer, _, _ = manifest["template"].partition(RESPONSE)
    return "".join(text + CONTENT * (field is not None) for text, field, *_ in Formatter().parse(before_answer))


def _model(released: Package, name: str, source: Path, text: str, target: Path) -> None:
    shared = [each for each in released.folder.iterdir() if not each.name.startswith(paths.GRAPH)]
    target.mkdir(parents=True)
    # A merged adapter has no tokenizer of its own; the rest of the package says what it is.
    for file in (*shared, *source.iterdir()):
        if file.is_file():
            shutil.copyfile(file, target / file.name)
    files.write_json(target / FILE, {"Name": name, "PromptTemplate": {"assistant": CONTENT, "prompt": text}})
