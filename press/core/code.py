"""What the code of a stage says, as digests: where none of them changes, the stage would do what it did.

`check` writes them into reports/code/STAGE.txt, on which the stage depends in dvc.yaml: one line for each module that
the stage uses, the SHA-256 of its syntax tree without comments, docstrings and layout. In the tree, an import of the
project's own stands for the imported module's digest, the name of an Olive pass for its entry in passes/olive.json and
the digest of its module, and the name of a file beside the module for that file's bytes. So neither a reworded comment
nor a moved module changes a digest, and a new import is found without an edit of dvc.yaml.

The front door is left out: modules that can refuse to run a stage, and otherwise hand over what DVC tracks anyway. The
tests show that params.yaml comes through them as it stands.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cached_property
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from press.core import files, paths
from press.core.errors import UserError

# The project whose modules these are.
ROOT = Path(__file__).resolve().parents[2]
LOCAL = ("passes", "press", "stages")
# Writes this down, and so cannot depend on it.
CHECK = "check"
MODULES = "modules.txt"
# Parts of a syntax tree that may name another module.
NAMING = (ast.Import, ast.ImportFrom, ast.Constant)
# What the front door gives to the process of every stage.
GIVEN = Path("press/core/environment.py")
FRONT_DOOR = frozenset(
    map(
        Path,
        (
            "press/core/cli.py",
            "press/core/code.py",
            "press/core/dvc_files.py",
            "press/core/errors.py",
            "press/core/inputs.py",
            "press/core/packages.py",
            "press/core/strict_yaml.py",
            "press/params/checks.py",
            "press/params/reading.py",
            "press/params/recorded.py",
            "press/params/schema.py",
            "press/params/sentences.py",
            "press/params/settings.py",
        ),
    )
)


class Project:
    """The modules of a project, each read once.

    Their paths are relative to its folder.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self._trees: dict[Path, ast.Module] = {}
        self._used: dict[Path, frozenset[Path]] = {}
        self._digests: dict[Path, str] = {}
        self._pending: list[Path] = []

    @cached_property
    def passes(self) -> dict[str, dict]:
        """The entries of passes/olive.json by the passes' types."""
        registry = self.root / paths.OLIVE_PACKAGE
        return files.read_json(registry)["passes"] if registry.exists() else {}

    def stages(self) -> dict[str, Path]:
        """Map the name of each stage, but for `check`, to its script."""
        scripts = sorted(path.relative_to(self.root) for path in (self.root / "stages").glob("*.py"))
        return {path.stem: path for path in scripts if path.stem not in ("__init__", CHECK)}

    def uses(self, script: Path, *, through_front_door: bool = False) -> set[Path]:
        """Return a script and all of the project's modules that it uses, directly or not.

        These are the modules that it imports, at the top or in a function, those of the Olive passes that it names by
        their type, the user scripts that it names by their path, and what all of these use in turn.

        :param through_front_door: whether the front door's modules, and what only they use, are among them
        """
        modules: set[Path] = set()
        pending = {script}
        while pending:
            path = pending.pop()
            modules.add(path)
            used = self._uses(path)
            pending |= (used if through_front_door else used - FRONT_DOOR) - modules
        return modules

    def digests(self, stage: str) -> dict[Path, str]:
        """Map each module that a stage uses, the front door left out, to the digest of what it says."""
        script = Path("stages", f"{stage}.py")
        used = self.uses(script) | self.uses(GIVEN)
        return {path: self.digest(path) for path in sorted(used)}

    def digest(self, path: Path) -> str:
        """Return the SHA-256, in hexadecimal, of what a module says.

        :raises UserError: if modules import each other in a circle
        """
        if path in self._pending:
            circle = [*self._pending[self._pending.index(path) :], path]
            raise UserError(f"{' → '.join(map(str, circle))}: these modules import each other in a circle: break it")
        if path not in self._digests:
            self._pending.append(path)
            self._digests[path] = hashlib.sha256(repr(self._said(path, self.tree(path))).encode()).hexdigest()
            self._pending.pop()
        return self._digests[path]

    def tree(self, path: Path) -> ast.Module:
        """Return a module's syntax tree.

        :raises UserError: if it is no Python code
        """
        if path not in self._trees:
            try:
                self._trees[path] = ast.parse((self.root / path).read_bytes())
            except SyntaxError as error:
                raise UserError(f"{path} line {error.lineno} is not Python code: {error.msg}") from error
        return self._trees[path]

    def _uses(self, path: Path) -> frozenset[Path]:
        """Return the project's modules that a module uses directly."""
        if path not in self._used:
            naming = (node for node in ast.walk(self.tree(path)) if isinstance(node, NAMING))
            used = {each for node in naming for each in self._named(path, node)}
            # Who imports a module runs the packages around it first.
            used |= {each for folder in path.parents if (self.root / (each := folder / "__init__.py")).is_file()}
            self._used[path] = frozenset(used)
        return self._used[path]

    def _module(self, name: str) -> Path | None:
        """Return the path of one of the project's modules, None for any other name."""
        parts = name.split(".")
        if parts[0] not in LOCAL:
            return None
        path = Path(*parts)
        candidates = (path.with_suffix(".py"), path / "__init__.py")
        return next((each for each in candidates if (self.root / each).is_file()), None)

    def _named(self, path: Path, node: ast.AST) -> Iterator[Path]:
        """Yield the modules that a node of a module's tree names."""
        match node:
            case ast.Import() | ast.ImportFrom():
                for name in imported(node, path):
                    yield from filter(None, map(self._module, (name, name.rpartition(".")[0])))
            case ast.Constant(str() as text) if text in self.passes:
                yield from filter(None, [self._module(self.passes[text]["module_path"].rpartition(".")[0])])
            case ast.Constant(str() as text) if text.startswith(LOCAL) and text.endswith(".py"):
                if (self.root / text).is_file():
                    yield Path(text)

    def _said(self, path: Path, node: object) -> object:
        """Return what a part of a module's tree says: the same for every version of Python that reads it."""
        # `check` asks this of each node of every module, and each stage of its own: the most frequent comes first.
        if isinstance(node, list):
            return tuple(self._said(path, each) for each in node)
        if not isinstance(node, ast.AST):
            return repr(node)
        if isinstance(node, ast.Constant):
            return self._constant(path, node.value)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            return ("import", *self._imports(path, node))
        # Versions of Python differ in the fields that they add, which are empty for what the older ones know.
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return (
            type(node).__name__,
            *((name, self._said(path, _undocumented(node, name, value))) for name, value in fields),
        )

    def _constant(self, path: Path, value: object) -> tuple[object, ...]:
        if isinstance(value, str) and value in self.passes:
            return ("pass", value, self._pass(value))
        if isinstance(value, str) and self._is_file_beside(path, value):
            return ("file", value, files.sha256(self.root / path.parent / value))
        return ("constant", repr(value))

    def _imports(self, path: Path, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
        """Yield what an import brings, and under which name."""
        for alias, name in zip(node.names, imported(node, path), strict=True):
            module = self._module(name)
            # An attribute of a module, which may be a module of its own.
            member = "" if module or isinstance(node, ast.Import) else alias.name
            module = module or self._module(name.rpartition(".")[0])
            bound = alias.asname or alias.name
            yield (f"{self._imported(module)} {member}" if module else name, bound)

    def _imported(self, module: Path) -> str:
        return "front door" if module in FRONT_DOOR else self.digest(module)

    def _pass(self, name: str) -> tuple[str, ...]:
        """Return what an Olive pass is: its entry, in which the digest of one of the project's stands for its path."""
        entry = dict(self.passes[name])
        place, _, member = entry["module_path"].rpartition(".")
        if module := self._module(place):
            entry["module_path"] = f"{self.digest(module)} {member}"
        return tuple(f"{key}: {entry[key]!r}" for key in sorted(entry))

    def _is_file_beside(self, path: Path, text: str) -> bool:
        is_name = bool(text) and len(text) < 100 and not set(text) & set("/\\\0\n") and not text.endswith(".py")
        return is_name and (self.root / path.parent / text).is_file()


def imported(node: ast.Import | ast.ImportFrom, path: Path) -> list[str]:
    """Return the dotted name of each module, or member of a module, that an import names.

    :param path: of the module that imports, relative to the project
    """
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    module = node.module or ""
    if node.level:
        module = resolve_name("." * node.level + module, ".".join(path.parent.parts))
    return [f"{module}.{alias.name}" for alias in node.names]


def listed(digests: dict[Path, str]) -> str:
    """Return digests as reports/code/STAGE.txt has them: sorted, since the names of the modules do not count."""
    return "".join(f"{digest}\n" for digest in sorted(set(digests.values())))


def write(project: Project) -> None:
    """Write the digests of each stage's modules, and the names of all modules for those who read them."""
    names: dict[Path, str] = {}
    with files.replaced(paths.CODE) as building:
        for stage in project.stages():
            digests = project.digests(stage)
            names |= digests
            (building / f"{stage}.txt").write_text(listed(digests), encoding="utf-8")
        lines = [f"{names[path]}  {path.as_posix()}\n" for path in sorted(names)]
        (building / MODULES).write_text("".join(lines), encoding="utf-8")


def check_recorded(stage: str) -> None:
    """Refuse to run a stage with other code than `check` wrote down, which DVC takes it to run with.

    :raises UserError: saying what to do
    """
    recorded = paths.CODE / f"{stage}.txt"
    if recorded.exists() and recorded.read_text(encoding="utf-8") != listed(Project().digests(stage)):
        raise UserError(
            f"the code of {stage} is not what {recorded} says: run `dvc repro` without --single-item, or `dvc repro "
            "check` first"
        )


def _undocumented(node: ast.AST, name: str, value: Any) -> Any:
    """Return a field of a node without its docstring."""
    if name != "body" or not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return value
    return value if ast.get_docstring(node, clean=False) is None else value[1:]
