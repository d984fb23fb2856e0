"""Check parameters and environment before anything runs, and write down what each stage's libraries are.

in:  params.yaml as a whole, requirements.lock, dvc.yaml and the Python files that it names
out: reports/environment/STAGE.txt, the locked packages that a stage uses, directly or not

A stage depends on its own list, so that a new version of a library reruns the stages that use it, and only those.
"""

import ast
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement

from press import command, files, lock, settings
from press.errors import UserError

OUTPUT = Path("reports/environment")
LOCAL = {"passes", "press", "stages"}
# Packages that a library imports by itself, without requiring them.
LAZY = {
    "onnxruntime-genai": ("onnx-ir", "onnx", "torch", "transformers"),
    "transformers": ("gguf", "torch"),
}


def stage_sources(pipeline: Path) -> dict[str, list[Path]]:
    """Map each stage of a dvc.yaml, but for `check` itself, to the Python files among its deps."""
    stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]
    sources = {}
    for name, stage in stages.items():
        deps = stage.get("do", stage).get("deps", [])
        sources[name] = [Path(dep) for dep in deps if dep.endswith(".py")]
    del sources["check"]
    return sources


def imported_modules(source: Path) -> set[str]:
    """Return the dotted names of all modules that a Python file imports, at its top or in a function."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def packages(sources: Iterable[Path]) -> set[str]:
    """Return the normalized names of all packages that Python files use, directly or through another."""
    tops = {name.partition(".")[0] for source in sources for name in imported_modules(source)}
    owners = metadata.packages_distributions()
    found: set[str] = set()
    pending = [owner for top in tops - LOCAL - sys.stdlib_module_names for owner in owners[top]]
    while pending:
        name = lock.normalize(pending.pop())
        if name not in found:
            found.add(name)
            pending += _required(name) + list(LAZY.get(name, ()))
    return found


def _required(name: str) -> list[str]:
    requirements = [Requirement(text) for text in metadata.requires(name) or []]
    wanted = [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    return [each for each in wanted if _is_installed(each)]


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def check_files(params: settings.Settings) -> None:
    """Refuse parameters that name files which are not there."""
    for name, adapter in params.adapters.items():
        if not Path(adapter.data).is_file():
            raise UserError(f"{settings.PARAMS}: adapters.{name}.data names {adapter.data}, which is not a file")
    calibration = params.quantize.calibration.data
    if params.quantize.algorithm == "gptq" and not Path(calibration).is_file():
        raise UserError(f"{settings.PARAMS}: quantize.calibration.data names {calibration}, which is not a file")


def main() -> None:
    check_files(settings.load())
    locked = lock.read()
    lock.check_installed(locked)
    with files.replaced(OUTPUT) as building:
        for stage, sources in stage_sources(Path("dvc.yaml")).items():
            used = packages(sources)
            lines = [f"{name}=={version}\n" for name, version in locked.items() if name in used]
            (building / f"{stage}.txt").write_text("".join(lines), encoding="utf-8")
    print("params.yaml and the environment are as they should be")


if __name__ == "__main__":
    command.run(main)
