"""Evaluate one target's model, bare and with each adapter, against PyTorch: the quality ladder and answers.

in:  adapters, device, evaluate, threads, targets.TARGET.provider (params.yaml), models/base, models/quantized,
     models/adapters, models/captured/TARGET, models/converted/TARGET, prepared, the general text, evaluate.tasks.folder
out: reports/evaluate/TARGET: metrics.json, ladder.csv (for a plot), cases.jsonl (the figures of single inputs) and
     answers.json; reports/machine/evaluate/TARGET.json, what it ran on
"""

from press.core import arithmetic, cli, files, machine, paths
from press.params import settings
from press.quality import evaluation


def main(target: str) -> None:
    params = settings.load()
    arithmetic.begin(params.arithmetic, params.threads)
    output = paths.EVALUATED / target
    with files.replaced(output) as building:
        files.write_json(building / paths.METRICS, evaluation.evaluate(target, params, building))
    machine.record(f"evaluate/{target}")
    print(f"{output}: see `dvc metrics show` and `dvc plots show`")


if __name__ == "__main__":
    cli.run(main)
