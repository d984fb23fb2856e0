"""Rebuild what dvc.lock records from a clean clone of HEAD, in an empty cache, and compare every output.

    python -m press.verify              the whole pipeline (`make verify`)
    python -m press.verify STAGE ...    these stages, from their recorded inputs (`make verify STAGE=...`): all
                                        instances of a stage, as in `finetune`, or one, as in `finetune@travel`
    python -m press.verify --built      what `dvc repro` built here, without another build (`make verify BUILT=1`)

The rebuild runs with this interpreter in another folder, which stays for a look when an output differs. Of an output
that differs it is said where, and how far the two builds are from each other. What ONNX Runtime measured on a machine
of another class may differ within a tolerance (press/verify/measured.py); model files may not.

Exit code 0 if every output is identical, or measured on another class of machine and within the tolerance; otherwise 1.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from press.core import cli, dvc_files, environment, files, paths, shell
from press.core.errors import UserError
from press.verify import deviations, differences, measured

# What a clone calls the cache of the project that it was cloned from, and the folder of the clone that has its outputs.
RECORDED = "recorded"


@dataclass(frozen=True)
class Output:
    """One output of a stage: its digest in dvc.lock and in the rebuild, None where it is missing."""

    path: Path
    recorded: str | None
    rebuilt: str | None

    @property
    def identical(self) -> bool:
        """Whether the rebuild gave the recorded bytes."""
        return self.recorded == self.rebuilt


class Built:
    """A project with what was built in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lock(self) -> dict[str, dict]:
        """Return the stages of dvc.lock."""
        return dvc_files.stages((self.folder / paths.LOCK).read_text(encoding="utf-8"))


class Clone(Built):
    """A clean clone of a project's HEAD with a DVC cache of its own, which is empty."""

    def __init__(self, project: Path, folder: Path) -> None:
        super().__init__(folder)
        _run(["git", "clone", "--quiet", str(project), str(folder)], project)
        recorded = _run(["dvc", "cache", "dir"], project)
        # A DVC cache has the layout of a remote.
        config = f"[cache]\n    dir = {folder}/.dvc/cache\n['remote \"{RECORDED}\"']\n    url = {recorded}\n"
        (folder / ".dvc/config.local").write_text(config, encoding="utf-8")

    def bring(self, recorded: dict[Path, str]) -> None:
        """Put recorded outputs in their places.

        :param recorded: the digest of each, which DVC itself does not compare
        :raises UserError: if the project's cache has not all of them whole
        """
        kept = [str(path) for path in recorded if not (self.folder / path).exists()]
        try:
            if kept:
                _run(["dvc", "pull", "--quiet", "--remote", RECORDED, *kept], self.folder)
        except UserError as error:
            raise UserError(_lacks(kept)) from error
        damaged = [str(path) for path in recorded if dvc_files.digest(self.folder / path) != recorded[path]]
        if damaged:
            raise UserError(_lacks(damaged))

    def repro(self, stages: list[str] | None) -> None:
        """Run all stages, or only some, whatever is up to date; what they print is shown.

        :raises UserError: if one fails
        """
        words = ["dvc", "repro", "--force", *(["--single-item", *stages] if stages else [])]
        ended = shell.run(*words, folder=self.folder, environment=environment.of_clone(), shown="all")
        if ended.failed:
            raise UserError("the rebuild failed, for the reason above")


def _lacks(names: list[str]) -> str:
    return (
        f"the DVC cache has not all of {', '.join(names)} as dvc.lock records them: run `make pull`, or `make verify` "
        "without a stage, which needs none of them"
    )


def _run(words: list[str], folder: Path) -> str:
    return shell.output(*words, folder=folder, environment=environment.of_clone())


def committed(project: Path) -> dict[str, dict]:
    """Return the stages of HEAD's dvc.lock.

    :raises UserError: if there is none
    """
    try:
        text = _run(["git", "show", f"HEAD:./{paths.LOCK}"], project)
    except UserError as error:
        raise UserError(
            f"HEAD has no {paths.LOCK} to compare with: run `make repro` and commit {paths.LOCK}"
        ) from error
    return dvc_files.stages(text)


def in_order(stages: dict[str, dict]) -> list[str]:
    """Return the names of all stages, each after those whose outputs it reads."""
    made = {name: outputs(stages, [name]) for name in stages}
    before = {
        name: {
            other
            for other in stages
            if other != name and any(dvc_files.overlap(out, reads(stages, [name])) for out in made[other])
        }
        for name in stages
    }
    return list(TopologicalSorter(before).static_order())


def chosen(words: list[str], stages: dict[str, dict]) -> list[str]:
    """Return the instances that stage names stand for, in the order in which they run.

    :raises UserError: if a name stands for none
    """
    order = in_order(stages)
    for word in words:
        if not any(word in (name, name.partition("@")[0]) for name in order):
            raise UserError(f"{paths.LOCK} records no stage {word!r}, only {', '.join(order)}")
    return [name for name in order if name in words or name.partition("@")[0] in words]


def outputs(stages: dict[str, dict], names: Iterable[str] | None = None) -> dict[Path, str]:
    """Map the path of each output of some stages, or of all, to the digest that DVC records."""
    return {
        path: digest
        for name in (stages if names is None else names)
        for path, digest in dvc_files.outputs(stages[name]).items()
    }


def reads(stages: dict[str, dict], names: Iterable[str]) -> set[Path]:
    """Return the paths that some stages depend on."""
    return {Path(dep["path"]) for name in names for dep in stages[name].get("deps", [])}


def inputs(stages: dict[str, dict], names: list[str]) -> dict[Path, str]:
    """Return those outputs of other stages that some stages read, whole, in part or in a folder of several."""
    read, made = reads(stages, names), outputs(stages, [name for name in stages if name not in names])
    return {path: digest for path, digest in made.items() if dvc_files.overlap(path, read)}


def rebuild(clone: Clone, names: list[str]) -> list[Output]:
    """Build stages of a clone anew, all of them if `names` is empty, and return what came of their outputs."""
    stages = clone.lock()
    recorded = outputs(stages, names or stages)
    if names:
        clone.bring(inputs(stages, names))
    # What a stage fails to write must not be there from git.
    for path in recorded:
        files.remove(clone.folder / path)
    clone.repro(names)
    stages = clone.lock()
    made = outputs(stages, names or stages)
    return [Output(path, recorded.get(path), made.get(path)) for path in sorted(recorded | made)]


def report(results: list[Output], project: Path, scratch: Path, rebuilt: Built) -> bool:
    """Print a table of all outputs, and where those that differ part; return whether all are as they should be.

    :param scratch: folder for a clone of the project, made where an output differs, to bring what is recorded to
    """
    identical = all(output.identical for output in results)
    original = None if identical else Clone(project, scratch / RECORDED)
    counts = dict.fromkeys(("identical", "measured", "different"), 0)
    for output in results:
        verdict, lines = ("identical", []) if output.identical else comparison(output, original, rebuilt)
        counts[verdict] += 1
        print(f"{verdict}  {output.recorded or 'not recorded':36}  {output.path}")
        for line in lines:
            print(f"           {output.rebuilt or 'not made':36}  {line}")
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count or verdict != "measured")
    print(f"{len(results)} outputs: {said}")
    return not counts["different"]


def comparison(output: Output, original: Clone | None, rebuilt: Built) -> tuple[str, list[str]]:
    """Say whether two builds of an output may differ, where they part, and how far they are from each other."""
    if original is None or output.recorded is None or output.rebuilt is None:
        return "different", ["there is nothing to compare it with"]
    try:
        original.bring({output.path: output.recorded})
    except UserError:
        return "different", ["what is recorded is not whole in the DVC cache: only the digests can be compared"]
    folders = (original.folder, rebuilt.folder)
    if measured.is_measured(output.path):
        verdict = measured.judge(output.path, *folders)
        if verdict.near:
            return "measured", [verdict.words]
        lines = [verdict.words]
    else:
        lines = []
    both = [folder / output.path for folder in folders]
    place = differences.first_difference(*both) or "only DVC's digests differ"
    return "different", [*lines, place, f"at most: {deviations.measure(*both)}"]


def compare_built(project: Path) -> int:
    """Compare what is built in a project's folder with HEAD's dvc.lock; return the exit code."""
    recorded = outputs(committed(project))
    # DVC would believe a file by its size and times.
    built = [path for path in recorded | outputs(Built(project).lock()) if (project / path).exists()]
    made = {path: dvc_files.digest(project / path) for path in built}
    results = [Output(path, recorded.get(path), made.get(path)) for path in sorted(recorded | made)]
    with tempfile.TemporaryDirectory(prefix="olive-press-verify-") as scratch:
        return int(not report(results, project, Path(scratch), Built(project)))


def main(words: list[str]) -> int:
    """Rebuild and compare; return the exit code."""
    project = Path.cwd()
    names = chosen(words, committed(project))
    if _run(["git", "status", "--porcelain"], project):
        print("note: there are changes that are not committed; what is verified is HEAD")
    scratch = Path(tempfile.mkdtemp(prefix="olive-press-verify-"))
    fine = True
    try:
        rebuilt = Clone(project, scratch / "rebuilt")
        print(f"rebuilding {', '.join(names) or 'all stages'} in {rebuilt.folder}", flush=True)
        results = rebuild(rebuilt, names)
        fine = report(results, project, scratch, rebuilt)
    finally:
        if fine:
            shutil.rmtree(scratch)
    if not fine:
        print(f"both builds are in {scratch}")
    return int(not fine)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", nargs="*", help="a stage, all its instances or one; without any, the whole pipeline")
    parser.add_argument("--built", action="store_true", help="compare what is built here, without another build")
    words = parser.parse_args()
    if words.built and words.stage:
        parser.error("--built compares all that is built here: leave the stages out")
    cli.in_sentences(
        lambda: sys.exit(compare_built(Path.cwd()) if words.built else main(words.stage)),
        interrupted="nothing was verified; run this again",
    )
