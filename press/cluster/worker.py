"""What runs on a machine of the cluster around a job: it unpacks the project, and ends what it started.

It needs Python's own library alone, since the project comes with the job: an engine sends these functions as they are,
or this file with the project beside it, in PROJECT:

    python worker.py ORDER SECONDS

That writes the job's result into outputs/job.json of its working folder, and keeps all else below it; of a job on
several machines, the first alone writes one.
"""

import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

# Where a machine keeps its jobs' folders and their DVC cache, if not below the user's own folder for such things.
HOME = "OLIVE_PRESS_WORK"
RESULT = "job.json"
PROJECT = "project.tar.gz"
# Where Azure ML says which of a compute's identities is meant, and where its SDK looks for it.
DEFAULT_IDENTITY, IDENTITY = "DEFAULT_IDENTITY_CLIENT_ID", "AZURE_CLIENT_ID"
# Where the parts of a job on several machines meet, and which of them this is, as launchers name that
# (press/model/nodes.py, whose imports take longer than the rest of a job).
ADDRESS, PORT, RANK = "MASTER_ADDR", "MASTER_PORT", "NODE_RANK"
# What runs in a job's folder, if its order names nothing else.
JOB = "press.cluster.job"
PREFIX = "job-"


def home() -> Path:
    """Return the folder of this machine's jobs."""
    return Path(os.environ.get(HOME) or Path.home() / ".cache/olive-press")


def is_first() -> bool:
    """Whether this machine is the only one of its job, or the first of several."""
    return os.environ.get(RANK, "0") == "0"


def run(snapshot: bytes, order: str, seconds: float, variables: dict[str, str] | None = None) -> Iterator[str | dict]:
    """Run a job in a new folder; yield the lines that it prints, and at last its result.

    The job's processes end with this one, however it ends.

    :param snapshot: the project's files, as a tar file
    :param order: what the job reads, in one line of JSON; `module` says what the job is
    :param seconds: time limit
    :param variables: of its environment, besides this process's
    :return: what it writes, with `code`, its exit code, and `late`, whether its time was up
    """
    folder, held = _folder()
    try:
        with tarfile.open(fileobj=io.BytesIO(snapshot)) as archive:
            archive.extractall(folder, filter="data")
        process = subprocess.Popen(
            [sys.executable, "-m", json.loads(order).get("module", JOB)],
            cwd=folder,
            env=_variables() | (variables or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(seconds, give_up)
        timer.daemon = True
        timer.start()
        # What a job leaves behind that was killed alone, as where memory is short, would keep its output open.
        threading.Thread(target=_end_rest, args=[process], daemon=True).start()
        try:
            # Open until the job has ended, which so sees that this process has ended before.
            given, said = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
            given.write(f"{order}\n")
            given.flush()
            yield from said
            code = process.wait()
        finally:
            timer.cancel()
            _kill(process)
        written = folder / RESULT
        result = json.loads(written.read_text(encoding="utf-8")) if code == 0 else {}
        yield {**result, "code": code, "late": late.is_set()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _folder() -> tuple[Path, int]:
    """Make a job's folder, and remove those that jobs left whose process was killed.

    :return: it, and a descriptor that holds it until it is closed or this process has ended
    """
    home().mkdir(parents=True, exist_ok=True)
    # A folder that was made just now is not held yet.
    with (home() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in home().glob(f"{PREFIX}*"):
            try:
                os.close(_hold(left))
            except OSError:
                # It is another job's, or gone.
                continue
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=home()))
        return folder, _hold(folder)


def _hold(folder: Path) -> int:
    """Hold a folder.

    :raises OSError: if another process holds it
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _variables() -> dict[str, str]:
    """Return a job's environment: this process's without what the engine gives to its own."""
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return {**kept, "PYTHONPATH": "", "PYTHONUNBUFFERED": "1", HOME: str(home())}


def _end_rest(process: subprocess.Popen) -> None:
    """End what a job has started once it has ended, or was killed alone."""
    process.wait()
    _kill(process)


def _kill(process: subprocess.Popen) -> None:
    """End a job with all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    process.wait()


def main() -> None:
    """Run one job, whose order is a file, as a process of its own."""
    order, seconds = sys.argv[1:]
    os.environ.setdefault(HOME, str(Path("work").resolve()))
    if identity := os.environ.get(DEFAULT_IDENTITY):
        os.environ.setdefault(IDENTITY, identity)
    snapshot = Path(__file__).with_name(PROJECT).read_bytes()
    for said in run(snapshot, Path(order).read_text(encoding="utf-8"), float(seconds)):
        if isinstance(said, str):
            print(said, end="", flush=True)
        else:
            if is_first():
                written = Path("outputs", RESULT)
                written.parent.mkdir(exist_ok=True)
                written.write_text(json.dumps(said), encoding="utf-8")
            sys.exit(1 if said["code"] else 0)


if __name__ == "__main__":
    main()
