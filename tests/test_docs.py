"""What README, CONTRIBUTING, CHANGELOG and docs/ name is there: links, commands, files, functions, quoted answers."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import ROOT

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
ROOMS = ("bench", "data", "passes", "presets", "press", "stages", "tests")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
PLACEHOLDER = re.compile(r"[A-Z]{3,}|[*…{]")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    found: set[str] = set()
    for line in re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", LINK.sub(lambda match: match[0].partition("]")[0], line).lower())
        found.add(slug.strip().replace(" ", "-"))
    return found


def broken(page: Path) -> Iterator[str]:
    """Yield the relative links of a page that lead nowhere."""
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def commands(name: str, pattern: str) -> set[str]:
    """Return what follows a command in a page's code, inline or in a block."""
    page = text(name)
    code = FENCED.findall(page) + CODE.findall(FENCED.sub("", page))
    return {match for part in code for match in re.findall(pattern, part, re.MULTILINE)}


def spans(name: str) -> list[str]:
    """Return a page's inline code."""
    return [" ".join(span.split()) for span in CODE.findall(FENCED.sub("", text(name)))]


def is_place(span: str) -> bool:
    """Whether code is the path of a file or folder of the project, or FILE::NAME."""
    path = span.partition("::")[0]
    return "/" in path and path.split("/")[0] in ROOMS and " " not in span and not PLACEHOLDER.search(path)


def is_there(span: str) -> bool:
    path, _, name = span.partition("::")
    return (ROOT / path).exists() and (not name or defined(ROOT / path, name))


def defined(path: Path, name: str) -> bool:
    """Whether a Python file defines a function, a class, a method (CLASS.METHOD) or a constant."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = [node for node in body if part in declared(node)]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


def declared(node: ast.stmt) -> set[str]:
    """Return the names that a statement gives."""
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {getattr(node, "name", "")}


@pytest.mark.parametrize("name", NAMES)
def test_every_relative_link_leads_somewhere(name):
    assert not list(broken(ROOT / name))


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One, `two`\n[a](#one-two) [b](page.md) [c](#three) [d](other.md) [e](https://example.com)\n")
    assert list(broken(page)) == ["#three", "other.md"]


def test_readme_fits_its_size_and_begins_with_its_two_commands():
    lines = text("README.md").splitlines()
    assert len(lines) <= 130
    started = [line.split("#")[0].strip() for line in lines if line.startswith("$ ")]
    assert started[:2] == ["$ make repro", "$ make test"]


def test_readme_links_every_page():
    linked = {link.partition("#")[0] for link in LINK.findall(text("README.md"))}
    assert set(NAMES) - {"README.md"} <= linked


def test_readme_quotes_answers_as_they_stand():
    rows = [row for each in json.loads(text("reports/evaluate/cpu/answers.json")).values() for row in each]
    given = {" ".join(row[rung].split()) for row in rows for rung in ("bare", "adapter") if rung in row}
    (block,) = [part for part in FENCED.findall(text("README.md")) if "\n  travel " in part]
    # A question, then answers: each behind the name of who gives it, with its further lines indented more.
    quoted = re.findall(r"^  (?:bare|travel|packing) +(.+(?:\n {4}.+)*)", block, re.MULTILINE)
    assert len(quoted) == 2
    assert {" ".join(answer.split()) for answer in quoted} <= given


@pytest.mark.parametrize("name", NAMES)
def test_every_make_target_exists(name):
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    assert commands(name, r"(?:^|[$&;(] ?)make ([a-z][a-z-]*)") <= targets


@pytest.mark.parametrize("name", NAMES)
def test_every_module_that_is_run_exists(name):
    paths = [ROOT / module.replace(".", "/") for module in commands(name, r"python -m ([a-z][\w.]*)")]
    assert not [
        path for path in paths if not path.with_suffix(".py").is_file() and not (path / "__main__.py").is_file()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_file_and_function_that_is_named_exists(name):
    assert not [span for span in spans(name) if is_place(span) and not is_there(span)]


def test_the_table_of_rooms_has_every_module_and_no_other():
    rows = re.findall(r"^\| `(press/\w+)` \|[^|]*\|([^|]*)\|$", text("docs/architecture.md"), re.MULTILINE)
    listed = [f"{room}/{module}.py" for room, modules in rows for module in CODE.findall(modules)]
    there = [path.relative_to(ROOT).as_posix() for path in (ROOT / "press").glob("*/[a-z]*.py")]
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("docs/")])
def test_a_page_of_docs_begins_with_what_it_is_for(name):
    _, first, *_ = text(name).split("\n\n")
    assert first.startswith("This page ")
