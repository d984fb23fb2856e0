"""How an adapter is asked: its samples, and what the base model leaves room for."""

from pathlib import Path

import pytest

from press.core import files, paths
from press.core.errors import UserError
from press.training import asking

from .data_sets import adapter, good, line


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A base model of 100 tokens, of which a text may have 8."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / paths.BASE).mkdir(parents=True)
    files.write_json(paths.BASE / paths.CONFIG, {"max_position_embeddings": 8, "vocab_size": 100})


def test_a_sample_that_leaves_no_room_for_an_answer_is_refused(base, write):
    params = write(good(1), samples=["why", "why not"])
    asking.check_samples("travel", params, [7, 7])
    with pytest.raises(UserError) as caught:
        asking.check_samples("travel", params, [7, 8])
    assert str(caught.value) == (
        'adapters.travel.samples: "why not" has 8 tokens with the template, but the base model\'s context is 8 tokens'
    )


def test_answers_are_sampled_from_no_more_tokens_than_there_are(base):
    asking.check_top_k("travel", 100)
    with pytest.raises(UserError) as caught:
        asking.check_top_k("travel", 101)
    assert str(caught.value) == (
        "adapters.travel.generation.top_k is 101, but the base model has only 100 tokens (0: all)"
    )


def test_samples_are_rendered_up_to_the_answer():
    params = adapter(Path("x"), samples=["why {so}?", "when"])
    assert asking.render_samples(params, params.template) == ["<|im_start|>why {so}?\n", "<|im_start|>when\n"]
    twice = adapter(Path("x"), template="{q}, {q}: {response}", samples=["why"])
    assert asking.render_samples(twice, twice.template) == ["why, why: "]


def test_samples_of_a_template_with_two_fields_are_refused():
    params = adapter(Path("x"), template="{city} {topic} {response}")
    with pytest.raises(UserError) as caught:
        asking.render_samples(params, params.template)
    assert str(caught.value) == "samples need a template with one field besides {response}, not city, topic"


def test_an_adapter_without_samples_may_have_a_template_with_two_fields(write):
    params = write(
        [line("q", place=f"p{index}") for index in range(6)], template="{place}|{prompt}\n{response}<|im_end|>"
    )
    assert asking.render_samples(params.model_copy(update={"samples": []}), params.template) == []
