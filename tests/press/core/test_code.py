"""What the code of a stage says: edits that change nothing of it, and edits that do."""

import ast
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import ROOT

from press.core import code, paths
from press.core.errors import UserError

FILES = {
    "passes/olive.json": '{"passes": {"Own": {"module_path": "passes.own.Own"}, "Theirs": {"module_path": "a.b.C"}}}',
    "passes/__init__.py": '"""Passes."""\n',
    "passes/own.py": "from press.deep import depth\n\n\nclass Own:\n    level = depth.LEVEL\n",
    "passes/script.py": "VALUE = 1\n",
    "press/__init__.py": "",
    "press/core/__init__.py": "",
    "press/core/environment.py": "STAGE = {}\n",
    "press/core/errors.py": "class UserError(Exception):\n    pass\n",
    "press/deep/__init__.py": '"""What lies below."""\n',
    "press/deep/depth.py": "LEVEL = 3\n",
    "press/words.py": (
        '"""Words."""\n\nfrom press.core.errors import UserError\nfrom press.deep import depth\n\n'
        'PAGE = "page.txt"\n\n\n'
        'def greet(name: str) -> str:\n    """Greet."""\n    # kindly\n    if not name:\n'
        "        raise UserError(name)\n    return name * depth.LEVEL\n"
    ),
    "press/page.txt": "a page\n",
    "press/others.py": "def greet(name: str) -> str:\n    return name\n",
    "stages/__init__.py": "",
    "stages/check.py": "import press.others\n",
    "stages/greet.py": (
        'from press import words\n\nTYPES = ["Own", "Theirs", "passes/script.py"]\nprint(words.greet("a"))\n'
    ),
    "stages/shout.py": "from press.others import greet\n\nprint(greet('b'))\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small project with two stages, an Olive pass, a user script and a file that a module reads."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def said(folder: Path) -> dict[str, str]:
    """Return what `check` writes about each stage."""
    project = code.Project(folder)
    return {stage: code.listed(project.digests(stage)) for stage in project.stages()}


def replaced(old: str, new: str, path: str = "press/words.py") -> Callable[[Path], None]:
    """Return an edit that replaces a text in a file, which has to be there."""

    def edit(folder: Path) -> None:
        text = (folder / path).read_text(encoding="utf-8")
        assert old in text
        (folder / path).write_text(text.replace(old, new), encoding="utf-8")

    return edit


def moved(folder: Path) -> None:
    """Move a module into another package, under another name."""
    (folder / "press/far").mkdir()
    (folder / "press/far/__init__.py").touch()
    shutil.move(folder / "press/deep/depth.py", folder / "press/far/below.py")
    for path in ("press/words.py", "passes/own.py"):
        replaced("from press.deep import depth", "from press.far import below as depth", path)(folder)


def moved_pass(folder: Path) -> None:
    """Move the module of a pass."""
    shutil.move(folder / "passes/own.py", folder / "passes/mine.py")
    replaced("passes.own.Own", "passes.mine.Own", "passes/olive.json")(folder)


def test_a_stage_uses_what_it_imports_directly_or_not_its_passes_and_its_user_scripts(folder):
    project = code.Project(folder)
    own = {"stages/greet.py", "press/words.py", "press/deep/depth.py", "passes/own.py", "passes/script.py"}
    packages = {"press/__init__.py", "press/deep/__init__.py", "passes/__init__.py", "stages/__init__.py"}
    assert {path.as_posix() for path in project.uses(Path("stages/greet.py"))} == own | packages
    through = project.uses(Path("stages/greet.py"), through_front_door=True)
    assert Path("press/core/errors.py") in through


def test_every_stage_uses_what_its_process_is_given(folder):
    before = said(folder)
    replaced("{}", '{"CI": "1"}', "press/core/environment.py")(folder)
    after = said(folder)
    assert all(before[stage] != after[stage] for stage in ("greet", "shout"))


def test_check_has_no_digests_of_its_own(folder):
    assert set(said(folder)) == {"greet", "shout"}


@pytest.mark.parametrize(
    "edit",
    [
        replaced("# kindly", "# kindly, as one does"),
        replaced('"""Greet."""', '"""Greet somebody by name."""'),
        replaced('"""Words."""', '"""Words, and more words."""'),
        replaced('    """Greet."""\n', ""),
        replaced("name * depth.LEVEL", "(name\n        * depth.LEVEL)"),
        replaced("import depth", "import (\n    depth,\n)"),
        replaced("pass", "level = 1", "press/core/errors.py"),
        replaced("import press.others", "import press.words", "stages/check.py"),
        moved,
        moved_pass,
    ],
)
def test_an_edit_that_says_nothing_new_changes_no_digest(folder, edit):
    before = said(folder)
    edit(folder)
    assert said(folder) == before


@pytest.mark.parametrize(
    "edit",
    [
        replaced("return name *", "return 2 * name *"),
        replaced("= 3", "= 4", "press/deep/depth.py"),
        replaced("= 3", "= 3.0", "press/deep/depth.py"),
        replaced("= 3", "= '3'", "press/deep/depth.py"),
        replaced("VALUE = 1", "VALUE = True", "passes/script.py"),
        replaced("depth.LEVEL", "depth.LEVEL + 1", "passes/own.py"),
        replaced("a.b.C", "a.b.D", "passes/olive.json"),
        replaced("passes.own.Own", "passes.own.Owner", "passes/olive.json"),
        replaced("a page", "another page", "press/page.txt"),
        replaced("name: str", "name: bytes"),
        replaced("from press import words", "from press import others as words", "stages/greet.py"),
        replaced("import depth", "import depth, other"),
        replaced('PAGE = "page.txt"', "import json"),
        replaced("def greet", "@staticmethod\ndef greet"),
    ],
)
def test_an_edit_that_says_something_changes_the_digests_of_the_stages_that_use_it_alone(folder, edit):
    before = said(folder)
    edit(folder)
    after = said(folder)
    assert after["greet"] != before["greet"]
    assert after["shout"] == before["shout"]


def test_a_swapped_import_of_two_modules_that_are_both_used_is_seen(folder):
    replaced("from press import words", "from press import others, words", "stages/greet.py")(folder)
    before = said(folder)
    replaced("print(words.greet", "print(others.greet", "stages/greet.py")(folder)
    changed = said(folder)
    replaced("import others, words", "import words as others, others as words", "stages/greet.py")(folder)
    assert len({before["greet"], changed["greet"], said(folder)["greet"]}) == 3


def test_a_new_import_is_found_without_a_list_of_modules(folder):
    replaced("def greet", "from press import others\n\n\ndef greet")(folder)
    assert Path("press/others.py") in code.Project(folder).digests("greet")


def test_a_relative_import_is_followed(folder):
    replaced("from press.deep import depth", "from .deep import depth")(folder)
    assert Path("press/deep/depth.py") in code.Project(folder).digests("greet")


def test_modules_in_a_circle_are_named(folder):
    replaced("LEVEL = 3", "from press import words", "press/deep/depth.py")(folder)
    with pytest.raises(
        UserError, match=r"^press/deep/depth\.py → press/words\.py → press/deep/depth\.py: .* in a circle"
    ):
        said(folder)


def test_code_that_is_not_python_is_a_sentence(folder):
    replaced("LEVEL = 3", "LEVEL =", "press/deep/depth.py")(folder)
    with pytest.raises(UserError, match=r"press/deep/depth\.py line 1 is not Python code: invalid syntax"):
        said(folder)


def test_the_front_door_is_there_and_is_used_by_every_stage():
    project = code.Project(ROOT)
    for path in code.FRONT_DOOR:
        assert (ROOT / path).is_file(), path
    for stage, script in project.stages().items():
        used = project.uses(script, through_front_door=True)
        assert {Path("press/core/cli.py"), Path("press/params/settings.py")} <= used, stage
        assert not code.FRONT_DOOR & set(project.digests(stage))


def test_a_stage_does_not_depend_on_the_code_of_another():
    project = code.Project(ROOT)
    for name in project.stages():
        scripts = {path for path in project.digests(name) if path.parts[0] == "stages"} - {Path("stages/__init__.py")}
        assert scripts == {Path(f"stages/{name}.py")}


def test_running_code_is_held_against_what_check_wrote(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code.check_recorded("quantize")
    paths.CODE.mkdir(parents=True)
    recorded = code.listed(code.Project().digests("quantize"))
    (paths.CODE / "quantize.txt").write_text(recorded, encoding="utf-8")
    code.check_recorded("quantize")
    (paths.CODE / "quantize.txt").write_text(recorded.replace("a", "b"), encoding="utf-8")
    with pytest.raises(UserError, match=r"^the code of quantize is not what reports/code/quantize\.txt says: run `dvc"):
        code.check_recorded("quantize")


def test_names_of_imported_modules():
    tree = ast.parse("import a.b\nfrom e import f, g\nfrom . import h\nfrom ..i import j\n")
    found = [name for node in tree.body for name in code.imported(node, Path("press/core/x.py"))]
    assert found == ["a.b", "e.f", "e.g", "press.core.h", "press.i.j"]
