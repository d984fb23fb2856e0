"""Run the pipeline on a cluster, or show a job's log.

python -m press.cluster run [--dry-run] ENGINE      (`make repro ENGINE=ray`)
python -m press.cluster logs JOB                    (`make logs JOB=finetune@travel`)
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from press.cluster import coordinator
from press.cluster.settings import Cluster
from press.core import cli
from press.core.errors import UserError

RAY = "ray"


def starter(name: str) -> Callable[[Cluster, bytes], coordinator.Engine]:
    """Return what starts an engine.

    :raises UserError: if there is none of that name
    """
    if name != RAY:
        raise UserError(f"ENGINE is {name!r}, but must be {RAY}, or left out to build here")
    return start


def start(cluster: Cluster, snapshot: bytes) -> coordinator.Engine:
    """Return Ray's engine, which is imported where it is asked for alone."""
    from press.cluster.ray_engine import RayEngine

    return RayEngine(cluster, snapshot)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m press.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="build what has changed as jobs, and bring the outputs here")
    run.add_argument("--dry-run", action="store_true", help="say only what would be done")
    run.add_argument("engine", help=f"what places the jobs: {RAY}")
    logs = verbs.add_parser("logs", help="show what a job said when it last ran")
    logs.add_argument("job", help="a stage, such as finetune@travel")
    words = parser.parse_args()
    if words.verb == "logs":
        show_log(words.job)
    else:
        coordinator.reproduce(starter(words.engine), dry_run=words.dry_run)


def show_log(job: str) -> None:
    """Print a job's log.

    :raises UserError: if there is none, naming those that there are
    """
    there = sorted(path.stem for path in coordinator.LOGS.glob("*.log"))
    if job not in there:
        raise UserError(f"JOB is {job!r}, but there are logs of {', '.join(there) or 'no job'}")
    print(Path(coordinator.LOGS, f"{job}.log").read_text(encoding="utf-8", errors="replace"), end="")


if __name__ == "__main__":
    cli.in_sentences(main)
