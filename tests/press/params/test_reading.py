"""params.yaml is read strictly, whatever the order of its keys."""

import json

import pytest
import yaml
from parameters import GIVEN, KEYS, PARAMS, ROOT, TRAVEL, complaint

from press.params import resolving, settings


def test_the_project_s_own_parameters_load():
    params = settings.load(ROOT / "params.yaml")
    assert params.seed == PARAMS["seed"]
    assert params.adapter("travel").lora.rank == TRAVEL["lora"]["rank"]
    assert params.model_dump() == {block: PARAMS[block] for block in PARAMS.keys() - resolving.OUTSIDE}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"seed: 42\nbase: [1\n", "is not valid YAML at line 3, column 1: expected ',' or ']', but got '<stream end>'"),
        (
            b"seed: 42\n\tthreads: 2\n",
            "is not valid YAML at line 2, column 1: found character '\\t' that cannot start any token",
        ),
        (b"seed: \x00\n", "is not valid YAML: unacceptable character #x0000"),
        ("seed: 42 # Flåm\n".encode("latin-1"), "is not UTF-8 text (byte 14)"),
        (
            b"- seed\n- threads\n",
            f"must be a block of keys: {KEYS}",
        ),
        (
            b"",
            f"must be a block of keys: {KEYS}",
        ),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_refused(tmp_path, content, sentence):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    assert complaint(path).startswith(sentence)


def test_a_missing_file_is_refused(tmp_path):
    assert complaint(tmp_path / "params.yaml") == "is missing: run this in the project's folder"


def test_the_order_of_keys_means_nothing(tmp_path):
    """DVC does not see it, so that no output may depend on it."""

    def turned(value: object) -> object:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(each) for each in value] if isinstance(value, list) else value

    for name, values in (("params.yaml", GIVEN), ("turned.yaml", turned(GIVEN))):
        (tmp_path / name).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    first, second = (settings.load(tmp_path / name) for name in ("params.yaml", "turned.yaml"))
    assert json.dumps(first.model_dump()) == json.dumps(second.model_dump())
