"""The type of the block `search` of params.yaml, which no stage reads: a change of it reruns nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import Field, JsonValue, field_validator

from press.core import paths
from press.core.errors import UserError
from press.params import checks, gates, reading, resolving, schema, settings
from press.params.schema import Block, Name, Positive
from press.search import space
from press.search.objectives import Objective

T = TypeVar("T")

# The metrics that no stage makes, since timings cannot be made again: speed.decode, speed.adapter.
SPEED = "speed"


class Search(Block):
    target: Name
    objective: Annotated[list[str], Field(min_length=1)]
    constraints: list[str]
    front: Annotated[list[str], Field(min_length=1)]
    trials: Positive
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    workers: Positive
    space: dict[str, JsonValue]

    @field_validator("objective", mode="before")
    @classmethod
    def one_objective_needs_no_list(cls, objective: object) -> object:
        return [objective] if isinstance(objective, str) else objective


class Params(Block):
    """What params.yaml says about the search."""

    search: Search


@dataclass(frozen=True)
class Spec:
    """A search that has been checked: nothing about it can be refused any more."""

    params: settings.Settings
    search: Search
    dimensions: list[space.Dimension]
    objectives: list[Objective]
    front: list[Objective]
    constraints: list[str]

    @property
    def target(self) -> str:
        """Name of the target whose package is built and judged."""
        return self.search.target

    @property
    def adapters(self) -> list[str]:
        """Names of the adapters."""
        return list(self.params.adapters)

    @property
    def measures_speed(self) -> bool:
        """Whether anything of the search is about speed."""
        expressions = [each.expression for each in (*self.objectives, *self.front)] + self.constraints
        return any(name.startswith(f"{SPEED}.") for text in expressions for name in gates.METRIC.findall(text))


def load() -> Spec:
    """Read and validate params.yaml, or raise UserError with one sentence for each mistake."""
    resolved = resolving.Resolved()
    params = settings.validated(resolved)
    checks.check(params, resolved)
    return _checked(params, reading.chosen(Params, schema.PATTERNS).search)


def _checked(params: settings.Settings, search: Search) -> Spec:
    if search.target not in params.targets:
        targets = ", ".join(params.targets)
        raise UserError(f"{paths.PARAMS}: search.target is {search.target!r}, but must be one of {targets}")
    for constraint in search.constraints:
        _named("search.constraints", gates.check, constraint)
    spec = Spec(
        params=params,
        search=search,
        dimensions=space.parse(search.space, params.model_dump()),
        objectives=[_named("search.objective", Objective.parse, text) for text in search.objective],
        front=[_named("search.front", Objective.parse, text) for text in search.front],
        # A package that fails a gate cannot be published.
        constraints=[*params.gates, *search.constraints],
    )
    about = {
        "search.constraints": search.constraints,
        "search.objective": [objective.expression for objective in spec.objectives],
        "search.front": [objective.expression for objective in spec.front],
    }
    for key, texts in about.items():
        for text in texts:
            _named(
                key, lambda each: gates.check_subjects(each, params.adapters, [*checks.subjects(params), SPEED]), text
            )
    if spec.measures_speed and SPEED in params.adapters:
        raise UserError(
            f"{paths.PARAMS}: adapters has {SPEED!r}, whose metrics would be taken for the search's own "
            f"{SPEED}.*: choose another name for the adapter, or leave speeds out of the search"
        )
    if spec.measures_speed and search.workers > 1:
        raise UserError(
            f"{paths.PARAMS}: search.workers is {search.workers}, but must be 1 where speed counts: trials side by "
            "side slow each other down"
        )
    return spec


def _named(key: str, read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except UserError as error:
        raise UserError(f"{paths.PARAMS}: {key}: {error}") from error
