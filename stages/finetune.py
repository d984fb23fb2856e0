"""Train one LoRA adapter on the quantized base through Olive.

in:  adapters.ADAPTER.{lora,training}, base.trust_remote_code, device, seed, threads (reports/params.json),
     models/quantized, prepared/ADAPTER
out: models/adapters/ADAPTER, the adapter in PEFT's format with base.json, which names the base it belongs to;
     reports/finetune/ADAPTER, loss curves by DVCLive; reports/olive/finetune/ADAPTER.json, the run's config;
     reports/machine/finetune/ADAPTER.json, what it ran on

A killed run goes on from its last checkpoint as long as its inputs are the same. Where several nodes train together,
each runs this stage, and the first alone writes its outputs.
"""

import tempfile
from pathlib import Path

from press.core import arithmetic, cli, files, machine, paths
from press.model import device, nodes, olive_run
from press.params import settings
from press.training import curves, finetuning


def main(adapter: str) -> None:
    params = settings.checked()
    chosen = params.adapter(adapter)
    node = nodes.here(adapter, chosen.training.nodes)
    arithmetic.begin(params.arithmetic, params.threads)
    output = paths.ADAPTERS / adapter
    resumed = paths.ADAPTERS / f".{adapter}.checkpoints"
    where = device.confine(params.device, chosen.training.processes)
    device.check_training(adapter, chosen.training.processes, chosen.lora.method, where)
    how = (where, params.arithmetic, params.base.trust_remote_code, node)
    if node.rank:
        with tempfile.TemporaryDirectory(prefix="olive-press-") as building:
            finetuning.finetune(adapter, chosen, params.seed, paths.QUANTIZED, Path(building), resumed, *how)
        return
    with files.building(output) as building, files.replaced(paths.FINETUNED / adapter) as drawn:
        trained = finetuning.finetune(adapter, chosen, params.seed, paths.QUANTIZED, building, resumed, *how)
        curves.write(trained / paths.TRAINING_LOG, drawn)
        files.remove(trained / paths.TRAINING_LOG)
        files.publish(trained, output)
        olive_run.keep_config(building, f"finetune/{adapter}")
    machine.record(f"finetune/{adapter}", params.arithmetic, where)
    files.remove(resumed)


if __name__ == "__main__":
    cli.run(main)
