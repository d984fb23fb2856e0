"""Answers end at a stop text, and texts are measured by the model's own context."""

from pathlib import Path

import pytest
from parity import captured_to

from press.core import files
from press.core.errors import UserError
from press.model import graphs
from press.model.runtime import Runtime

pytestmark = pytest.mark.integration


@pytest.fixture
def runtime(tiny_quantized: Path, in_root: Path) -> Runtime:
    return Runtime(captured_to(in_root, tiny_quantized), {}, threads=2)


def test_an_answer_ends_at_the_first_stop_text_that_comes_up(runtime):
    answers = {prompt: runtime.answer(prompt, None, 12)[0] for prompt in (f"To pack {index}" for index in range(40))}
    # Random weights write bytes, of which few are letters.
    prompt, whole = next((key, text) for key, text in answers.items() if text[:3].isascii() and len(text) > 8)
    stop = whole[1:3]
    answer, ended = runtime.answer(prompt, None, 12, ["never written", stop])
    assert ended
    assert answer == whole[: whole.index(stop) + len(stop)]
    assert runtime.answer(prompt, None, 12, ["never written"])[0] == whole


def test_prompts_answered_side_by_side_are_answered_as_one_by_one(tiny_quantized, in_root):
    model, prompts = captured_to(in_root, tiny_quantized), [f"To pack {index}" for index in range(9)]
    one, several = Runtime(model, {}, threads=2), Runtime(model, {}, threads=2, at_once=3)
    assert several.answers(prompts, None, 12) == [one.answer(prompt, None, 12) for prompt in prompts]


def test_a_text_that_the_runtime_would_cut_off_is_refused(runtime):
    for ask in (runtime.encode, lambda text: runtime.answer(text, None, 4)):
        with pytest.raises(UserError, match=r"U\+0000"):
            ask("a\0b")


def test_the_context_is_the_checkpoint_s(runtime):
    assert runtime.context == 512
    assert len(runtime.logits([65] * (runtime.context - 1), None)) == runtime.context - 1


@pytest.mark.parametrize(
    "load",
    [lambda model: Runtime(model, {}, threads=2), lambda model: graphs.check_loads(model, "CPUExecutionProvider")],
)
def test_a_model_that_names_code_is_refused_before_it_is_loaded(tmp_path, load):
    session = {"custom_ops_library": "evil.so"}
    files.write_json(tmp_path / "genai_config.json", {"model": {"decoder": {"session_options": session}}})
    with pytest.raises(UserError, match=r"sets model\.decoder\.session_options\.custom_ops_library"):
        load(tmp_path)
