"""Capture the quantized base as an ONNX model for one target, with optional inputs for adapters if it takes them.

in:  base.trust_remote_code, passes.after_capture, targets.TARGET (reports/params.json), models/quantized
out: models/captured/TARGET, the graph, its weights, genai_config.json, tokenizer, base.json and, if adapters are
     inputs, lora_inputs.json; reports/olive/capture/TARGET.json, the run's config; reports/machine/capture/TARGET.json,
     what it ran on
"""

from press.core import cli, files, machine, paths
from press.model import graphs, olive_run
from press.params import settings


def main(target: str) -> None:
    params = settings.checked()
    output = paths.CAPTURED / target
    model = olive_run.hf_model(paths.QUANTIZED, params.base.trust_remote_code)
    with files.building(output) as building, files.digesting(paths.QUANTIZED) as digest:
        captured = graphs.build(model, params.target(target), building, after=params.passes.after_capture)
        files.write_json(captured / paths.BASE_DIGEST, {"base_sha256": digest.result()})
        files.publish(captured, output)
        olive_run.keep_config(building, f"capture/{target}")
    machine.record(f"capture/{target}", params.arithmetic)
    print(f"{output}: {files.size(output) / 1e6:.0f} MB")


if __name__ == "__main__":
    cli.run(main)
