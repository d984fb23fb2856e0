"""One trial on a machine of the cluster, in a clone of the commit whose parameters are searched.

    python -m press.search.job < ORDER

The order is a line of JSON: the experiment's name, the text of params.yaml, the stages that are wanted, and where the
DVC remote is if that is a folder. The experiment is built as `make search` does on one machine, but with the remote's
run cache. Its commit is written into job.json, as a bundle of git's.
"""

import base64
import os
import sys
from pathlib import Path

from press.cluster import job, worker
from press.core import cli, files, packages, paths, shell
from press.search import experiments, shared_dvc

BUNDLE = Path(".dvc/tmp/trial.bundle")


def main() -> None:
    order = job.begin()
    os.environ.update(experiments.variables())
    # A machine on which each trial that it gets would fail takes none.
    packages.check_installed(packages.read())
    job.configure(order["remote"])
    paths.PARAMS.write_text(order["params"], encoding="utf-8")
    shared_dvc.use_remote_run_cache()
    if code := job.dvc("exp", "run", "--pull", "--name", order["name"], *order["stages"]):
        sys.exit(code)
    reference = experiments.known()[order["name"]].reference
    shell.output("git", "bundle", "create", "--quiet", str(BUNDLE), reference, "^HEAD")
    files.write_json(Path(worker.RESULT), {"bundle": base64.b64encode(BUNDLE.read_bytes()).decode()})


if __name__ == "__main__":
    cli.in_sentences(main)
