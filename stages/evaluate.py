"""Evaluate one target's model, bare and with each adapter, against PyTorch: the quality ladder and answers.

in:  adapters, base, device, evaluate, gates, package, quantize, threads, targets.TARGET (reports/params.json),
     models/base, models/quantized, models/adapters, models/captured/TARGET, models/converted/TARGET, prepared, the
     general text, evaluate.tasks.folder
out: reports/evaluate/TARGET: metrics.json, ladder.csv (for a plot), cases.jsonl (the figures of single inputs),
     answers.json, gates.json (what became of the gates) and README.md (the model card);
     reports/machine/evaluate/TARGET.json, what it ran on
"""

from press.core import arithmetic, cli, files, machine, paths
from press.package import verdict
from press.params import settings
from press.quality import evaluation


def main(target: str) -> None:
    params = settings.checked()
    arithmetic.begin(params.arithmetic, params.threads)
    output = paths.EVALUATED / target
    with files.replaced(output) as building:
        metrics = evaluation.evaluate(target, params, building)
        results = verdict.write(target, params, metrics, building)
    machine.record(f"evaluate/{target}")
    print(f"{output}: see `dvc metrics show` and `dvc plots show`")
    for result in results:
        if not result.passed:
            print(f"gate not passed, so that `make publish` refuses it: {result.gate} ({result.reason})")


if __name__ == "__main__":
    cli.run(main)
