"""Convert one adapter for one target: a file for its captured model's inputs, or a model that it is merged into.

in:  base.trust_remote_code, targets.TARGET and, to merge, device, passes.after_quantize, passes.after_capture,
     quantize, seed, threads (reports/params.json),
     models/quantized, the calibration text, models/adapters/ADAPTER, models/captured/TARGET,
     prepared/ADAPTER/adapter.json (its template, response schema and settings of generation)
out: models/converted/TARGET/ADAPTER, adapter.onnx_adapter or a whole model, with the manifest adapter.json;
     reports/olive/convert/TARGET/ADAPTER.json, the config by which Olive makes the same
"""

from press.core import arithmetic, cli, files, paths
from press.model import conversion, device, olive_run, quantization
from press.params import settings


def main(target: str, adapter: str) -> None:
    params = settings.checked()
    if conversion.computes(target, adapter, params):
        arithmetic.begin(params.arithmetic, params.threads)
        device.confine(params.device)
    output = paths.CONVERTED / target / adapter
    with files.building(output) as building, device.explained(quantization.KNOBS):
        files.publish(conversion.convert(target, adapter, params, building), output)
        olive_run.keep_config(building, f"convert/{target}/{adapter}")
    print(f"{output}: {files.size(output) / 1e6:.1f} MB")


if __name__ == "__main__":
    cli.run(main)
