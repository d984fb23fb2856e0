"""Capture the quantized base as an ONNX model for one target, with optional inputs for adapters if it takes them.

in:  targets.TARGET (params.yaml), models/quantized
out: models/captured/TARGET, the graph, its weights, genai_config.json, tokenizer, base.json and, if adapters are
     inputs, lora_inputs.json; reports/olive/capture/TARGET.json, the run's config; reports/machine/capture/TARGET.json,
     what it ran on
"""

from pathlib import Path

from press.core import cli, files, machine
from press.model import graphs, olive_run
from press.params import schema, settings

BASE = Path("models/quantized")
OUTPUT = Path("models/captured")


def capture(target: schema.Target, base: Path, building: Path) -> Path:
    """Export the checkpoint in `base` for a target; return the folder of the result, below `building`."""
    return graphs.build(olive_run.hf_model(base), target, building)


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
    cli.run(main)
