import pytest

from press.cluster import coordinator, plan, settings
from press.cluster.ray_engine import RayEngine
from press.core.errors import UserError


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


ASKED = "{cpus: 4, memory: 8, gpus: 0}"
MACHINES = "cpu: {compute: cpus, instance_type: ''}, gpu: {compute: '', instance_type: Standard_NC24ads_A100_v4}"
AZUREML = f"azureml: {{{MACHINES}, spot: false, identity: '', image: ''}}"
BLOCK = f"cluster: {{address: auto, retries: 2, minutes: 240, resources: {{default: {ASKED}}}, {AZUREML}}}\n"


def test_a_stage_has_its_own_resources_or_the_default(written):
    own = "finetune: {cpus: 8, memory: 24, gpus: 1}"
    written.write_text(BLOCK.replace(ASKED, f"{ASKED}, {own}"), encoding="utf-8")
    cluster = settings.load()
    assert settings.resources(cluster, "finetune@travel").gpus == 1
    assert settings.resources(cluster, "quantize").cpus == 4


def test_a_job_on_more_machines_than_there_are_is_refused(written):
    written.write_text(BLOCK, encoding="utf-8")
    asked = settings.resources(settings.load(), "finetune@travel", 3)
    job = plan.Job("finetune@travel", frozenset(), (), (), (), asked, None)

    class Two(RayEngine):
        def __init__(self):
            """Without a cluster."""

        def _machines(self, resources):
            return {"one", "two"}

    with pytest.raises(UserError, match=r"asks for 4 cores, .* GPUs on each of 3 machines, which 2 machines of"):
        coordinator.check(plan.Plan((job,), ()), Two())


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("cpus: 4", "cpus: 0", "cluster.resources.default.cpus is 0"),
        ("memory: 8", "memory: .inf", "cluster.resources.default.memory"),
        ("cpus: 4", "cores: 4", "cluster.resources.default.cores is not a known key"),
        ("retries: 2", "retries: -1", "cluster.retries is -1"),
        ("minutes: 240", "minutes: 0", "cluster.minutes is 0"),
        ("address: auto", "address: ''", "cluster.address"),
        ("address: auto", "engine: slurm", "cluster.engine is not a known key"),
        ("default: ", "finetune: ", "cluster.resources: it lacks default"),
        ("retries: 2, ", "", "cluster.retries is missing"),
        ("compute: cpus, instance_type: ''", "compute: cpus, instance_type: D2", "leave one of them empty"),
        ("compute: cpus", "compute: my cpus", "cluster.azureml.cpu.compute is 'my cpus', but must be the name of a"),
        ("Standard_NC24ads_A100_v4", "A100 80GB", "cluster.azureml.gpu.instance_type is 'A100 80GB'"),
        ("spot: false", "spot: cheap", "cluster.azureml.spot"),
        ("identity: ''", "identity: me", "cluster.azureml.identity is 'me', but must be the client id"),
        ("image: ''", "image: 'press:latest'", "cluster.azureml.image is 'press:latest', but must be an image by its"),
    ],
)
def test_what_cannot_be_is_a_sentence(written, old, new, complaint):
    assert old in BLOCK
    written.write_text(BLOCK.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=complaint):
        settings.load()


def test_a_project_without_the_block_is_told_so(written):
    written.write_text("seed: 42\n", encoding="utf-8")
    with pytest.raises(UserError, match="cluster is missing"):
        settings.load()
