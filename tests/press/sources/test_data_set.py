"""A data set of the Hugging Face hub, brought through the real clients from a server on loopback (hub_server.py)."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

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


def test_files_may_be_named_in_place_of_a_configuration(tmp_path, repository, monkeypatch):
    (repository / "README.md").unlink()
    monkeypatch.setattr(data_set, "_files", lambda source: repository)
    source = schema.DataSet(id=NAME, revision=REVISION, config=None, split="train", data_files=["chats/*.jsonl.gz"])
    (tmp_path / "out").mkdir()
    data_set.bring("a", source, tmp_path / "out")
    ((_, _, found),) = records.read(tmp_path / "out" / data_set.PARQUET)
    assert [record.fields for record in found] == ROWS
