"""A data set of the Hugging Face hub, brought through the real clients from a server on loopback (hub_server.py)."""

import errno
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from projects import ROOT, assert_sentence

from press.core.errors import UserError
from press.data import records
from press.params import schema
from press.sources import data_set

from .hub_server import REVISION, Hub, Repository

pytestmark = pytest.mark.integration
NAME = "press/questions"
ROWS = [
    {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": "é"}]}
    for n in range(5)
]
OTHERS = [{"prompt": f"why {n}", "response": "so"} for n in range(3)]
CARD = """---
license: mit
configs:
- config_name: chats
  data_files:
  - {split: train, path: chats/*.jsonl.gz}
- config_name: pairs
  data_files:
  - {split: train, path: pairs/train.jsonl}
  - {split: test, path: pairs/test.jsonl}
---
Questions.
"""


def lines(rows: list[dict]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "chats").mkdir(parents=True)
    (folder / "pairs").mkdir()
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    (folder / "questions.py").write_text("raise SystemExit('foreign code')\n", encoding="utf-8")
    for number, part in enumerate((ROWS[:3], ROWS[3:])):
        (folder / f"chats/{number}.jsonl.gz").write_bytes(gzip.compress(lines(part)))
    for split, rows in (("train", OTHERS), ("test", OTHERS[:1])):
        (folder / f"pairs/{split}.jsonl").write_bytes(lines(rows))
    return folder


class Download:
    """The stage, in a folder where nothing was downloaded yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "downloads/questions"

    def run(self, variables: dict[str, str], **changes: object) -> subprocess.CompletedProcess:
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        source = {"id": NAME, "revision": REVISION, "config": "chats", "split": "train", "data_files": []}
        params["data_sets"] = {"questions": source | changes}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        home = {"HF_HOME": str(self.folder / "home"), "PYTHONPATH": str(ROOT), "HF_TOKEN": ""}
        return subprocess.run(
            [sys.executable, "-m", "stages.download", "questions"],
            cwd=self.folder,
            env={**os.environ, **home, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def rows(self) -> list[dict]:
        return [record.fields for _, _, found in records.read(self.out / data_set.PARQUET) for record in found]


@pytest.fixture
def download(tmp_path: Path) -> Download:
    (tmp_path / "project").mkdir()
    return Download(tmp_path / "project")


def test_a_data_set_comes_once_and_then_out_of_the_client_s_cache(download, repository):
    with Hub({NAME: Repository(repository)}) as hub:
        first = download.run(hub.environment)
        assert first.returncode == 0, first.stderr
        assert download.rows() == ROWS
        assert not [name for name, _ in hub.sent if name.endswith(".py")]
        made = {path: path.read_bytes() for path in download.out.iterdir()}
        assert [path.name for path in made] == [data_set.PARQUET]
        offline = hub.environment | {"HF_HUB_OFFLINE": "1"}
    again = download.run(offline)
    assert again.returncode == 0, again.stderr
    assert {path: path.read_bytes() for path in download.out.iterdir()} == made
    assert sorted(path.name for path in (download.folder / "downloads").iterdir()) == ["questions"]
    # Another configuration and split of the same files.
    assert download.run(offline, config="pairs", split="test").returncode == 0
    assert download.rows() == OTHERS[:1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"id": "press/none"},
            "the hub has no data set press/none that you can read: mend data_sets.questions.id or log in",
        ),
        (
            {"revision": "6" * 40},
            f"the hub has no {NAME} at revision {'6' * 40}: mend data_sets.questions.revision in params",
        ),
        (
            {"config": "none"},
            f"{NAME} at revision {REVISION} cannot be read as the rows that data_sets names (BuilderCo",
        ),
        (
            {"split": "none"},
            f"{NAME} at revision {REVISION} cannot be read as the rows that data_sets names (Unknown s",
        ),
        (
            {"config": None},
            f"{NAME} at revision {REVISION} cannot be read as the rows that data_sets names (Config name",
        ),
    ],
)
def test_what_is_not_there_is_a_sentence(download, repository, changes, sentence):
    with Hub({NAME: Repository(repository)}) as hub:
        result = download.run(hub.environment, **changes)
    assert_sentence(result, sentence)
    assert not download.out.exists()


@pytest.mark.parametrize(
    "place", ["/etc/passwd", "../other.jsonl", "https://example.com/a.csv", "hf://datasets/a/b/c.csv"]
)
def test_a_readme_that_names_files_elsewhere_is_refused(tmp_path, place):
    card = tmp_path / "README.md"
    card.write_text(f"---\nconfigs:\n- config_name: a\n  data_files: '{place}'\n---\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"^{NAME} names '{place}' in its README.md, which is not a file of its own"):
        data_set.check_card(card, NAME)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"a: [", "while parsing a flow node"),
        (b"configs: 3", "Expected configs to be a list"),
        (b"configs: [3]", "argument of type 'int'"),
        (b"configs: [{config_name: [a], data_files: a.csv}]", "unhashable type"),
        (b"dataset_info: {features: [{name: a, dtype: nope}]}", "Feature type 'Nope' not found"),
        (b"dataset_info: {splits: 3}", "'int' object is not iterable"),
        (b"a: &a [1]\nconfigs: [*a, *a]", "it repeats blocks"),
        (b"configs: &a [*a]", "it repeats blocks"),
        (b"a: \xff", "'utf-8' codec"),
        (b"!!python/name:os.system {}", "could not determine a constructor"),
    ],
)
def test_a_damaged_readme_is_a_sentence(tmp_path, header, reason):
    card = tmp_path / "README.md"
    card.write_bytes(b"---\n" + header + b"\n---\n")
    with pytest.raises(UserError) as caught:
        data_set.check_card(card, NAME)
    assert str(caught.value).startswith(f"{NAME} has a damaged README.md ({reason}")


def parquet() -> bytes:
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"prompt": [str(n) for n in range(5000)]}), buffer)
    return buffer.getvalue().to_pybytes()


def brought(folder: Path, patch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    """Bring a data set that has these files."""
    repository, out = folder / "brought", folder / "out"
    for each in (repository, out):
        each.mkdir()
    for name, content in files.items():
        (repository / name).write_bytes(content)
    patch.setattr(data_set, "_files", lambda source: repository)
    data_set.bring("a", schema.DataSet(id=NAME, revision=REVISION, config=None, split="train", data_files=[]), out)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.parquet", parquet()[:-50], "Parquet magic bytes not found"),
        (
            "a.parquet",
            parquet()[:99] + b"\xff" * 99 + parquet()[198:],
            "An error occurred while generating the dataset; ",
        ),
        ("a.jsonl.gz", gzip.compress(lines(OTHERS))[:-9], "Compressed file ended"),
        ("a.jsonl.gz", b"hello", "Not a gzipped file"),
        ("a.jsonl.xz", b"\xfd7zXZ\0" + b"1" * 99, "Corrupt input data"),
        # By what it begins with, `datasets` takes it for an archive.
        ("a.jsonl", b"PK\x03\x04" + b"1" * 99, "File is not a zip file"),
        ("a.jsonl", b"", "a file is empty"),
        ("a.jsonl", b'{"a": 1}\n{', "An error occurred while generating the dataset; JSON parse error"),
        ("a.arrow", b"ARROW1\0\0" + b"1" * 99, "Not an Arrow file"),
    ],
)
def test_a_damaged_file_is_a_sentence(tmp_path, monkeypatch, name, content, reason):
    with pytest.raises(UserError) as caught:
        brought(tmp_path, monkeypatch, {name: content})
    expected = f"{NAME} at revision {REVISION} cannot be read as the rows that data_sets names ({reason}"
    assert str(caught.value).startswith(expected)
    assert not list((tmp_path / "out").iterdir())


def test_a_data_set_of_which_nothing_could_be_read_is_a_sentence(tmp_path, monkeypatch):
    assert not "data.jsonl.zst".endswith(records.HUB_FILES)
    with pytest.raises(UserError, match=r"has none of the files that data_sets\.a may name: they end with \.jsonl, "):
        brought(tmp_path, monkeypatch, {"README.md": b"Pictures.\n"})


def test_an_option_of_the_readme_that_is_of_another_type_is_a_sentence(tmp_path, monkeypatch):
    card = b"---\nconfigs: [{config_name: a, data_files: a.jsonl, chunksize: x}]\n---\n"
    with pytest.raises(UserError, match=r"cannot be read as the rows that data_sets names \(unsupported operand"):
        brought(tmp_path, monkeypatch, {"README.md": card, "a.jsonl": lines(OTHERS)})


def test_a_full_disk_is_none_of_the_data_set_s_faults(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("datasets.load_dataset", full)
    with pytest.raises(OSError, match="No space left"):
        brought(tmp_path, monkeypatch, {"a.jsonl": lines(OTHERS)})


def test_files_may_be_named_in_place_of_a_configuration(tmp_path, repository, monkeypatch):
    (repository / "README.md").unlink()
    monkeypatch.setattr(data_set, "_files", lambda source: repository)
    source = schema.DataSet(id=NAME, revision=REVISION, config=None, split="train", data_files=["chats/*.jsonl.gz"])
    (tmp_path / "out").mkdir()
    data_set.bring("a", source, tmp_path / "out")
    ((_, _, found),) = records.read(tmp_path / "out" / data_set.PARQUET)
    assert [record.fields for record in found] == ROWS
