"""The trials of a search, kept in an Optuna study, so that a search that was stopped goes on.

A study belongs to a state of the project (the committed files) and to what the search is after; its trials are told
apart by their parameters. Each suggestion has its own seed, so that a search that was stopped and resumed suggests
what it would have suggested in one go.
"""

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from press.search import objectives, space
from press.search.settings import Spec

PREFIX = "search"
NAME = re.compile(rf"{PREFIX}-(\d{{4,}})")
# The constraint of a trial that could not be built at all, and by how much it is missed: by more than all others.
BUILT, UNBUILT = "it can be built", 1e6
# How often the sampler may suggest what is known before a new point is drawn at random, or none is found.
PATIENCE, TRIES = 10, 200


@dataclass(frozen=True)
class Trial:
    """A trial that ended: its experiment, parameters, and metrics or the reason for which it failed."""

    name: str
    values: dict[str, object]
    metrics: dict | None
    reason: str | None
    seconds: float
    violations: dict[str, float]

    @property
    def feasible(self) -> bool:
        """Whether it was built and satisfies all constraints."""
        return self.metrics is not None and all(value <= 0 for value in self.violations.values())


@dataclass(frozen=True)
class Ticket:
    """A trial to be run."""

    name: str
    values: dict[str, object]
    trial: optuna.Trial = field(repr=False)
    started: float


class Study:
    """The trials of one search."""

    def __init__(self, path: Path, spec: Spec, state: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.spec = spec
        self._storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
        # Studies of the same state and target share what their trials found.
        self._family = _digest({"state": state, "target": spec.target})
        kept = spec.search.model_dump(exclude={"trials", "workers", "front"})
        # Trials without a speed say nothing to a search that asks for it.
        kept["speed"] = spec.measures_speed
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=f"{self._family}/{_digest(kept)}",
            directions=[each.direction for each in spec.objectives],
            load_if_exists=True,
        )
        self._distributions: dict[str, BaseDistribution] = {each.key: each.distribution for each in spec.dimensions}
        self._known = self._read_known()

    @property
    def trials(self) -> list[Trial]:
        """The trials that ended, each set of parameters once, in the order of their names."""
        by_key = {}
        for frozen in self._ended():
            key = _key(self._values(frozen.params))
            if key in self._known:
                by_key[key] = self._known[key]
        return sorted(by_key.values(), key=lambda trial: trial.name)

    def resume(self) -> int:
        """Let what ran or was to run again when the last search was stopped be the next trials; return how many."""
        for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(frozen.number, state=TrialState.FAIL)
            if frozen.params.keys() == self._distributions.keys():
                self._again(frozen.params, frozen.user_attrs.get("name"))
        return self._forget_queued()

    def retry(self) -> int:
        """Let the trials that failed be the next ones, under their names; return how many."""
        failed = {}
        for frozen in self._ended():
            trial = self._known.get(_key(self._values(frozen.params)))
            if trial and trial.metrics is None:
                failed[trial.name] = frozen.params
        for name, params in sorted(failed.items()):
            self._again(params, name)
        self._forget_queued()
        return len(failed)

    def begin(self, params: dict) -> bool:
        """Let the first trial be what params.yaml says; return False if that lies outside the space."""
        if not self._study.get_trials(deepcopy=False):
            now = space.current(self.spec.dimensions, params)
            if now is None:
                return False
            self._study.enqueue_trial(now)
        return True

    def ask(self, taken: set[str], running: list[Ticket]) -> Ticket | None:
        """Return a trial with parameters that no other trial has and params.yaml may have, None if none is found.

        :param taken: names of experiments that are not to be used again
        """
        for attempt in range(TRIES):
            if self._is_exhausted(running):
                return None
            trial = self._suggest(at_random=attempt >= PATIENCE)
            values = self._values(trial.params)
            known = self._known.get(_key(values))
            if known:
                self._tell(trial, known)
            elif any(_key(ticket.values) == _key(values) for ticket in running):
                trial.set_user_attr("ended", True)
                self._study.tell(trial, state=TrialState.FAIL)
            elif reason := space.refusal(self.spec.dimensions, values, self.spec.params.model_dump()):
                # Nothing would be built: the sampler learns from it, but it is no trial.
                trial.set_user_attr("refused", True)
                self._tell(trial, Trial("", values, None, reason, 0.0, {}))
            else:
                name = trial.user_attrs.get("name") or self._next_name(taken)
                trial.set_user_attr("name", name)
                return Ticket(name, values, trial, time.monotonic())
        return None

    def finish(self, ticket: Ticket, metrics: dict) -> Trial:
        """Record a trial's metrics."""
        violations = objectives.violations(self.spec.constraints, metrics, self.spec.adapters)
        return self._end(Trial(ticket.name, ticket.values, metrics, None, _seconds(ticket), violations), ticket)

    def fail(self, ticket: Ticket, reason: str) -> Trial:
        """Record why a trial failed."""
        return self._end(Trial(ticket.name, ticket.values, None, reason, _seconds(ticket), {}), ticket)

    def _again(self, params: dict, name: str | None) -> None:
        self._study.enqueue_trial(params, user_attrs={"name": name})

    def _forget_queued(self) -> int:
        """Forget the failures of trials that are queued, or they would not be tried again; return how many are."""
        queued = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        names = {each.user_attrs["name"] for each in queued if "name" in each.user_attrs}
        kept = self._known.items()
        self._known = {key: trial for key, trial in kept if trial.metrics is not None or trial.name not in names}
        return len(names)

    def _ended(self) -> list[FrozenTrial]:
        return [each for each in self._study.get_trials(deepcopy=False) if _has_ended(each)]

    def _is_exhausted(self, running: list[Ticket]) -> bool:
        """Tell whether all of the space was tried, is being tried, or was refused."""
        refused = {_key(self._values(each.params)) for each in self._ended() if "refused" in each.user_attrs}
        return len(self.trials) + len(refused) + len(running) >= space.size(self.spec.dimensions)

    def _end(self, trial: Trial, ticket: Ticket) -> Trial:
        ticket.trial.set_user_attr("metrics", trial.metrics)
        ticket.trial.set_user_attr("reason", trial.reason)
        ticket.trial.set_user_attr("seconds", trial.seconds)
        self._tell(ticket.trial, trial)
        self._known[_key(trial.values)] = trial
        return trial

    def _tell(self, trial: optuna.Trial, ended: Trial) -> None:
        metrics = ended.metrics
        values = self._worst() if metrics is None else [each.value(metrics) for each in self.spec.objectives]
        trial.set_user_attr("ended", True)
        # The sampler learns nothing from what Optuna calls a failed trial.
        for constraint, violation in {BUILT: UNBUILT * (metrics is None), **ended.violations}.items():
            trial.set_constraint(constraint, violation)
        self._study.tell(trial, values)

    def _worst(self) -> list[float]:
        """Return the worst value so far of each objective: what a trial is told to have that has none."""
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        columns = zip(*(each.values for each in complete), strict=True)
        worst = [max(column, key=each.cost) for each, column in zip(self.spec.objectives, columns, strict=False)]
        return worst or [0.0] * len(self.spec.objectives)

    def _suggest(self, *, at_random: bool) -> optuna.Trial:
        # Those that were stopped are suggested again, and so do not count.
        trials = self._study.get_trials(deepcopy=False)
        count = sum(_has_ended(each) or each.state == TrialState.RUNNING for each in trials)
        (seed,) = np.random.SeedSequence([self.spec.search.seed, count]).generate_state(1)
        samplers = optuna.samplers
        self._study.sampler = samplers.RandomSampler(int(seed)) if at_random else samplers.TPESampler(seed=int(seed))
        return self._study.ask(self._distributions)

    def _values(self, params: Mapping[str, object]) -> dict[str, object]:
        return {each.key: each.value(params[each.key]) for each in self.spec.dimensions}

    def _next_name(self, taken: set[str]) -> str:
        names = taken | {
            str(frozen.user_attrs.get("name"))
            for study in optuna.get_all_study_names(self._storage)
            for frozen in optuna.load_study(study_name=study, storage=self._storage).get_trials(deepcopy=False)
        }
        numbers = [int(match[1]) for name in names if (match := NAME.fullmatch(name))]
        return f"{PREFIX}-{max(numbers, default=0) + 1:04}"

    def _read_known(self) -> dict[str, Trial]:
        """Return the trials of all studies of this state that tell all that this search asks for, by parameters."""
        known: dict[str, Trial] = {}
        for name in optuna.get_all_study_names(self._storage):
            if name.startswith(f"{self._family}/"):
                for frozen in optuna.load_study(study_name=name, storage=self._storage).get_trials(deepcopy=False):
                    if "seconds" in frozen.user_attrs and frozen.params.keys() == self._distributions.keys():
                        self._remember(frozen, known)
        return known

    def _remember(self, frozen: FrozenTrial, known: dict[str, Trial]) -> None:
        attributes = frozen.user_attrs
        metrics = attributes["metrics"]
        if metrics is not None and self.spec.measures_speed and "speed" not in metrics:
            return
        violations = {} if metrics is None else self._violations(metrics)
        try:
            values = self._values(frozen.params)
        except StopIteration:
            # A choice of another search.
            return
        name, reason, seconds = (attributes[key] for key in ("name", "reason", "seconds"))
        # What was tried again may have failed once.
        if metrics is not None or _key(values) not in known:
            known[_key(values)] = Trial(name, values, metrics, reason, seconds, violations)

    def _violations(self, metrics: dict) -> dict[str, float]:
        return objectives.violations(self.spec.constraints, metrics, self.spec.adapters)


def _has_ended(frozen: FrozenTrial) -> bool:
    return frozen.state.is_finished() and frozen.user_attrs.get("ended", False)


def _seconds(ticket: Ticket) -> float:
    return round(time.monotonic() - ticket.started, 1)


def _key(values: Mapping[str, object]) -> str:
    return json.dumps(values, sort_keys=True)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
