"""A search whose trials are jobs asks and tells as one here does, and no machine builds what another one has built."""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from press.cluster import settings
from press.cluster.settings import Cluster, Resources
from press.core import arithmetic, packages
from press.core.errors import UserError
from press.search import experiments, on_cluster, report, running, shared_dvc, sharing
from press.search.settings import Spec
from press.search.sharing import Step
from press.search.study import Study

NOWHERE = {"compute": "cpus", "instance_type": ""}
CLUSTER = Cluster.model_validate(
    {
        "address": "local",
        "retries": 1,
        "minutes": 1,
        "resources": {"default": {"cpus": 1, "memory": 1, "gpus": 0}},
        "azureml": {"cpu": NOWHERE, "gpu": NOWHERE, "spot": False, "identity": "", "image": ""},
    }
)
STEPS = [
    Step("quantize", (), (("quantize",),)),
    Step("finetune@travel", ("quantize",), (("adapters", "travel"),)),
    Step("evaluate@cpu", ("finetune@travel",), (("adapters",), ("quantize",))),
]


def metrics(text: str) -> dict:
    """Return figures that depend on a trial's params.yaml."""
    size = sum(text.encode()) % 997
    adapter = {name: {"adapter": {"loss": 1 + size / 1000}} for name in ("onnx", "pytorch")}
    return {"package": {"bytes": size}, "travel": adapter, "packing": adapter}


def bundle(order: dict) -> str:
    """Return what a machine sends back that has built a trial."""
    return base64.b64encode(json.dumps(metrics(order["params"])).encode()).decode()


class Engine:
    """Two machines that build what they are given when `events` is asked for it, the last one first."""

    def __init__(self, cluster: Cluster, snapshot: bytes) -> None:
        self.waiting: list[tuple[str, dict]] = []
        self.most = 0
        self.orders: list[dict] = []
        self.failures: list[object] = []

    def check(self, stage: str, resources: Resources) -> None:
        """Have room for it."""

    def submit(self, stage: str, order: str, resources: Resources, seconds: float, avoided: object) -> None:
        self.waiting.append((stage, json.loads(order)))
        self.orders.append(self.waiting[-1][1])
        self.most = max(self.most, len(self.waiting))

    def events(self) -> Iterator[tuple[str, str, object]]:
        while self.waiting:
            yield self.waiting[-1][0], "one", ""
            for step in STEPS:
                yield self.waiting[-1][0], "one", f"{shared_dvc.KEPT}{step.stage}\n"
            stage, order = self.waiting.pop()
            failure = self.failures.pop() if self.failures else None
            if isinstance(failure, str):
                yield stage, "one", f"error: {failure}\n"
                failure = {"code": 1, "late": False}
            if failure:
                yield stage, "one", failure
            else:
                yield stage, "one", {"code": 0, "late": False, "bundle": bundle(order)}

    def stop(self) -> None:
        """End nothing."""


class Worker:
    """Builds a trial here."""

    def __init__(self, number: int, lock: int) -> None:
        """Lock nothing."""

    def prepare(self) -> None:
        """Make no clone."""

    remove = stop = prepare

    def build(self, name: str, changes: dict, target: str) -> Path:
        text = running_text(changes)
        folder = Path("built") / name
        path = folder / f"reports/evaluate/{target}/metrics.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(metrics(text)), encoding="utf-8")
        return folder


def running_text(changes: dict) -> str:
    return json.dumps(changes, sort_keys=True)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """Let trials be built by stand-ins; the engines that were started."""
    started: list[Engine] = []

    def take(name: str, baseline: str, text: str, bundle: bytes) -> str:
        return bundle.decode()

    monkeypatch.setattr(settings, "load", lambda: CLUSTER)
    monkeypatch.setattr(on_cluster.coordinator, "where", dict)
    monkeypatch.setattr(on_cluster.shell, "output", lambda *words: "")
    monkeypatch.setattr(on_cluster, "snapshot", bytes)
    monkeypatch.setattr(on_cluster.preset, "edited", lambda text, changes: running_text(changes))
    monkeypatch.setattr(sharing, "steps", lambda wanted: STEPS)
    monkeypatch.setattr(experiments, "known", dict)
    monkeypatch.setattr(experiments, "take", take)
    monkeypatch.setattr(experiments, "git", lambda verb, what: what.rpartition(":")[0] if verb == "show" else "0" * 40)
    monkeypatch.setattr(running, "Worker", Worker)
    monkeypatch.setattr(running.outputs, "verify", lambda where: {})
    return started


def there(spec: Spec, engines: list[Engine], study: str = "there", **named: object) -> list[str]:
    """Search on a cluster, and return what is said."""
    said: list[str] = []

    def start(cluster: Cluster, snapshot: bytes) -> Engine:
        engines.append(Engine(cluster, snapshot))
        engines[-1].failures = list(named.get("failures", []))
        return engines[-1]

    try:
        on_cluster.search(spec, Study(Path(study, "study.db"), spec, "state"), start, said.append)
    except UserError as error:
        said.append(str(error))
    return said


def found(spec: Spec, study: str) -> list[tuple]:
    return [
        (trial.name, trial.values, trial.metrics, trial.violations)
        for trial in Study(Path(study, "study.db"), spec, "state").trials
    ]


def test_one_worker_tries_what_a_search_here_tries(load, engines):
    spec = load(trials=6)
    here = Study(Path("here/study.db"), spec, "state")
    running.search(spec, here, 0, lambda line: None)
    there(spec, engines)
    assert len(here.trials) == 6
    assert found(spec, "there") == found(spec, "here")
    assert report.markdown(spec, report.find(spec, here.trials)).count("search-") > 6
    assert engines[0].most == 1
    assert {order["module"] for order in engines[0].orders} == {"press.search.job"}


def test_trials_run_side_by_side_and_wait_for_what_they_share(load, engines):
    spec = load(trials=9, workers=3, space={"quantize.group_size": [32, 64]} | {"adapters.travel.lora.rank": [4, 8, 9]})
    said = there(spec, engines)
    assert len(found(spec, "there")) == 6
    assert said[-1] == "6 of 9 trials: no other values were found in the space"
    names = [order["name"] for order in engines[0].orders]
    assert sorted(names) == [f"search-000{number}" for number in range(1, 7)]
    # One that was asked for waited for what another one was building, and one after it did not.
    assert names != sorted(names)
    assert 1 < engines[0].most <= 3


def test_what_machines_do_ends_no_trial_and_what_a_stage_says_does(load, engines):
    spec = load(trials=2)
    refused = {"code": 1, "late": False}
    said = there(spec, engines, failures=[refused, OSError("gone")])
    assert "search-0001: its machine failed (gone); it begins again" not in said
    assert [trial[2] is None for trial in found(spec, "there")] == [True, False]
    # Twice is once more than it is begun again; then the search ends, and goes on with that trial.
    away = {"code": shared_dvc.AWAY, "late": False}
    spec = load(trials=4)
    said = there(spec, engines, failures=[away, OSError("gone")])
    assert said[-1].startswith("search-0003: ")
    assert said[-1].endswith("2 of 4 trials are done and kept; the same command goes on from here")
    assert "1 trials were stopped before they ended, and begin again" in there(spec, engines)
    assert [trial[0] for trial in found(spec, "there")] == [f"search-000{number}" for number in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    "refuse", [lambda: packages.check_installed({"none": "1"}), arithmetic._begin_portably], ids=["other", "otherwise"]
)
def test_a_machine_that_stages_refuse_fails_no_trial(load, engines, monkeypatch, refuse):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    monkeypatch.setattr(arithmetic, "_routes", ["there"])
    monkeypatch.setattr(arithmetic, "_self_test", lambda: "0" * 64)
    spec = load(trials=2)
    with pytest.raises(UserError) as refused:
        refuse()
    sentence = str(refused.value)
    said = there(spec, engines, failures=[sentence, sentence])
    assert said[-1].startswith(f"search-0001: {sentence}")
    assert said[-1].endswith("0 of 2 trials are done and kept; the same command goes on from here")
    # On another machine it ends.
    there(spec, engines, failures=[sentence])
    assert [trial[2] is None for trial in found(spec, "there")] == [False, False]


class Refusing(Engine):
    """Builds the trial that was handed out first, and lets a stage refuse a 32."""

    def __init__(self, cluster: Cluster, snapshot: bytes, stage: str) -> None:
        super().__init__(cluster, snapshot)
        self.stage = stage
        self.cancelled: list[str] = []

    def cancel(self, stage: str) -> None:
        self.cancelled.append(stage)
        self.waiting = [each for each in self.waiting if each[0] != stage]

    def events(self) -> Iterator[tuple[str, str, object]]:
        while self.waiting:
            for stage, _ in list(self.waiting):
                yield stage, "one", ""
            stage, order = self.waiting.pop(0)
            if "32" not in order["params"]:
                yield stage, "one", {"code": 0, "late": False, "bundle": bundle(order)}
                continue
            yield stage, "one", f"Running stage '{self.stage}':\n"
            yield stage, "one", "error: it cannot be\n"
            yield stage, "one", {"code": 1, "late": False}


@pytest.mark.parametrize(
    ("stage", "steps", "space", "handed", "cancelled"),
    [
        # The others with that group size wait for the stage that is refused.
        ("quantize", STEPS, ([32, 64], [4, 8, 9]), 1, 0),
        # Behind a stage of its own, another one runs; the last one is not begun.
        (
            "finetune@travel",
            [STEPS[0], Step("finetune@travel", (), STEPS[1].keys), STEPS[2]],
            ([16, 32, 64], [32]),
            2,
            1,
        ),
        # It may be the machine that is refused, or the whole search.
        ("check", STEPS, ([32, 64], [4, 8, 9]), 3, 0),
        ("fetch", [Step("fetch", (), ()), *STEPS], ([32, 64], [4, 8, 9]), 3, 0),
    ],
)
def test_a_trial_with_a_stage_that_was_refused_is_not_built(
    load, engines, monkeypatch, stage, steps, space, handed, cancelled
):
    monkeypatch.setattr(sharing, "steps", lambda wanted: steps)
    sizes, ranks = space
    spec = load(trials=6, workers=6, space={"quantize.group_size": sizes, "adapters.travel.lora.rank": ranks})

    def start(cluster: Cluster, snapshot: bytes) -> Engine:
        engines.append(Refusing(cluster, snapshot, stage))
        return engines[-1]

    study = Study(Path("there/study.db"), spec, "state")
    on_cluster.search(spec, study, start, lambda line: None)
    failed = [trial for trial in study.trials if trial.metrics is None]
    assert (len(study.trials), len(failed)) == (len(sizes) * len(ranks), 3)
    assert sum("32" in order["params"] for order in engines[0].orders) == handed
    assert len(engines[0].cancelled) == cancelled
    one, *others = sorted(failed, key=lambda trial: len(trial.reason))
    assert one.reason == "it cannot be"
    pruned = f"it cannot be (not built: its {stage} is that of {one.name})"
    assert {trial.reason for trial in others} == {pruned if handed - cancelled == 1 else one.reason}


def test_speeds_of_different_machines_are_not_compared(load, engines):
    spec = load(front=["maximize speed.decode", "minimize package.bytes"])
    (said,) = there(spec, engines)
    assert "search names a speed" in said
    assert not engines
