"""The report shows what `make look` shows, of the examples that the package was built from."""

import dataclasses
from pathlib import Path

import pytest

from press.core import files, paths
from press.data import jsonl, tokens
from press.report import changes, dag, inputs, looks, page
from press.sources import tokenizers

pytestmark = pytest.mark.integration
PROMPT, COMPLETION = "<|im_start|>why <b>\n", "so\x1b[0m<|im_end|>"


@pytest.fixture
def told(own: Path) -> dict:
    """What a report tells of a project with prepared examples and a tokenizer."""
    tokenizer = tokenizers.of_bytes()
    tokenizer.save_pretrained(paths.BASE)
    files.write_json(paths.BASE / paths.CONFIG, {"model_type": "llama"})
    for name in ("train", "heldout"):
        folder = paths.PREPARED / "travel"
        folder.mkdir(parents=True, exist_ok=True)
        jsonl.write(folder / f"{name}.jsonl", [tokens.example(tokenizer, PROMPT, COMPLETION)] * 5)
    files.write_json(paths.PREPARED / "travel" / paths.ADAPTER_MANIFEST, {"data_sha256": "d" * 64})
    files.write_json(paths.PREPARATIONS / "travel" / "rejects.json", [{"line": 7, "reason": "300 tokens"}])
    source, needs = changes.source(None), dag.stages()
    return page.context(inputs.collect("cpu"), source, needs, changes.compare(source.base, list(needs)))


def test_examples_are_shown_with_what_is_learned_and_control(told):
    (first, *_) = told["looks"]["travel"]
    assert [look.split for look in told["looks"]["travel"]] == ["to train"] * 3 + ["held out"] * 3
    assert first.marked == "<|im_start|>why <b>⏎\n⟦so\\x1b[0m<|im_end|>⟧"
    assert (first.tokens, first.learned) == (16, 7)
    assert told["looks"]["packing"] == []
    html = page.render_html(told)
    assert '<span class=" control">&lt;|im_start|&gt;</span><span class="">why &lt;b&gt;⏎\n</span>' in html
    assert '<span class="learned">so\\x1b[0m</span><span class="learned control">&lt;|im_end|&gt;</span>' in html
    assert '<td class="number">7</td><td>300 tokens</td>' in html
    markdown = page.render_markdown(told)
    assert "<code>&lt;|im_start|&gt;why &lt;b&gt;⏎<br>⟦so\\x1b[0m&lt;|im_end|&gt;⟧</code>" in markdown
    assert "- left out: line 7, `300 tokens`" in markdown


def test_examples_of_another_build_are_not_shown(told):
    other = dataclasses.replace(
        told["inputs"],
        manifest={
            **told["inputs"].manifest,
            "inputs": {**told["inputs"].manifest["inputs"], "data_sha256": {"data/travel.jsonl": "e" * 64}},
        },
    )
    assert looks.of(other, "travel") == []
