"""Make an adapter fit for a target: a file for its graph's inputs, or a model that has it merged into its weights."""

from pathlib import Path

from press.core import files, paths
from press.core.errors import UserError
from press.model import adapter_inputs, graphs, olive_run, quantization
from press.params import settings
from press.params.providers import MERGED


def convert(target: str, adapter: str, params: settings.Settings, building: Path) -> Path:
    """Convert an adapter; return the folder of the result, below `building`.

    :raises UserError: if the adapter was trained on another base than the captured one
    """
    source, captured = paths.ADAPTERS / adapter, paths.CAPTURED / target
    base = check_same_base(source, captured)
    about = files.read_json(paths.PREPARED / adapter / paths.ADAPTER_MANIFEST)
    model = {**olive_run.hf_model(paths.QUANTIZED, params.base.trust_remote_code), "adapter_path": str(source)}
    config = files.read_json(source / adapter_inputs.CONFIG)
    manifest = {
        "name": adapter,
        "base_sha256": base,
        "rank": config["r"],
        "alpha": config["lora_alpha"],
        **{
            name: about[name]
            for name in ("template", "response_schema", "generation", "control_tokens")
            if name in about
        },
    }
    if params.target(target).adapters == MERGED:
        after = params.passes.after_capture
        result = graphs.build(model, params.target(target), building, merging(params), after=after)
        manifest |= {"merged": True, "files": files.digests(result)}
    else:
        layout, result = captured / paths.LAYOUT, building / "adapter"
        # What the pass does, and not by it: importing Olive would take longer than all of this.
        olive_run.configure(model, {"convert": {"type": "AdapterFile", "layout": str(layout)}}, building)
        result.mkdir()
        file, trust = result / paths.ADAPTER_FILE, params.base.trust_remote_code
        inputs = adapter_inputs.convert(source, layout, file, paths.QUANTIZED, trust)
        manifest |= {"file_sha256": files.sha256(file), "dtype": files.read_json(layout)["dtype"], "inputs": inputs}
    files.write_json(result / paths.ADAPTER_MANIFEST, manifest)
    return result


def computes(target: str, adapter: str, params: settings.Settings) -> bool:
    """Whether a conversion computes with PyTorch: to merge an adapter into weights, or to measure them for DoRA."""
    config = files.read_json(paths.ADAPTERS / adapter / adapter_inputs.CONFIG)
    return params.target(target).adapters == MERGED or bool(config.get("use_dora"))


def merging(params: settings.Settings) -> dict[str, dict]:
    """Return the passes from the base and an adapter to one checkpoint, quantized as the base was."""
    trust = params.base.trust_remote_code
    again = quantization.passes(params.quantize, paths.QUANTIZED, params.seed, trust)
    after = quantization.around("after_quantize", params.quantize, paths.QUANTIZED, params.passes, trust)
    return {"merge": {"type": "MergeAdapter"}, **again, **after}


def check_same_base(adapter: Path, captured: Path) -> str:
    """Return the digest of the quantized base, or refuse an adapter that was trained on another one."""
    trained, exported = (files.read_json(folder / paths.BASE_DIGEST)["base_sha256"] for folder in (adapter, captured))
    if trained != exported:
        raise UserError(
            f"{adapter} was trained on the base {trained[:12]}, but {captured} was captured from {exported[:12]}: "
            "run `dvc repro` to train it on this base"
        )
    return exported
