"""Olive's runs: a failure is one, whatever Olive makes of it."""

import pytest

from press.core import files
from press.model import olive_run

pytestmark = pytest.mark.integration
RTN = {"type": "Rtn", "bits": 4, "group_size": 32}


def model(path) -> dict:
    return {"type": "HfModel", "model_path": str(path)}


def test_a_pass_whose_config_olive_only_prunes_is_a_failure(tiny_base, in_root):
    with pytest.raises(
        RuntimeError, match=r"^Olive gave no model by quantize: it gives no reason but those that it printed"
    ):
        olive_run.run(model(tiny_base), {"quantize": {**RTN, "type": "KQuant", "group_size": -5}}, in_root)


def test_a_librarys_failure_is_the_cause_of_ours(tiny_base, in_root):
    with pytest.raises(
        RuntimeError, match=r"^Olive gave no model by quantize: \w+Error: .*divisible by group_size 24"
    ) as caught:
        olive_run.run(model(tiny_base), {"quantize": {**RTN, "group_size": 24}}, in_root)
    assert "must be divisible by group_size 24" in str(caught.value.__cause__)


def test_the_result_is_the_model_alone_and_the_config_is_kept(tiny_base, in_root):
    result = olive_run.run(model(tiny_base), {"quantize": RTN}, in_root)
    assert [path.name for path in result.iterdir()] == ["model"]
    olive_run.keep_config(in_root, "quantize")
    config = files.read_json(in_root / "reports/olive/quantize.json")
    assert config["passes"] == {"quantize": RTN}


def test_the_input_models_bytes_are_not_digested_for_a_cache_that_is_empty(tiny_base, in_root, monkeypatch):
    from olive.model.config import model_config

    def digested(*_: object, **__: object) -> str:
        raise AssertionError("digested")

    monkeypatch.setattr(model_config, "hash_file", digested)
    olive_run.run(model(tiny_base), {"quantize": RTN}, in_root)


def test_an_earlier_runs_result_is_never_taken(tiny_base, in_root):
    first, second = in_root / "first", in_root / "second"
    first.mkdir()
    second.mkdir()
    olive_run.run(model(tiny_base), {"quantize": RTN}, first)
    config = files.read_json(
        olive_run.run(model(tiny_base), {"quantize": {**RTN, "sym": True}}, second) / "model/config.json"
    )
    assert config["quantization_config"]["symmetric"] is True
    assert files.read_json(second / "run.json")["cache_dir"] != files.read_json(first / "run.json")["cache_dir"]
