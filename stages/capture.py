"""Capture the quantized base as an ONNX model for one target, with optional LoRA inputs.

in:  targets.TARGET (params.yaml), models/quantized
out: models/captured/TARGET, the graph, its weights, genai_config.json, tokenizer, lora_inputs.json and base.json;
     reports/olive/capture/TARGET.json, the run's config; reports/machine/capture/TARGET.json, what it ran on
"""

from pathlib import Path

from press import command, files, machine, olive_run, settings

BASE = Path("models/quantized")
OUTPUT = Path("models/captured")


def capture(target: settings.Target, base: Path, building: Path) -> Path:
    """Export the checkpoint in `base` for a target; return the folder of the result, below `building`."""
    kernels = {"block_size": target.block_size, "accuracy_level": target.accuracy_level}
    precision = "float" if target.precision == "int8" else target.precision
    passes = {"capture": {"type": "GenAIBuilder", "precision": precision, **kernels}}
    if target.precision == "int8":
        passes["tables"] = {"type": "Int8Tables", **kernels}
    passes["lora_inputs"] = {"type": "LoRAInputs", "checkpoint": str(base)}
    accelerator = {"device": target.device, "execution_providers": [target.provider]}
    model = olive_run.hf_model(base)
    result = olive_run.run(model, passes, building, accelerator)
    check_loads(result, target.provider)
    return result


def check_loads(model: Path, provider: str) -> None:
    """Load the graph once, since the builder can write one that does not load; elsewhere, read it with its weights."""
    import onnx
    import onnxruntime as ort
    import onnxruntime_genai as og

    if provider in ort.get_available_providers():
        og.Model(str(model))
    else:
        # Not onnx.checker: it knows none of the runtime's own operators.
        onnx.load(model / "model.onnx")
        print(f"note: {provider} is not on this machine; the graph was read, but not loaded by its runtime")


def main(target: str) -> None:
    output = OUTPUT / target
    with files.building(output) as building:
        result = capture(settings.load().target(target), BASE, building)
        files.write_json(result / "base.json", {"base_sha256": files.folder_digest(BASE)})
        files.publish(result, output)
        olive_run.keep_config(building, f"capture/{target}")
    machine.record(f"capture/{target}")
    print(f"{output}: {files.size(output) / 1e6:.0f} MB")


if __name__ == "__main__":
    command.run(main)
