"""Why the digests of a stage's code may leave the front door out: it hands reports/params.json over as it stands,
or refuses it.

What a stage gets from a module of the front door is then told by what DVC tracks anyway, its parameters. Were a value
made there (a default, a rounded number, a constant), a change of it would rerun nothing.
"""

import ast
import json
from collections.abc import Iterator
from typing import Annotated, Literal, get_args, get_origin

import annotated_types
import pytest
from parameters import PARAMS, changed, disguised, written
from projects import ROOT
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from press.core import code, files, paths
from press.core.errors import UserError
from press.params import preset, reading, recorded, resolving, settings
from press.params.schema import Block
from press.release.settings import Release
from press.search.settings import Params

PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
# What a stage may use of the front door besides the types of blocks: what refuses, frames or reads.
USED = {
    *("UserError", "cli.collect_rarely", "cli.is_full_disk", "cli.run", "packages.INSTALL_TASKS", "settings.checked"),
    "strict_yaml.load",
}
# What the types of blocks can do: find a member by its name, and say something to a person.
METHODS = {"adapter", "target", "serving", "version"}


def blocks(kind: type[BaseModel] = Block) -> Iterator[type[BaseModel]]:
    for each in kind.__subclasses__():
        yield each
        yield from blocks(each)


def fields() -> Iterator[tuple[str, FieldInfo]]:
    for block in blocks():
        yield from ((f"{block.__name__}.{name}", field) for name, field in block.model_fields.items())


def same(given: object, handed: object) -> bool:
    """Tell whether a value came through as it was; a whole number for a fraction is the same number."""
    if isinstance(given, dict) and isinstance(handed, dict):
        return given.keys() == handed.keys() and all(same(given[key], handed[key]) for key in given)
    if isinstance(given, list) and isinstance(handed, list):
        return len(given) == len(handed) and all(map(same, given, handed))
    whole = isinstance(given, int) and not isinstance(given, bool) and isinstance(handed, float)
    return given == handed and (whole or type(given) is type(handed))


def handed(path) -> tuple[dict, dict]:
    """Return what `check` writes down of a params.yaml, and what a stage gets of it."""
    resolved = resolving.Resolved(path)
    return json.loads(files.json_text(resolved.values)), settings.validated(resolved).model_dump()


def check_handed(path) -> None:
    given, got = handed(path)
    assert set(given) == set(got)
    assert {name for name in given if not same(given[name], got[name])} == set()


def test_the_committed_parameters_come_through_as_they_stand():
    check_handed(ROOT / "params.yaml")


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_comes_through_as_it_stands(path, tmp_path):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    laid = tmp_path / "params.yaml"
    laid.write_text(preset.edited(text, reading.values((), path)), encoding="utf-8")
    check_handed(laid)


def test_another_value_of_every_parameter_comes_through_as_it_stands(tmp_path):
    check_handed(written(tmp_path, disguised(PARAMS, set())))


def test_a_stage_gets_what_check_wrote_down_or_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = changed(tmp_path, {("seed",): 7})
    assert settings.checked().seed == 7
    recorded.write(resolving.Resolved(params).values)
    assert settings.checked() == settings.load()
    changed(tmp_path, {("seed",): 8})
    with pytest.raises(
        UserError, match=r"what params\.yaml says is not what reports/params\.json has: run `dvc repro` "
    ):
        settings.checked()
    changed(tmp_path, {("seed",): 7})
    assert settings.checked().seed == 7
    paths.RESOLVED.write_bytes(b"\xff")
    with pytest.raises(UserError, match="is not what"):
        settings.checked()
    recorded.write(resolving.Resolved(params).values)
    (paths.RESOLVED_ADAPTERS / "gone.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"is not what reports/adapters/gone\.json has"):
        settings.checked()
    recorded.write(resolving.Resolved(params).values)
    (paths.RESOLVED_ADAPTERS / "travel.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"is not what reports/adapters/travel\.json has"):
        settings.checked()
    paths.RESOLVED.unlink()
    paths.RESOLVED.mkdir()
    with pytest.raises(UserError, match=r"reports/params\.json cannot be read \(Is a directory\)"):
        settings.checked()


def test_a_default_that_check_has_not_seen_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = resolving.Resolved(changed(tmp_path, {})).values
    recorded.write(values)
    default = resolving._defaults()
    monkeypatch.setattr(resolving, "_defaults", lambda: default | {"evaluate": default["evaluate"] | {"new": 1}})
    with pytest.raises(UserError, match="run `dvc repro` without --single-item"):
        settings.checked()


def test_the_order_of_keys_is_no_value(tmp_path):
    turned = {
        name: dict(reversed(block.items())) if isinstance(block, dict) else block
        for name, block in reversed(PARAMS.items())
    }
    assert repr(handed(written(tmp_path, turned))) == repr(handed(ROOT / "params.yaml"))


def test_the_order_in_which_the_types_name_their_keys_reaches_no_output():
    project = code.Project(ROOT)
    modules = {module for stage in project.stages() for module in project.digests(stage)}
    for module in modules:
        dumps, ordered = set(), set()
        for node in ast.walk(project.tree(module)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                dumps |= {node} if node.func.attr == "model_dump" else set()
                ordered |= set(ast.walk(node)) if node.func.attr == "in_order" else set()
        assert dumps <= ordered, module


def test_a_value_that_is_changed_on_the_way_is_seen():
    given, got = handed(ROOT / "params.yaml")
    got["adapters"]["travel"]["lora"]["rank"] += 1
    assert not same(given["adapters"], got["adapters"])
    assert not same({"a": 1}, {"a": True})
    assert not same({"a": 1.0}, {"a": 1})


def test_no_key_has_a_default():
    assert len(list(fields())) > 80
    assert [name for name, field in fields() if not field.is_required()] == []
    assert {Release, Params, settings.Settings} <= set(blocks())


def test_every_number_is_bounded():
    """One of 25 digits would end in a traceback of whatever library gets it first."""

    def numbers(kind: object, bounds: list) -> Iterator[list]:
        if get_origin(kind) is Annotated:
            inner, *own = get_args(kind)
            yield from numbers(
                inner, [*bounds, *(each for field in own for each in getattr(field, "metadata", [field]))]
            )
        elif kind in (int, float):
            yield bounds
        elif get_origin(kind) is not Literal:
            for each in get_args(kind):
                yield from numbers(each, bounds)

    found = {name: bounds for name, field in fields() for bounds in numbers(field.annotation, field.metadata)}
    assert len(found) > 30
    for name, bounds in found.items():
        assert {type(bound) for bound in bounds} & {annotated_types.Ge, annotated_types.Gt}, name
        assert {type(bound) for bound in bounds} & {annotated_types.Le, annotated_types.Lt}, name


def test_no_validator_comes_before_the_types():
    """One that sees raw values could hand others over; only the search's own, which no stage reads, has one."""
    before = {
        f"{block.__name__}.{name}"
        for block in blocks()
        for name, decorator in block.__pydantic_decorators__.field_validators.items()
        if decorator.info.mode != "after"
    }
    assert before == {"Search.one_objective_needs_no_list"}
    assert not [block for block in blocks() if block.__pydantic_decorators__.field_serializers]


def test_blocks_can_do_nothing_but_find_and_say():
    inherited = set(dir(BaseModel))
    found = set()
    for block in blocks():
        validators = block.__pydantic_decorators__
        checked = {*validators.field_validators, *validators.model_validators}
        found |= {name for name in vars(block) if not name.startswith("_") and name not in inherited | checked}
    assert found - {"model_config"} <= METHODS


def test_stages_use_of_the_front_door_only_what_reads_and_refuses():
    project = code.Project(ROOT)
    modules = {module for stage in project.stages() for module in project.digests(stage)}
    types = {f"{module}.{block.__name__}" for block in blocks() for module in ("schema", "settings")}
    types |= {block.__name__ for block in blocks()}
    used = set().union(*(of_the_front_door(project, module) for module in modules))
    assert used - types == USED


def of_the_front_door(project: code.Project, module) -> set[str]:
    """Return what a module uses of the front door: a member by its name, a module's member as MODULE.MEMBER."""
    nodes = list(ast.walk(project.tree(module)))
    doors, members = {}, set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                parts = f"{node.module}.{alias.name}".split(".")
                paths = {"/".join(parts) + ".py": alias.asname or alias.name, "/".join(parts[:-1]) + ".py": None}
                for path, bound in paths.items():
                    if path in {each.as_posix() for each in code.FRONT_DOOR}:
                        doors |= {bound: alias.name} if bound else {}
                        members |= set() if bound else {alias.name}
    attributes = (node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
    return members | {f"{doors[node.value.id]}.{node.attr}" for node in attributes if node.value.id in doors}
