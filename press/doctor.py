"""Say what is fine here and what is not: a table of checks, with what to do about each that failed.

    python -m press.doctor       (`make doctor`)

It also runs where packages are missing. Exit code 1 if something keeps the pipeline from running; notes do not.
"""

import json
import platform
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from press.core import cache, files, packages, paths, shell
from press.core.errors import UserError
from press.core.redaction import redacted

OK, NOTE, WRONG = "ok", "note", "WRONG"
GB = 10**9
# What the default pipeline took: 1 GB of outputs, the same in the DVC cache, as much again while stages build.
DISK = 4 * GB
MEMORY = 3 * GB
REMOTE_SECONDS = 20
REMOTE = """
import json
from dvc.repo import Repo
repo = Repo()
name = repo.config["core"].get("remote")
storage = repo.cloud.get_remote_odb() if name else None
print(json.dumps([name, storage and storage.path, bool(storage and storage.fs.exists(storage.path))]))
"""


@dataclass(frozen=True)
class Row:
    """A check, what it found, whether that is fine, and what to do if it is not."""

    check: str
    found: str
    verdict: str = OK
    advice: str = ""


def python() -> Iterable[Row]:
    """The interpreter, against pyproject.toml."""
    from packaging.specifiers import SpecifierSet

    wanted = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    fits = SpecifierSet(wanted).contains(platform.python_version())
    found = f"{platform.python_version()} ({sys.executable})"
    yield Row("Python", found) if fits else Row("Python", found, WRONG, f"install Python {wanted}, then `make install`")


def installed() -> Iterable[Row]:
    """The installed packages, against the lock."""
    locked = packages.read()
    packages.check_installed(locked)
    yield Row("packages", f"all {len(locked)} as {packages.LOCK} has them")


def requirements() -> Iterable[Row]:
    """What is wanted by name, against the locks."""
    packages.check_requirements()
    packages.check_requirements(packages.TASKS_REQUIREMENTS, packages.TASKS)
    yield Row("requirements", "as they are locked")


def cpu() -> Iterable[Row]:
    """The CPU, and whether the committed outputs are from one of its class."""
    from press.core import machine

    this = machine.this()
    sets = " ".join(this["instruction_sets"])
    yield Row("CPU", f"{this['vendor']} {this['architecture']}, {machine.cores()} cores, {sets}")
    yield Row("GPU", this["gpu"] or "none (none is needed)")
    recorded = {path: json.loads(path.read_text(encoding="utf-8")) for path in paths.MACHINES.rglob("*.json")}
    # Of portable floats there is no class to tell.
    others = [path for path, facts in recorded.items() if "vendor" in facts and facts != this]
    if others:
        names = ", ".join(path.relative_to(paths.MACHINES).with_suffix("").as_posix() for path in sorted(others))
        yield Row(
            "machine class",
            f"another than that of {names}",
            NOTE,
            "other bytes come out here; `make verify` says how far they are",
        )


def providers() -> Iterable[Row]:
    """The execution providers of ONNX Runtime, against the targets."""
    import onnxruntime

    from press.params import settings

    available = onnxruntime.get_available_providers()
    for name, target in settings.load().targets.items():
        if target.provider in available:
            yield Row(f"target {name}", f"{target.provider} is available")
        else:
            advice = "it is built here, but not evaluated; install the onnxruntime build that has it"
            yield Row(f"target {name}", f"no {target.provider}, only {', '.join(available)}", NOTE, advice)


def disk() -> Iterable[Row]:
    """Free disk space where the project is."""
    free = shutil.disk_usage(Path()).free
    found = f"{files.readable(free)} free"
    advice = f"the default pipeline takes {DISK / GB:.0f} GB: free some"
    yield Row("disk", found) if free >= DISK else Row("disk", found, WRONG, advice)


def memory() -> Iterable[Row]:
    """Memory that is available without swapping."""
    import psutil

    from press.params import needs

    available = needs.allowed(psutil.virtual_memory().available)
    found = f"{files.readable(available)} available"
    advice = f"the default pipeline takes {MEMORY / GB:.0f} GB: end other programs"
    yield Row("memory", found) if available >= MEMORY else Row("memory", found, WRONG, advice)


def parameters() -> Iterable[Row]:
    """params.yaml."""
    from press.core import machine
    from press.params import checks, resolving, settings

    resolved = resolving.Resolved()
    params = settings.validated(resolved)
    checks.check_files(params)
    checks.check(params, resolved)
    found = f"valid: adapters {', '.join(params.adapters)}; targets {', '.join(params.targets)}"
    cores = machine.cores()
    if params.threads > cores:
        advice = f"threads is {params.threads}, but there are {cores} cores: slow, though the bytes are right"
        yield Row("params.yaml", found, NOTE, advice)
    else:
        yield Row("params.yaml", found)


def git() -> Iterable[Row]:
    """The git working tree."""
    head = shell.output("git", "rev-parse", "--short", "HEAD")
    changed = shell.output("git", "status", "--porcelain").splitlines()
    if changed:
        yield Row("git", f"{head}, {len(changed)} files changed", NOTE, "commit them before `make publish`")
    else:
        yield Row("git", f"{head}, clean")


def links() -> Iterable[Row]:
    """How DVC puts outputs from its cache into the workspace."""
    cache.check_links()
    yield Row("DVC cache", "its files are copied into the workspace, not linked")


def pipeline() -> Iterable[Row]:
    """Whether the outputs are those of the working tree."""
    import dvc  # noqa: F401 - not there, `python -m dvc` would say less clearly what is missing

    from press.core import dvc_files

    dvc_files.recorded()
    if dvc_files.has_unreadable_rwlock():
        yield Row("pipeline", f"{dvc_files.RWLOCK} is damaged", WRONG, "remove it when no run of DVC is at work")
        return
    stale = list(json.loads(shell.output(sys.executable, "-m", "dvc", "status", "--json")))
    if stale:
        advice = "`dvc repro` builds them; `dvc pull` brings those that dvc.lock records"
        yield Row("pipeline", f"not up to date: {', '.join(stale)}", NOTE, advice)
    else:
        yield Row("pipeline", "up to date")


def remote() -> Iterable[Row]:
    """The DVC remote."""
    import dvc  # noqa: F401 - as above

    advice = "check the network, the login and `dvc remote list`"
    asked = shell.run(sys.executable, "-c", REMOTE, seconds=REMOTE_SECONDS)
    if asked.failed:
        found = f"no answer in {REMOTE_SECONDS} s" if asked.late else asked.reason
        yield Row("remote", found, NOTE, advice)
        return
    name, path, exists = json.loads(asked.output.splitlines()[-1])
    if not name:
        yield Row("remote", "none", NOTE, "`dvc remote add --default NAME URL`, to share outputs")
    else:
        yield Row("remote", f"{name} at {path}" + ("" if exists else ", still empty"))


CHECKS: dict[str, Callable[[], Iterable[Row]]] = {
    "Python": python,
    "packages": installed,
    "requirements": requirements,
    "CPU": cpu,
    "providers": providers,
    "disk": disk,
    "memory": memory,
    "params.yaml": parameters,
    "git": git,
    "DVC cache": links,
    "pipeline": pipeline,
    "remote": remote,
}


def examine(name: str, check: Callable[[], Iterable[Row]]) -> list[Row]:
    """Run a check; what stops it is what it found."""
    try:
        return list(check())
    except UserError as error:
        found, _, advice = str(error).replace("\n", "; ").partition(": run ")
        return [Row(name, found, WRONG, f"run {advice}" if advice else "mend what it names")]
    except ImportError as error:
        return [Row(name, f"{error.name or error} cannot be imported", WRONG, "run `make install`")]
    except OSError as error:
        return [Row(name, str(error), WRONG, "run this in the project's folder, with git and make installed")]


def main() -> int:
    """Print the table and return the exit code."""
    rows = [row for name, check in CHECKS.items() for row in examine(name, check)]
    width = max(len(row.check) for row in rows)
    for row in rows:
        advice = f"\n{'':{width + 7}}→ {row.advice}" if row.advice else ""
        print(redacted(f"{row.verdict:5}  {row.check:{width}}  {row.found}{advice}"))
    return int(any(row.verdict == WRONG for row in rows))


if __name__ == "__main__":
    sys.exit(main())
