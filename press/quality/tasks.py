"""The tasks of lm-eval that params.yaml names: whether they are there, and what a captured model scores on them.

lm-eval and what it needs (some 500 MB) are installed by `make install-tasks`, and imported only if a task is named.
"""

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from press.core import packages
from press.core.errors import UserError

if TYPE_CHECKING:
    from press.model.runtime import Runtime
    from press.params.schema import Tasks

BARE = "bare"
PACKAGE = "lm-eval"


class _Loader(yaml.SafeLoader):
    """Read a task's YAML without importing the functions that it names."""


_Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def paths(params: "Tasks") -> dict[str, Path]:
    """Return the YAML file of each task."""
    return {name: Path(params.folder) / f"{name}.yaml" for name in params.names}


def check(params: "Tasks") -> None:
    """Refuse tasks that are not there, or are no tasks, and a missing lm-eval.

    :raises UserError: with the first mistake
    """
    for name, path in paths(params).items():
        _check_file(name, path)
    if params.names:
        try:
            metadata.version(PACKAGE)
        except metadata.PackageNotFoundError as error:
            name = params.names[0]
            raise UserError(
                f"evaluate.tasks.names has {name}, but {PACKAGE} is not installed: run `{packages.INSTALL_TASKS}`"
            ) from error


def _check_file(name: str, path: Path) -> None:
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError as error:
        raise UserError(
            f"evaluate.tasks.names has {name}, but there is no {path}: docs/tasks.md says how to add a task"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} (evaluate.tasks.names) is not UTF-8 text") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} (evaluate.tasks.names) is not valid YAML: {' '.join(str(error).split())}") from error
    called = config.get("task" if "group" not in config else "group") if isinstance(config, dict) else None
    if called != name:
        raise UserError(
            f"{path} (evaluate.tasks.names) must say `task: {name}` or `group: {name}`, as it is called, not {called!r}"
        )


def rehearse(params: "Tasks") -> None:
    """Load the tasks that are named, so that a mistake in them is told before minutes of scoring.

    :raises UserError: if a task cannot be loaded, or its data is not here
    """
    check(params)
    if params.names:
        from press.quality import lm_eval

        with lm_eval.own_cache():
            lm_eval.load(paths(params))


def run(runtime: "Runtime", params: "Tasks", adapters: list[str]) -> dict[str, dict]:
    """Run the tasks on a captured model, bare and with each adapter.

    :return: {"tasks": {task: {metric: {"bare" or adapter: value}}}}, empty where no task is named
    """
    if not params.names:
        return {}
    from press.quality import lm_eval

    rungs = {BARE: None} | {name: name for name in adapters}
    return {"tasks": lm_eval.score(runtime, paths(params), params.limit, rungs)}
