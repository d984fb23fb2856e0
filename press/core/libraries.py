"""The packages that code uses: what a stage's result depends on besides its inputs and its own code."""

import ast
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from importlib import metadata

from packaging.requirements import Requirement

from press.core import code, files, packages, paths

# Packages that a library imports by itself, without requiring them.
LAZY = {
    "onnxruntime-genai": ("onnx-ir", "onnx", "torch", "transformers"),
    "transformers": ("gguf", "torch"),
}


def write(
    project: code.Project,
    locked: Mapping[str, str],
    unused: Collection[str],
    besides: Callable[[str], Iterable[ast.Module]],
) -> None:
    """Write the locked packages that each stage uses.

    :param locked: all locked packages and their versions
    :param unused: those that no stage runs
    :param besides: gives the trees of what a stage runs besides the project's own modules
    """
    with files.replaced(paths.ENVIRONMENT) as building:
        for stage, script in project.stages().items():
            modules = project.uses(script, through_front_door=True)
            names = used([*map(project.tree, modules), *besides(stage)], unused)
            lines = sorted(f"{name}=={version}\n" for name, version in locked.items() if name in names)
            (building / f"{stage}.txt").write_text("".join(lines), encoding="utf-8")


def used(trees: Iterable[ast.Module], unused: Collection[str] = ()) -> set[str]:
    """Return the normalized names of all packages that modules use, directly or through another package.

    What is imported but not installed is optional, as Triton is; a stage that needs it fails by itself.

    :param unused: normalized names of packages that may be installed, but do not run
    """
    tops = {name.partition(".")[0] for tree in trees for name in _imported(tree)}
    owners = _owners()
    names: set[str] = set()
    pending = [owner for top in tops - set(code.LOCAL) - sys.stdlib_module_names for owner in owners.get(top, ())]
    while pending:
        name = packages.normalize(pending.pop())
        if name not in names and name not in unused:
            names.add(name)
            pending += [*_required(name), *LAZY.get(name, ())]
    return names


# Each of these reads files of installed packages, most of which several stages use.
@cache
def _owners() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


@cache
def _required(name: str) -> list[str]:
    requirements = [Requirement(text) for text in metadata.requires(name) or []]
    wanted = [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    return [each for each in wanted if _is_installed(each)]


@cache
def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


@cache
def _imported(tree: ast.Module) -> set[str]:
    """Return the dotted names of the modules that code imports, at its top or in a function."""
    nodes = list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
