"""Convert one adapter for one target: a file for its captured model's inputs, or a model that it is merged into.

in:  targets.TARGET and, to merge, device, quantize, seed, threads (params.yaml), models/quantized, the calibration
     text, models/adapters/ADAPTER, models/captured/TARGET, prepared/ADAPTER/adapter.json (its template)
out: models/converted/TARGET/ADAPTER, adapter.onnx_adapter or a whole model, with the manifest adapter.json;
     reports/olive/convert/TARGET/ADAPTER.json, the run's config
"""

from pathlib import Path

from press.core import cli, files
from press.core.errors import UserError
from press.model import device, graphs, olive_run
from press.params import settings
from press.params.providers import MERGED
from stages import quantize

QUANTIZED = Path("models/quantized")
ADAPTERS = Path("models/adapters")
CAPTURED = Path("models/captured")
OUTPUT = Path("models/converted")
PREPARED = Path("prepared")


def convert(target: str, adapter: str, params: settings.Settings, building: Path) -> Path:
    """Convert an adapter; return the folder of the result, below `building`.

    :raises UserError: if the adapter was trained on another base than the captured one
    """
    source, captured = ADAPTERS / adapter, CAPTURED / target
    base = check_same_base(source, captured)
    model = {**olive_run.hf_model(QUANTIZED), "adapter_path": str(source)}
    config = files.read_json(source / "adapter_config.json")
    manifest = {
        "name": adapter,
        "base_sha256": base,
        "rank": config["r"],
        "alpha": config["lora_alpha"],
        "template": files.read_json(PREPARED / adapter / "adapter.json")["template"],
    }
    if params.target(target).adapters == MERGED:
        result = graphs.build(model, params.target(target), building, merging(params))
        manifest |= {"merged": True, "files": files.digests(result)}
    else:
        layout = captured / "lora_inputs.json"
        passes = {"convert": {"type": "AdapterFile", "layout": str(layout)}}
        result = olive_run.run(model, passes, building) / "adapter"
        manifest |= {
            "file_sha256": files.sha256(result / "adapter.onnx_adapter"),
            "dtype": files.read_json(layout)["dtype"],
            "inputs": files.read_json(result / "inputs.json"),
        }
        files.remove(result / "inputs.json")
    files.write_json(result / "adapter.json", manifest)
    return result


def merging(params: settings.Settings) -> dict[str, dict]:
    """Return the passes from the base and an adapter to one checkpoint, quantized as the base was."""
    return {"merge": {"type": "MergeAdapter"}, **quantize.passes(params.quantize, QUANTIZED, params.seed)}


def check_same_base(adapter: Path, captured: Path) -> str:
    """Return the digest of the quantized base, or refuse an adapter that was trained on another one."""
    trained, exported = (files.read_json(folder / "base.json")["base_sha256"] for folder in (adapter, captured))
    if trained != exported:
        raise UserError(
            f"{adapter} was trained on the base {trained[:12]}, but {captured} was captured from {exported[:12]}: "
            "run `dvc repro` to train it on this base"
        )
    return exported


def main(target: str, adapter: str) -> None:
    import torch

    params = settings.load()
    torch.set_num_threads(params.threads)
    device.confine(params.device)
    output = OUTPUT / target / adapter
    with files.building(output) as building, device.explained(quantize.KNOBS):
        files.publish(convert(target, adapter, params, building), output)
        olive_run.keep_config(building, f"convert/{target}/{adapter}")
    print(f"{output}: {files.size(output) / 1e6:.1f} MB")


if __name__ == "__main__":
    cli.run(main)
