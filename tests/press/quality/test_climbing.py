"""Pairs on the ladder: chosen and rejected answers are scored with the adapter and without it, in both runtimes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from projects import ROOT

from press.core import files, paths
from press.data.examples import Example
from press.model import checkpoints
from press.params import settings
from press.quality import climbing, ladder, scoring

BETA = 0.5
IDS = [([5, 6, 7, 8], [5, 6, 9]), ([5, 6, 9, 9, 9], [5, 6, 7, 7]), ([5, 6, 8], [5, 6, 30, 31])]
PAIRS = [
    Example(prompt="", completion="", input_ids=chosen, prompt_tokens=2, rejected="", rejected_ids=rejected)
    for chosen, rejected in IDS
]
ROWS = [Example(prompt="", completion="", input_ids=[1, 2, 3], prompt_tokens=0)]


def margins(log_probability, adapted: object, reference: object) -> np.ndarray:
    """Return rewards' differences by the definition, from what gives the log-probability of an answer by a model."""
    gains = [[log_probability(adapted, ids) - log_probability(reference, ids) for ids in pair] for pair in IDS]
    return BETA * np.array([chosen - rejected for chosen, rejected in gains])


def of_answer(logits: np.ndarray, ids: list[int]) -> float:
    rows = torch.log_softmax(torch.tensor(logits).double(), -1)
    return float(sum(rows[place - 1, ids[place]] for place in range(2, len(ids))))


class Runtime:
    """Gives the same logits for the same tokens and adapter."""

    def logits(self, ids: list[int], adapter: str | None) -> np.ndarray:
        rng = np.random.default_rng([len(adapter or ""), *ids])
        return rng.normal(size=(len(ids), 40)).astype(np.float32)


def test_the_runtime_scores_both_answers(tmp_path):
    steps = ladder.Ladder({"tone": PAIRS, "general": ROWS}, tmp_path)
    for text, some in steps.texts.items():
        rows = scoring.runtime_logits(lambda ids: Runtime().logits(ids, "base"), some)
        steps.add(f"{text}.pytorch.base", text, rows)
    climbing.in_runtime(steps, Runtime())  # type: ignore[arg-type]
    steps.prefer("tone", BETA)
    wanted = margins(lambda adapter, ids: of_answer(Runtime().logits(ids, adapter), ids), "tone", None)
    np.testing.assert_allclose(steps.rungs["tone.onnx.adapter"][1].margins, wanted, atol=1e-5)
    assert not steps.rungs["general.onnx.bare"][1].rejected


@pytest.mark.integration
def test_pytorch_scores_both_answers(in_root: Path, tiny_base, tiny_quantized):
    import parity
    from peft import PeftModel

    for folder, source in ((paths.BASE, tiny_base), (paths.QUANTIZED, tiny_quantized)):
        folder.parent.mkdir(exist_ok=True)
        folder.symlink_to(source)
    parity.random_adapter(tiny_quantized, paths.ADAPTERS / "tone", 4, ["q_proj", "down_proj"])
    (paths.PREPARED / "tone").mkdir(parents=True)
    files.write_json(paths.PREPARED / "tone" / paths.ADAPTER_MANIFEST, {"response_schema": None})
    (in_root / "references").mkdir()
    steps = ladder.Ladder({"tone": PAIRS, "general": ROWS}, Path("references"))
    asked = settings.load(ROOT / paths.PARAMS).evaluate.model_copy(update={"logits_mb": 1})
    climbing.in_pytorch(steps, Path("nowhere.onnx"), "cpu", asked, alone=True)
    steps.prefer("tone", BETA)

    def by(model: torch.nn.Module, ids: list[int]) -> float:
        with torch.no_grad():
            return of_answer(model(input_ids=torch.tensor([ids])).logits[0].numpy(), ids)

    reference = checkpoints.dequantize(checkpoints.load(tiny_quantized))
    adapted = PeftModel.from_pretrained(
        checkpoints.dequantize(checkpoints.load(tiny_quantized)), paths.ADAPTERS / "tone"
    )
    found = steps.rungs["tone.pytorch.adapter"][1].margins
    np.testing.assert_allclose(found, margins(by, adapted, reference), atol=1e-4)
    assert min(map(abs, found)) > 1e-3
