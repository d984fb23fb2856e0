"""The pipeline as jobs of Azure ML: the real SDK, and a workspace on loopback that really runs them."""

import io
import json
import re
import signal
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import Project, assert_sentence

from press.cluster import azureml_engine, azureml_jobs, coordinator
from press.cluster.azureml_engine import AzuremlEngine, Running
from press.cluster.azureml_jobs import Seen
from press.cluster.plan import Job, Plan
from press.cluster.settings import Azureml, Cluster, Machine, OnNodes, Resources
from press.core import files
from press.core.errors import UserError

from ..release.azureml_workspace import KEY
from ..release.azurite import Azurite
from .azureml_compute import IDENTITY, AzureCompute
from .conftest import configure, first, lock, train_on_two_nodes

RUN = ("-m", "press.cluster", "run", "azureml")
IMAGE = "press.azurecr.io/olive-press-jobs@sha256:" + "0" * 64
NOWHERE, CLUSTER = {"compute": "", "instance_type": ""}, {"compute": "cpu-cluster", "instance_type": ""}
ON_AZURE = {"cpu": CLUSTER, "gpu": NOWHERE, "spot": False, "identity": "", "image": IMAGE}
SECONDS = 600
# Storage is asked without the proxy that stands for Azure.
DIRECT = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureCompute]:
    with AzureCompute(tmp_path_factory.mktemp("azure")) as running:
        yield running
        assert not running.unexpected


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Where the DVC remote is."""
    with Azurite(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
def there(project: Project, azure: AzureCompute, store: Azurite, tmp_path: Path) -> Project:
    """The project with its remote in Azure's blob storage: who submits has its key, and so has each machine."""
    project.environment |= {**azure.environment, **DIRECT, "MINE": "my-own-word"}
    project.run("dvc", "remote", "add", "--force", "--default", "storage", f"azure://models/{tmp_path.name}")
    project.run("dvc", "remote", "modify", "--local", "storage", "connection_string", store.connection_string)
    azure.machine["AZURE_STORAGE_CONNECTION_STRING"] = store.connection_string
    azure.executions.clear()
    put(project)
    return project


def put(project: Project, **changes: object) -> None:
    """Let the project's jobs run on Azure ML."""
    resources = {"default": {"cpus": 1, "memory": 0.1, "gpus": 0}}
    block = {"retries": 1, "minutes": 30, "resources": resources, "azureml": {**ON_AZURE, **changes}}
    configure(project, block)


def wait_until(condition) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.2)


JOB = """
import json, os, pathlib, sys
order = json.loads(sys.stdin.readline())
print("this is", order["stage"], os.environ["AZURE_CLIENT_ID"], flush=True)
if order["waits"]:
    sys.stdin.read()  # which ends with the worker, and so does the job
    sys.exit(1)
pathlib.Path("job.json").write_text(json.dumps({"entry": order["stage"]}))
sys.exit(order["code"])
"""


def project_with(job: str) -> bytes:
    """A project whose jobs are a script."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in {
            "press/__init__.py": "",
            "press/cluster/__init__.py": "",
            "press/cluster/job.py": job,
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


@pytest.mark.integration
def test_jobs_end_well_or_not_or_lose_their_machine_or_are_cancelled(azure, monkeypatch, tmp_path):
    for name, value in (azure.environment | DIRECT).items():
        monkeypatch.setenv(name, value)
    asked = {"cpus": 1, "memory": 1, "gpus": 0}
    block = {"address": "auto", "retries": 1, "minutes": 30, "resources": {"default": asked}, "azureml": ON_AZURE}
    cluster = Cluster.model_validate(block)
    params = azureml_engine.release_settings.load()
    monkeypatch.setattr(azureml_engine.release_settings, "load", lambda: params)
    monkeypatch.setattr(azureml_engine.shell, "output", lambda *words: "c0ffee")
    monkeypatch.chdir(tmp_path)
    azure.lost.append("lost")
    made = AzuremlEngine(cluster, project_with(JOB))
    made._process.call = lambda function, *arguments, seconds: function(*arguments)

    def begin(stage: str, *, waits: bool = False, code: int = 0) -> None:
        order = json.dumps({"stage": stage, "waits": waits, "code": code})
        made.submit(stage, order, cluster.resources["default"], 600, [])

    made.check("well", cluster.resources["default"])
    begin("well")
    begin("badly", code=3)
    begin("lost", waits=True)
    begin("cancelled", waits=True)
    said: dict[str, list] = {}
    for stage, machine, each in made.events():
        assert machine == ""
        said.setdefault(stage, []).append(each)
        if each == f"this is cancelled {IDENTITY}\n":
            azureml_jobs.cancel(made._workspace, [azure.of(stage)[0].name])
    assert said["well"][1:] == [f"this is well {IDENTITY}\n", {"entry": "well", "code": 0, "late": False}]
    assert said["badly"][1:] == [f"this is badly {IDENTITY}\n", {"code": 3, "late": False}]
    assert type(said["lost"][-1]) is RuntimeError
    assert "is Failed, and it left no result" in str(said["lost"][-1])
    assert type(said["cancelled"][-1]) is UserError
    assert [azure.of(stage)[0].status for stage in said] == ["Completed", "Failed", "Failed", "Canceled"]

    # What is left when the run is stopped is cancelled, and so is what an earlier run left.
    begin("left", waits=True)
    made.stop()
    assert azure.of("left")[0].status == "Canceled"
    assert files.read_json(azureml_engine.RUNNING) == {"jobs": []}


@pytest.mark.integration
def test_a_training_on_two_nodes_is_one_job_on_two_machines_that_meet_and_no_job_knows_a_secret(azure, there):
    train_on_two_nodes(there)
    variables = f"""
import os
assert "MINE" not in os.environ
assert os.environ["AZURE_CLIENT_ID"] == {IDENTITY!r}
"""
    first(there, "one", variables)
    there.run("git", "remote", "add", "origin", "ssh://me:pass-word@example.com/press.git")
    # Its machine is lost once.
    azure.lost.append("one")
    result = there.module("press.cluster", "run", "azureml")
    assert result.returncode == 0, result.stderr
    assert "one: its machine failed (Azure ML says of one-" in result.stdout
    assert [each.status for each in azure.of("one")] == ["Failed", "Completed"]
    assert "finetune@travel: 2 machines of 1 cores, 0.1 GB on cpu-cluster after one" in result.stdout
    assert "Running stage 'one':" in there.module("press.cluster", "logs", "one").stdout
    (execution,) = azure.of("finetune@travel")
    places = []
    for rank in range(2):
        name = f"ExperimentRun/dcid.{execution.name}/user_logs/std_log_process_{rank}.txt"
        said = azure.artifacts.download_blob(name).readall().decode()
        places.append(re.search(rf"^{rank} of 2 met the others in (\S+)$", said, re.MULTILINE)[1])
    assert f"finetune@travel | 0 of 2 met the others in {places[0]}\n" in result.stdout
    assert "1 of 2 met" not in result.stdout
    assert len({Path(place).parent for place in places}) == 2
    assert (there.folder / "one.txt").read_text(encoding="utf-8") == "one 42"
    assert (there.folder / "reports/one.json").read_text(encoding="utf-8") == "42"
    assert (there.folder / "travel.txt").read_text(encoding="utf-8") == "trained by 2"
    assert set(lock(there)["stages"]) == {"check", "one", "finetune@travel"}
    (environment,) = azure.environments
    assert environment["image"] == IMAGE

    # Nothing that was sent, stored or said has a key, a password or what the submitter's variables hold.
    told = json.dumps([each.asked for each in azure.executions.values()]).encode()
    held = [azure.storage.read(name) for name in azure.storage.blobs()]
    said = [azure.artifacts.download_blob(name).readall() for name in azure.artifacts.list_blob_names()]
    for secret in (KEY, azure.environment["AZURE_CLIENT_SECRET"], "pass-word", "my-own-word"):
        assert not any(secret.encode() in text for text in (told, *held, *said)), secret


@pytest.mark.integration
def test_what_a_killed_or_interrupted_run_left_is_cancelled_and_a_stage_that_fails_is_a_sentence(
    azure, there, tmp_path
):
    wait = f"""
import time
from press.core.errors import UserError
Path({str(tmp_path)!r}, f"running-{{time.monotonic()}}").touch()
if Path({str(tmp_path / "fail")!r}).exists():
    raise UserError("one cannot be done")
time.sleep({SECONDS})
"""
    first(there, "one", wait)

    def begun(times: int) -> bool:
        return len(list(tmp_path.glob("running-*"))) == times and len(azure.of("two")) == 1

    killed = there.start(sys.executable, *RUN)
    wait_until(lambda: begun(1))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (old,) = azure.of("one")
    assert old.status == "Running"

    interrupted = there.start(sys.executable, *RUN)
    wait_until(lambda: begun(2) or len(list(tmp_path.glob("running-*"))) == 2)
    assert old.status == "Canceled"
    wait_until(lambda: azure.of("one")[-1].status == "Running")
    interrupted.send_signal(signal.SIGINT)
    said, errors = interrupted.communicate(timeout=SECONDS)
    assert interrupted.returncode == 130, errors
    assert f"cancelling on Azure ML, where an earlier run left them: {old.name}" in said
    assert f"cancelling on Azure ML: {azure.of('one')[-1].name}" in said
    assert azure.of("one")[-1].status == "Canceled"
    assert files.read_json(there.folder / azureml_engine.RUNNING) == {"jobs": []}

    (tmp_path / "fail").touch()
    failed = there.module("press.cluster", "run", "azureml")
    assert_sentence(failed, "one: one cannot be done (`make logs JOB=one`)")
    assert "the same command goes on from here" in failed.stderr


@pytest.mark.integration
@pytest.mark.parametrize(
    ("changes", "asked", "sentences"),
    [
        ({"cpu": NOWHERE}, {}, ["cluster.azureml.cpu is empty, but there are jobs that ask for no GPU"]),
        ({}, {"gpus": 1}, ["cluster.azureml.gpu is empty, but there are jobs that ask for 1 GPUs"]),
        (
            {"cpu": {"compute": "other", "instance_type": ""}},
            {},
            ["one: the workspace press-workspace of press-group has no compute other", "make it, or name another one"],
        ),
        ({}, {"cpus": 8}, ["one asks for 8 cores, which Standard_DS3_v2 has not"]),
        (
            {"gpu": {"compute": "", "instance_type": "Standard_NC24ads_A100_v4"}},
            {"gpus": 2},
            ["one asks for 2 GPUs, which Standard_NC24ads_A100_v4 has not"],
        ),
        ({}, {"nodes": 5}, ["one asks for 5 machines at once, but cpu-cluster has 4 at most"]),
        ({"spot": True}, {}, ["cluster.azureml.spot is true, but the machines of cpu-cluster are dedicated"]),
    ],
)
def test_what_the_workspace_has_not_is_a_sentence_before_anything_runs(azure, monkeypatch, changes, asked, sentences):
    for name, value in azure.environment.items():
        monkeypatch.setenv(name, value)
    azureml = Azureml.model_validate({**ON_AZURE, **changes})
    kind = OnNodes if "nodes" in asked else Resources
    resources = kind.model_validate({"cpus": 1, "memory": 1, "gpus": 0, **asked})
    made = object.__new__(AzuremlEngine)
    made._settings, made._checked = azureml, set()
    made._workspace = azureml_engine.located(azureml_engine.release_settings.load().publish.azureml)
    made._ask = lambda function, *arguments: function(made._workspace, *arguments)
    with pytest.raises(UserError) as refused:
        made.check("one", resources)
    for sentence in sentences:
        assert sentence in str(refused.value)


@pytest.mark.integration
def test_an_environment_is_built_of_the_locks_where_no_image_is_named(azure, monkeypatch):
    for name, value in (azure.environment | DIRECT).items():
        monkeypatch.setenv(name, value)
    params = azureml_engine.located(azureml_engine.release_settings.load().publish.azureml)
    project, environment = azureml_jobs.prepare(params, b"a project", "")
    built = azure.environment_versions[environment.removeprefix("azureml:")]["properties"]["build"]
    assert built["dockerfilePath"] == "Dockerfile.jobs"
    context = built["contextUri"].partition("/models/")[2]
    for path in (azureml_jobs.DOCKERFILE, *azureml_jobs.LOCKS):
        assert azure.storage.read(f"{context}{path.name}") == path.read_bytes()
    place = project.partition("/paths/")[2]
    assert azure.storage.read(f"{place}project.tar.gz") == b"a project"
    count = len(azure.environments)
    assert azureml_jobs.prepare(params, b"a project", "") == (project, environment)
    assert len(azure.environments) == count


def engine(**jobs: str) -> AzuremlEngine:
    """An engine that has begun jobs, and asks nobody."""
    made = object.__new__(AzuremlEngine)
    made._jobs = {name: Running(stage) for name, stage in jobs.items()}
    made._left = []
    return made


def seen(status: str, log: str = "", *, again: bool = False, result: dict | None = None) -> Seen:
    return Seen(status, log.encode(), again, result)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("gpus", "spot", "place"),
    [
        (0, False, "cpu-cluster"),
        (1, False, "serverless Standard_NC24ads_A100_v4"),
        (1, True, "serverless Standard_NC24ads_A100_v4, spot"),
    ],
)
def test_the_plan_says_where_a_job_runs(gpus, spot, place, capsys):
    a100 = {"compute": "", "instance_type": "Standard_NC24ads_A100_v4"}
    asked = {"cpus": 8, "memory": 64, "gpus": gpus}
    block = {"address": "auto", "retries": 1, "minutes": 30, "resources": {"default": asked}}
    cluster = Cluster.model_validate({**block, "azureml": {**ON_AZURE, "gpu": a100, "spot": spot}})
    job = Job("one", frozenset(), (), (), (), cluster.resources["default"], None)
    coordinator.show(Plan((job,), ()), cluster, AzuremlEngine)
    gpus_asked = ", 1 GPUs" if gpus else ""
    assert capsys.readouterr().out.startswith(f"one: 8 cores, 64 GB{gpus_asked} on {place}\n")


@pytest.mark.unit
def test_a_line_is_told_once_and_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = engine(a="one")
    assert list(made._said("a", seen("Queued"))) == []
    assert list(made._said("a", seen("Running", "1\nhal"))) == [("one", "", "1\n")]
    assert made._jobs["a"].read == 2
    assert list(made._said("a", seen("Running", "half\n"))) == [("one", "", "half\n")]
    # A machine that was taken away: the job begins anew, and so does its log.
    assert list(made._said("a", seen("Running", "1\n", again=True))) == [("one", "", "1\n")]
    assert made._jobs["a"].read == 2
    done = {"code": 0, "late": False}
    assert list(made._said("a", seen("Completed", "end", result=done))) == [("one", "", "end"), ("one", "", done)]
    assert made._jobs == {}
    assert files.read_json(azureml_engine.RUNNING) == {"jobs": []}


@pytest.mark.unit
@pytest.mark.parametrize(
    ("status", "kind"),
    [("Failed", RuntimeError), ("NotResponding", RuntimeError), ("Completed", RuntimeError), ("Canceled", UserError)],
)
def test_a_job_without_a_result_is_its_machines_fault_unless_somebody_cancelled_it(status, kind):
    end = azureml_engine._end("one-1", seen(status))
    assert type(end) is kind
    assert "one-1" in str(end)


@pytest.mark.unit
def test_a_job_that_does_not_respond_is_cancelled_before_another_begins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, asked = engine(a="one"), []
    made._ask = lambda function, *arguments: asked.append((function.__name__, *arguments))
    ((_, _, end),) = made._said("a", seen("NotResponding"))
    assert asked == [("cancel", ["a"])]
    assert type(end) is RuntimeError


@pytest.mark.unit
def test_one_job_is_cancelled_and_the_others_run_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, asked = engine(a="one", b="two"), []
    made._ask = lambda function, *arguments: asked.append((function.__name__, *arguments))
    for stage in ("two", "three"):
        made.cancel(stage)
    assert asked == [("cancel", ["b"])]
    assert files.read_json(azureml_engine.RUNNING) == {"jobs": ["a"]}


@pytest.mark.unit
def test_a_stage_fails_where_azure_ml_takes_no_job_and_what_it_may_have_begun_is_cancelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, asked = engine(), []
    made._news, made._prepared, made._commit = azureml_engine.deque(), ("project", "environment"), "c0ffee"
    made._settings = Azureml.model_validate(ON_AZURE)

    def ask(function, *arguments, **_):
        asked.append(function.__name__)
        if function is azureml_jobs.submit:
            assert files.read_json(azureml_engine.RUNNING) == {"jobs": [arguments[0].name]}
            raise UserError("no quota")

    made._ask = ask
    made.submit("finetune@a,b", "{}", Resources(cpus=1, memory=1, gpus=0), 60, [])
    assert asked == ["submit", "cancel"]
    ((stage, machine, said),) = made.events()
    assert (stage, machine, str(said)) == ("finetune@a,b", "", "no quota")


@pytest.mark.unit
@pytest.mark.parametrize(
    ("text", "result"),
    [
        (b'{"code": 1, "late": false}', {"code": 1, "late": False}),
        (b"", None),
        (b'{"code": 1', None),
        (b"[]", None),
        (b'{"code": "1", "late": false}', None),
        (b'{"late": false}', None),
    ],
)
def test_a_result_is_whole_or_none(text, result):
    assert azureml_jobs._result(text) == result


@pytest.mark.unit
def test_a_definition_names_places_an_identity_and_limits_and_holds_nothing_else():
    from azure.ai.ml._restclient.arm_ml_service._utils.model_base import SdkJSONEncoder

    def told(machine: Machine, *, spot: bool, identity: str) -> dict:
        asked = azureml_jobs.Asked(
            name="one-1",
            stage="one",
            order='{"lock": "of the order"}',
            machine=machine,
            nodes=1,
            seconds=600.0,
            spot=spot,
            identity=identity,
            project="azureml://datastores/workspaceblobstore/paths/project/",
            environment=f"azureml:{azureml_jobs.ENVIRONMENT}:1",
            commit="c0ffee",
        )
        job = azureml_jobs.definition(asked, "azureml://datastores/workspaceblobstore/paths/order.json")
        return json.loads(json.dumps(job._to_job()._to_rest_object(), cls=SdkJSONEncoder, exclude_readonly=True))[
            "properties"
        ]

    a100 = Machine(compute="", instance_type="Standard_NC24ads_A100_v4")
    serverless = told(a100, spot=True, identity=IDENTITY)
    assert serverless["resources"]["instanceType"] == "Standard_NC24ads_A100_v4"
    assert serverless["queueSettings"] == {"jobTier": "Spot"}
    assert serverless["identity"] == {"identityType": "Managed", "clientId": IDENTITY}
    assert serverless["environmentVariables"] == {"AZURE_CLIENT_ID": IDENTITY}
    assert serverless["limits"]["timeout"] == "PT40M"
    assert "computeId" not in serverless
    assert told(a100, spot=False, identity="")["queueSettings"] == {"jobTier": "Standard"}

    on_cluster = told(Machine(compute="cpu-cluster", instance_type=""), spot=False, identity="")
    assert on_cluster["computeId"] == "cpu-cluster"
    assert "queueSettings" not in on_cluster
    assert on_cluster["identity"] == {"identityType": "Managed"}
    assert on_cluster["environmentVariables"] == {}
    assert on_cluster["properties"] == {"mlflow.source.git.commit": "c0ffee"}
    assert on_cluster["command"] == "python ${{inputs.project}}/worker.py ${{inputs.order}} 600"
    assert "of the order" not in json.dumps(on_cluster)
