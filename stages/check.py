"""Check parameters and environment before anything runs, and write down what each stage's libraries are.

in:  params.yaml as a whole, requirements.lock and, if lm-eval's tasks are named, requirements-tasks.lock, the project's
     Python files and passes/olive.json
out: reports/environment/STAGE.txt, the locked packages that a stage uses, directly or not

A stage depends on its own list, so that a new version of a library reruns the stages that use it, and only those.
"""

import ast
import sys
from collections.abc import Collection, Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from press import command, device, files, gates, lock, needs, olive_run, settings, tasks
from press.errors import UserError

OUTPUT = Path("reports/environment")
LOCAL = {"passes", "press", "stages"}
# Packages that a library imports by itself, without requiring them.
LAZY = {
    "onnxruntime-genai": ("onnx-ir", "onnx", "torch", "transformers"),
    "transformers": ("gguf", "torch"),
}


def stage_scripts() -> dict[str, Path]:
    """Map the name of each stage, but for this one, to its script."""
    scripts = sorted(Path("stages").glob("*.py"))
    return {path.stem: path for path in scripts if path.stem not in ("__init__", Path(__file__).stem)}


def sources(script: Path, registry: Path = olive_run.PACKAGE_CONFIG) -> set[Path]:
    """Return a stage's script and all of the project's modules that it uses.

    These are the modules that it imports, those of the Olive passes that it names by their type, the user
    scripts that it names by their path, and what all of these use in turn.
    """
    passes = {name: entry["module_path"] for name, entry in files.read_json(registry)["passes"].items()}
    found: set[Path] = set()
    pending = {script}
    while pending:
        path = pending.pop()
        found.add(path)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = imported_modules(tree)
        texts = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        modules |= {passes[text].rpartition(".")[0] for text in texts & set(passes)}
        used = {Path(*module.split(".")).with_suffix(".py") for module in modules}
        used |= {Path(text) for text in texts if text.endswith(".py")}
        pending |= {path for path in used if path.parts[0] in LOCAL and path.is_file()} - found
    return found


def imported_modules(tree: ast.AST) -> set[str]:
    """Return the dotted names of all modules that Python code imports, at its top or in a function."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def packages(paths: Iterable[Path], unused: Collection[str] = ()) -> set[str]:
    """Return the normalized names of all packages that Python files use, directly or through another.

    What is imported but not installed is optional, as Triton is; a stage that needs it fails by itself.

    :param unused: normalized names of packages that may be installed, but do not run
    """
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    tops = {name.partition(".")[0] for tree in trees for name in imported_modules(tree)}
    owners = metadata.packages_distributions()
    found: set[str] = set()
    pending = [owner for top in tops - LOCAL - sys.stdlib_module_names for owner in owners.get(top, ())]
    while pending:
        name = lock.normalize(pending.pop())
        if name not in found and name not in unused:
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


def check_gates(params: settings.Settings) -> None:
    """Refuse gates that are none."""
    for gate in params.gates:
        try:
            gates.check(gate)
        except UserError as error:
            raise UserError(f"{settings.PARAMS}: gates: {error}") from error


def check_files(params: settings.Settings) -> None:
    """Refuse parameters that name files which are not there."""
    for name, adapter in params.adapters.items():
        if not Path(adapter.data).is_file():
            raise UserError(f"{settings.PARAMS}: adapters.{name}.data names {adapter.data}, which is not a file")
    texts = {"quantize.calibration": params.quantize.calibration.data, "evaluate.general": params.evaluate.general.data}
    for block, path in texts.items():
        if not Path(path).is_file():
            raise UserError(f"{settings.PARAMS}: {block}.data names {path}, which is not a file")


def check_device(params: settings.Settings) -> None:
    """Refuse a device that is not here, and trainings that it cannot do; PyTorch is loaded only to ask for these."""
    special = {
        name: adapter
        for name, adapter in params.adapters.items()
        if adapter.training.processes > 1 or adapter.lora.method == "qlora"
    }
    if params.device != "cuda" and not special:
        return
    try:
        where = device.resolve(params.device)
        for name, adapter in special.items():
            needs.check_machine(name, adapter.training.processes, adapter.lora.method, where)
    except UserError as error:
        raise UserError(f"{settings.PARAMS}: {error}") from error


def main() -> None:
    params = settings.load()
    check_device(params)
    check_files(params)
    check_gates(params)
    tasks.check(params.evaluate.tasks)
    optional = lock.read(lock.TASKS)
    unused = {} if params.evaluate.tasks.names else optional
    locked = lock.read() | {name: version for name, version in optional.items() if name not in unused}
    lock.check_installed(locked)
    with files.replaced(OUTPUT) as building:
        for stage, script in stage_scripts().items():
            used = packages(sources(script), unused)
            lines = sorted(f"{name}=={version}\n" for name, version in locked.items() if name in used)
            (building / f"{stage}.txt").write_text("".join(lines), encoding="utf-8")
    print("params.yaml and the environment are as they should be")
    for name, target in params.targets.items():
        print(f"{name}: {target.serving(len(params.adapters))}")


if __name__ == "__main__":
    command.run(main)
