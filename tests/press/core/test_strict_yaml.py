"""YAML is read as DVC reads it, and what others would read otherwise is refused by its line and key."""

from pathlib import Path

import pytest
from dvc.utils.serialize import parse_yaml
from projects import ROOT

from press.core import strict_yaml
from press.core.errors import UserError

PATH = Path("params.yaml")


def complaint(text: str) -> str:
    with pytest.raises(UserError) as caught:
        strict_yaml.parse(text, PATH)
    return str(caught.value)


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))], ids=lambda path: path.stem
)
def test_the_project_s_own_files_are_read_as_dvc_reads_them(path):
    text = path.read_text(encoding="utf-8")
    assert strict_yaml.load(path) == parse_yaml(text, str(path))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("-0", 0),
        ("+1", 1),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.0e-3", 0.001),
        # As `dvc exp run --set-param lr=3e-5` writes it.
        ("3e-05", 3e-05),
        ("-1.5e+16", -1.5e16),
        (".inf", float("inf")),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("'010'", "010"),
        ('"yes"', "yes"),
        ("travel", "travel"),
        ("1.2.3", "1.2.3"),
        ("--- a", "--- a"),
        ("Grüße 😀", "Grüße 😀"),
    ],
)
def test_what_every_reader_takes_for_the_same_is_read_as_dvc_reads_it(text, value):
    assert strict_yaml.parse(f"a: {text}\n", PATH) == {"a": value} == parse_yaml(f"a: {text}\n", PATH)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("010", "8 or 10 or '010'"),
        ("0o10", "8 or '0o10'"),
        ("08", "8 or '08'"),
        ("0x1f", "31 or '0x1f'"),
        ("0b11", "3 or '0b11'"),
        ("1_000", "1000 or '1_000'"),
        ("1_0.5", "10.5 or '1_0.5'"),
        ("1:30", "90 or '1:30'"),
        ("1:30.5", "90.5 or '1:30.5'"),
        ("1e3", "1000.0 or '1e3'"),
        ("1.0e3", "1000.0 or '1.0e3'"),
        ("3e-5", "3e-05 or '3e-5'"),
        ("-.5", "-0.5 or '-.5'"),
        ("yes", "true or 'yes'"),
        ("Off", "false or 'Off'"),
        ("y", "true or 'y'"),
        ("N", "false or 'N'"),
        ("2020-01-01", "'2020-01-01'"),
        ("2020-13-45", "'2020-13-45'"),
        ("=", "'='"),
        # A number for one library that is none for any.
        ("-_", "'-_'"),
    ],
)
def test_a_scalar_that_readers_take_for_different_values_is_refused_as_a_value_a_key_and_in_a_list(text, right):
    said = f"{text}, which not all readers of YAML take for the same: write {right}"
    assert complaint(f"x: 1\na:\n  b: {text}\n") == f"params.yaml line 3: a.b is {said}"
    assert complaint(f"a:\n  {text}: 1\n") == f"params.yaml line 2: the key a.{text} is {said}"
    assert complaint(f"a: [1, {text}]\n") == f"params.yaml line 1: a.1 is {said}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "adapters:\n  travel: {}\n  travel: {}\n",
            "line 3: adapters.travel is there twice, first in line 2: remove one, or rename it",
        ),
        ("a: 1\n'a': 2\n", "line 2: a is there twice, first in line 1: remove one, or rename it"),
        ("a: &x [1]\nb: *x\n", "line 2: *x repeats a block, so that a change of one changes both: write it out"),
        ("a: &x [*x]\n", "line 1: *x repeats a block, so that a change of one changes both: write it out"),
        (
            "a:\n  <<: {b: 1}\n",
            "line 2: the key a.<< merges another block into this one, which YAML 1.2 does not know: write its keys out",
        ),
        ("a: !!str 3\n", "line 1: !!str is a tag: leave it out, and put text in quotes"),
        ("a: ! 3\n", "line 1: ! is a tag: leave it out, and put text in quotes"),
        (
            "a: !!python/name:os.system\n",
            "line 1: !!python/name:os.system is a tag: leave it out",
        ),
        ("!!map {a: 1}\n", "line 1: !!map is a tag: leave it out, and put text in quotes"),
        ("%YAML 1.1\n---\na: 1\n", "line 2: names a version of YAML: leave the line out"),
        ("a: 1\n---\nb: 2\n", "is not valid YAML at line 2, column 1: but found another document"),
        ("? [a]\n: 1\n", "line 1: it has a key that is no text"),
        (
            'a: "\\ud83d\\ude00"\n',
            "line 1: a has U+0000 or half of a surrogate pair, which is no text: write the character itself",
        ),
        (
            '"a\\0": 1\n',
            "line 1: the key 'a\\x00' has U+0000 or half of a surrogate pair, which is no text: write the character",
        ),
        ("a:\n  null: 1\n", "line 2: a has a key that is null"),
        ("~: 1\n", "line 1: it has a key that is null"),
        ('"a\\nb": yes\n', "line 1: 'a\\nb' is yes, which not all readers"),
        ("a: 1e400\n", "line 1: a is 1e400, which is too large a number: put it in quotes if it is text"),
        ("a: -1.0e+400\n", "line 1: a is -1.0e+400, which is too large a number"),
        (f"a: {'1' * 5000}\n", "line 1: a is a number of 5000 digits, but can have 40: put it in quotes if it is text"),
        ("[" * 2000, "line 1: is nested more than 64 levels deep: make it flatter"),
        ("a:\n" + "".join(" " * depth + "b:\n" for depth in range(1, 80)), "line 65: is nested more than 64 levels"),
    ],
)
def test_what_could_be_overlooked_is_refused(text, sentence):
    assert complaint(text).startswith(f"params.yaml {sentence}")


def test_every_mistake_has_its_line_and_the_rest_is_counted():
    lines = complaint("".join(f"a{index}: yes\n" for index in range(25))).splitlines()
    assert [line.partition(" is")[0] for line in lines[:10]] == [f"params.yaml line {n + 1}: a{n}" for n in range(10)]
    assert lines[10:] == ["params.yaml: and 15 more mistakes"]


def test_64_levels_are_read():
    text = "[" * 64 + "]" * 64
    assert strict_yaml.parse(text, PATH) == parse_yaml(text, PATH)
