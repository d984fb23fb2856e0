"""Quantize the base model's linear layers through Olive.

in:  base.trust_remote_code, device, passes.before_quantize, passes.after_quantize, quantize, seed, threads
     (reports/params.json), models/base, the calibration text
out: models/quantized, Olive's int4 or int8 checkpoint; reports/olive/quantize.json, the run's config;
     reports/machine/quantize.json, what it ran on
"""

from press.core import arithmetic, cli, files, machine, paths
from press.model import device, olive_run, quantization
from press.params import settings


def main() -> None:
    params = settings.checked()
    arithmetic.begin(params.arithmetic, params.threads)
    trust = params.base.trust_remote_code
    processes = device.quantizing_processes(params.quantize)
    where = device.confine(params.device, processes)
    device.check_processes("quantize.awq.processes", processes, where)
    with files.building(paths.QUANTIZED) as building, device.explained(quantization.KNOBS):
        how = (params.seed, trust, params.passes, params.arithmetic)
        quantized = quantization.quantize(params.quantize, paths.BASE, building, *how)
        files.publish(quantized, paths.QUANTIZED)
        olive_run.keep_config(building, "quantize")
    machine.record("quantize", params.arithmetic, where)
    print(f"{paths.QUANTIZED}: {files.size(paths.QUANTIZED) / 1e6:.0f} MB by {params.quantize.algorithm}")


if __name__ == "__main__":
    cli.run(main)
