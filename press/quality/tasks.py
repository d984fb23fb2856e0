"""The tasks of lm-eval that params.yaml names: whether they are there, and what a captured model scores on them.

lm-eval and what it needs (some 500 MB) are installed by `make install-tasks`, and imported only if a task is named.
"""

from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from press.core import packages
from press.core.errors import UserError
from press.core.paths import outside

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from press.model.runtime import Runtime
    from press.params.schema import Tasks

BARE = "bare"
PACKAGE = "lm-eval"


class _Function(str):
    """The name of a function: MODULE.FUNCTION."""


class _Loader(yaml.SafeLoader):
    """Read a task's YAML without importing the functions that it names."""


_Loader.add_constructor("!function", lambda loader, node: _Function(loader.construct_scalar(node)))


def paths(params: "Tasks") -> dict[str, Path]:
    """Return the YAML file of each task."""
    return {name: Path(params.folder) / f"{name}.yaml" for name in params.names}


def check(params: "Tasks") -> None:
    """Refuse tasks that are not there, are no tasks or use what DVC does not see change, and a missing lm-eval.

    :raises UserError: with the first mistake
    """
    for name, path in paths(params).items():
        _check_file(name, path)
    if params.names:
        _check_folder(Path(params.folder))
        try:
            metadata.version(PACKAGE)
        except metadata.PackageNotFoundError as error:
            name = params.names[0]
            raise UserError(
                f"evaluate.tasks.names has {name}, but {PACKAGE} is not installed: run `{packages.INSTALL_TASKS}`"
            ) from error


def _check_file(name: str, path: Path) -> None:
    if not path.is_file():
        raise UserError(
            f"evaluate.tasks.names has {name}, but there is no {path}: docs/tasks.md says how to add a task"
        )
    config = _read(path)
    called = config.get("task" if "group" not in config else "group") if isinstance(config, dict) else None
    if called != name:
        raise UserError(
            f"{path} (evaluate.tasks.names) must say `task: {name}` or `group: {name}`, as it is called, not {called!r}"
        )


def _read(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} (evaluate.tasks) is not UTF-8 text") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} (evaluate.tasks) is not valid YAML: {' '.join(str(error).split())}") from error


def _check_folder(folder: Path) -> None:
    """Refuse tasks that run code or read files which are not in their folder, where DVC sees them change.

    All YAML files that are there are read, as lm-eval does, and those that they include.
    """
    for path in sorted(folder.rglob("*")):
        if place := outside(path):
            raise UserError(f"{path} (evaluate.tasks) is a link out of the project, to {place}: copy the file in")
    read: set[Path] = set()
    waiting = sorted(folder.rglob("*.yaml"))
    while waiting:
        path = waiting.pop()
        if path.resolve() in read:
            continue
        read.add(path.resolve())
        for key, value in _values(_read(path)):
            if isinstance(value, _Function):
                module = value.rpartition(".")[0].replace(".", "/")
                _check_inside(folder, path, f"{module}.py", f"the function {value}")
            elif key == "include":
                waiting.append(_check_inside(folder, path, str(value), f"what it includes, {value}"))
            elif key == "use_prompt":
                raise UserError(f"{path} (evaluate.tasks) has use_prompt: write the prompt into doc_to_text")


def _check_inside(folder: Path, path: Path, name: str, what: str) -> Path:
    """Return the path of a file beside a task's file; refuse one that is not in the folder of tasks."""
    place = (path.resolve().parent / name).resolve()
    if not (place.is_relative_to(folder.resolve()) and place.is_file()):
        raise UserError(
            f"{path} (evaluate.tasks): {what}, must be in a file of {folder}, since DVC sees no other change: copy it "
            "in"
        )
    return place


def _values(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield all values of a task's YAML that are no blocks or lists, each with its key; aliases may form a circle."""
    waiting: list[tuple[str, Any]] = [("", config)]
    seen: set[tuple[str, int]] = set()
    while waiting:
        key, value = waiting.pop()
        if not isinstance(value, dict | list):
            yield key, value
        elif (key, id(value)) not in seen:
            seen.add((key, id(value)))
            waiting += value.items() if isinstance(value, dict) else [(key, each) for each in value]


def rehearse(params: "Tasks", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Load the tasks that are named, so that a mistake in them is told before minutes of scoring.

    :param tokenizer: the base model's
    :raises UserError: if a task cannot be loaded, or its data is not here, or is not read as it stands
    """
    check(params)
    if params.names:
        from press.quality import lm_eval

        with lm_eval.own_cache():
            lm_eval.check_texts(lm_eval.load(paths(params)), tokenizer)


def run(runtime: "Runtime", params: "Tasks", adapters: list[str], start: Sequence[int]) -> dict[str, dict]:
    """Run the tasks on a captured model, bare and with each adapter.

    :param start: the token that the model's tokenizer puts before every text
    :return: {"tasks": {task: {metric: {"bare" or adapter: value}}}}, empty where no task is named
    """
    if not params.names:
        return {}
    from press.quality import lm_eval

    rungs = {BARE: None} | {name: name for name in adapters}
    return {"tasks": lm_eval.score(runtime, paths(params), params.limit, rungs, start)}
