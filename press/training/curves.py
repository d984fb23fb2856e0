"""The losses of a training, step by step."""

from pathlib import Path

from press.core import files


def write(log: Path, folder: Path) -> None:
    """Log the loss curves with DVCLive, for `dvc plots` and `dvc metrics`."""
    from dvclive import Live

    curves = files.read_json(log)
    points = {(point["step"], curve): point["loss"] for curve in curves for point in curves[curve]}
    with Live(dir=str(folder), dvcyaml=None, report=None, save_dvc_exp=False) as live:
        for step in sorted({step for step, _ in points}):
            live.step = step
            for curve in ("train", "heldout"):
                if (step, curve) in points:
                    live.log_metric(f"{curve}/loss", points[step, curve])
            live.make_summary()
