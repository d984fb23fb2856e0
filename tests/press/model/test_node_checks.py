"""A training on several nodes is refused where nobody has started the others."""

import pytest
from parameters import changed

from press.core import dvc_files
from press.core.errors import UserError
from press.model import node_checks, nodes
from press.params import settings


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (nodes.ADDRESS, nodes.CLUSTER):
        monkeypatch.delenv(name, raising=False)


def test_a_training_for_which_the_others_are_missing_is_refused(monkeypatch, tmp_path):
    params = settings.load(changed(tmp_path, {("adapters", "travel", "training", "nodes"): 2}))
    monkeypatch.setattr(dvc_files, "recorded", dict)
    with pytest.raises(UserError, match=r"^params.yaml: adapters.travel.training.nodes is 2, but nothing says where"):
        node_checks.check(params)
    # What was trained so may be used anywhere.
    done = {"reports/adapters/travel.json": {"training": params.adapter("travel").training.model_dump()}}
    monkeypatch.setattr(dvc_files, "recorded", lambda: {"finetune@travel": {"params": done}})
    node_checks.check(params)
    monkeypatch.setattr(dvc_files, "recorded", dict)
    monkeypatch.setenv(nodes.CLUSTER, "1")
    node_checks.check(params)
