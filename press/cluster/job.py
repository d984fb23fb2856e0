"""One stage on a machine of the cluster, in a folder that has the project and nothing else.

    python -m press.cluster.job < ORDER

The order is a line of JSON: the stage, what dvc.yaml and dvc.lock say of it and of what it reads, the paths of the
inputs, and where the DVC remote is if that is a folder. The inputs come from the remote, the outputs go there; what
dvc.lock says of the stage then, and its reports, are written into job.json. The job ends, with all that it started,
when its standard input does.

Of a stage that runs on several machines at once (press/model/nodes.py), the first does all this; the others pull the
inputs, and run the stage beside it.
"""

import atexit
import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from configobj import ConfigObj

from press.cluster import worker
from press.core import cli, dvc_files, environment, files, paths

CACHE = "cache"
# DVC's own databases, which it keeps for each folder in which it ever ran, are of no use when the folder is gone.
DATABASES = Path(".dvc/tmp/databases")
INPUTS = Path("inputs.dvc")
# Between tries to reach the remote, which may be away for a minute.
PAUSES = (1, 2, 4, 8, 15, 15, 15, 15, 15)


def main() -> None:
    order = begin()
    start = time.monotonic()
    configure(order["remote"])
    paths.LOCK.write_text(order["lock"], encoding="utf-8")
    # DVC reads all stages there are at each command, and for each path it is told to pull.
    paths.PIPELINE.write_text(yaml.safe_dump(order["pipeline"], sort_keys=False), encoding="utf-8")
    pull(order["inputs"])
    stage = order["stage"]
    if not worker.is_first():
        beside_the_first(stage)
        return
    if code := dvc("repro", "--single-item", "--pull", "--no-run-cache", stage):
        sys.exit(code)
    transfer("push", stage)
    result = {
        "entry": dvc_files.recorded().get(stage),
        "reports": {name: base64.b64encode(Path(name).read_bytes()).decode() for name in reports(order["reports"])},
        "seconds": time.monotonic() - start,
    }
    files.write_json(Path(worker.RESULT), result)


def pull(inputs: list[str]) -> None:
    """Get a stage's inputs: those that dvc.lock names as a file of DVC's that has nothing else."""
    wanted = {*inputs}
    outs = [out for stage in dvc_files.recorded().values() for out in stage.get("outs", []) if out["path"] in wanted]
    if outs:
        INPUTS.write_text(yaml.safe_dump({"outs": outs}), encoding="utf-8")
        transfer("pull", str(INPUTS))
        INPUTS.unlink()
    if others := sorted(wanted - {out["path"] for out in outs}):
        transfer("pull", *others)


def beside_the_first(stage: str) -> None:
    """Run a stage whose outputs another machine pushes, if it is to run there: it has the same inputs."""
    from dvc.repo import Repo

    with Repo() as repo, repo.lock:
        is_to_run = repo.stage.get_target(stage).changed(allow_missing=True)
    name, _, word = stage.partition("@")
    if is_to_run and (code := subprocess.call([sys.executable, "-m", f"stages.{name}", word])):
        sys.exit(code)
    files.write_json(Path(worker.RESULT), {})


def begin() -> dict:
    """Read the order, and end when nobody holds standard input any more."""
    order = json.loads(sys.stdin.readline())
    _end_with_coordinator()
    os.environ.update(environment.of_clone(), DVC_NO_ANALYTICS="1")
    return order


def configure(remote: dict[str, str]) -> None:
    """Give the folder's DVC the machine's cache, and the remote's place where that is a folder.

    :param remote: its name and url, or nothing
    """
    no_scm = str(not Path(".git").exists()).lower()
    core = {"no_scm": no_scm, "analytics": "false", "site_cache_dir": str(DATABASES.resolve())}
    config = ConfigObj({"core": core, "cache": {"dir": str(worker.home() / CACHE)}})
    if remote:
        config[f'remote "{remote["name"]}"'] = {"url": remote["url"]}
    # As DVC writes its own, with quotes where a path needs them.
    with Path(".dvc/config.local").open("wb") as file:
        config.write(file)


def reports(outs: list[str]) -> list[str]:
    """Return the files of a stage's outputs that DVC does not keep."""
    file_paths: list[str] = []
    for out in map(Path, outs):
        file_paths += [str(each) for each in sorted(out.rglob("*")) if each.is_file()] if out.is_dir() else [str(out)]
    return file_paths


def transfer(verb: str, *names: str) -> None:
    """Pull outputs from the remote or push them; where that fails, again after a pause. Exit if it goes on to fail."""
    for pause in PAUSES:
        if not dvc(verb, "--quiet", *names):
            return
        print(f"`dvc {verb}` failed, and is tried again in {pause} s", flush=True)
        time.sleep(pause)
    # Now DVC says why.
    if dvc(verb, *names):
        sys.exit(f"error: `dvc {verb}` failed for {sum(PAUSES)} s: what DVC says of the remote is in the log")


def dvc(*words: str) -> int:
    """Run a command of DVC's in this process, which so imports it once, and return its exit code."""
    from dvc import cli as command_line

    return command_line.main([*words])


def _end_with_coordinator() -> None:
    """Let this process and all that it started end when nobody holds its standard input any more.

    Another process sees to that, since this one may be killed first: where a coordinator is gone, Ray kills what its
    worker has started, and not what that has started, before it ends the worker.
    """
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    watching = subprocess.Popen(["sh", "-c", "read -r _; kill -s KILL 0"], **silent)
    atexit.register(_end, watching)


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


if __name__ == "__main__":
    cli.in_sentences(main)
