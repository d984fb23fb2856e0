import pytest

from press.cluster import settings
from press.cluster.settings import Cluster
from press.core.errors import UserError


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def test_a_project_need_say_nothing_of_a_cluster(written):
    written.write_text("seed: 42\n", encoding="utf-8")
    assert settings.load() == Cluster()


def test_a_stage_has_its_own_resources_or_the_default(written):
    written.write_text("cluster: {resources: {default: {cpus: 4}, finetune: {gpus: 1}}}\n", encoding="utf-8")
    cluster = settings.load()
    assert (cluster.of("finetune@travel").gpus, cluster.of("finetune@travel").cpus) == (1, 2)
    assert cluster.of("quantize").cpus == 4
    assert Cluster().of("quantize").memory == 4


@pytest.mark.parametrize(
    ("block", "key"),
    [
        ("{resources: {one: {cpus: 0}}}", "cluster.resources.one.cpus"),
        ("{resources: {one: {memory: .inf}}}", "cluster.resources.one.memory"),
        ("{resources: {one: {cores: 2}}}", "cluster.resources.one.cores"),
        ("{retries: -1}", "cluster.retries"),
        ("{minutes: 0}", "cluster.minutes"),
        ("{address: ''}", "cluster.address"),
        ("{engine: slurm}", "cluster.engine"),
    ],
)
def test_what_cannot_be_is_a_sentence(written, block, key):
    written.write_text(f"cluster: {block}\n", encoding="utf-8")
    with pytest.raises(UserError, match=key):
        settings.load()
