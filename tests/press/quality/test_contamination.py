"""What of a task an adapter was nearly trained on is counted."""

from pathlib import Path

from press.core import files
from press.data import jsonl
from press.quality import contamination


def test_documents_that_are_nearly_prompts_are_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("prepared/a").mkdir(parents=True)
    files.write_json(Path("prepared/a/adapter.json"), {"template": "<s>{prompt}\n{response}</s>"})
    jsonl.write(Path("prepared/a/train.jsonl"), [{"prompt": f"<s>{text}\n"} for text in ("Why, rain?", "So")])
    documents = [
        {"question": " why rain", "choices": ["a"]},
        {"more": {"prompt": "<s>So\n"}},
        {"question": "Why rain in May?", "answer": 1},
        {"question": ""},
    ]
    assert contamination.count(documents, contamination.prompts("a")) == 2
