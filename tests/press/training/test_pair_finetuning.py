"""Training on pairs of answers, by TRL: what it learns, that it computes DPO's formula, and what makes it the same."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import trl
from projects import ROOT
from torch.nn import functional
from transformers import AutoTokenizer

from passes import data, preference
from press.core import files
from press.data import jsonl, tokens
from press.model import checkpoints
from press.params import settings
from press.training import finetuning

pytestmark = pytest.mark.integration
ADAPTER = settings.load(ROOT / "params.yaml").adapter("travel")
TRAINING = ADAPTER.training.model_copy(
    update={"objective": "dpo", "max_steps": 4, "batch_size": 2, "warmup_steps": 0, "checkpoint_every": 2}
)
LORA = ADAPTER.lora.model_copy(update={"rank": 4})
BETA = 0.3


class Killed(BaseException):
    """Ends a training as a kill does: nothing of the project catches it."""


@pytest.fixture
def prepared(in_root: Path, tiny_base: Path) -> Path:
    """A working folder with a few prepared pairs of an adapter named `tiny`: those with `good` are chosen."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    some = []
    for index in range(12):
        prompt = f"question {index}\n"
        chosen, rejected = (
            tokens.example(tokenizer, prompt, f"{'so ' * (index % 5)}{word}<|im_end|>") for word in ("good", "awful")
        )
        some.append({**chosen, "rejected": rejected["completion"], "rejected_ids": rejected["input_ids"]})
    folder = in_root / "prepared/tiny"
    folder.mkdir(parents=True)
    jsonl.write(folder / "train.jsonl", some[:7])
    jsonl.write(folder / "heldout.jsonl", some[7:])
    return in_root


def train(root: Path, base: Path, name: str, where: str = "cpu", **changes) -> Path:
    """Train into a folder of the given name, and return the adapter."""
    lora = LORA.model_copy(update={key: changes.pop(key) for key in ("method", "dropout") if key in changes})
    adapter = ADAPTER.model_copy(update={"lora": lora, "training": TRAINING.model_copy(update=changes)})
    building = root / name
    building.mkdir()
    return finetuning.finetune("tiny", adapter, 0, base, building, root / "checkpoints", where)


def losses(adapter: Path) -> dict[str, list[float]]:
    curves = files.read_json(adapter / "training_log.json")
    return {name: [point["loss"] for point in points] for name, points in curves.items()}


def pairs(root: Path, name: str = "train") -> list[dict[str, list[int]]]:
    return list(data.prepared_pairs(str(root / f"prepared/tiny/{name}.jsonl")))


def log_probability(model: torch.nn.Module, pair: dict[str, list[int]], side: str) -> torch.Tensor:
    """Return the log-probability of an answer, by its prompt alone and without padding."""
    ids = torch.tensor([pair["prompt_ids"] + pair[side]])
    rows = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), -1)
    return rows.gather(-1, ids[0, 1:, None])[len(pair["prompt_ids"]) - 1 :].sum()


def margin(model: torch.nn.Module, reference: torch.nn.Module, pair: dict[str, list[int]]) -> torch.Tensor:
    chosen, rejected = (
        log_probability(model, pair, side) - log_probability(reference, pair, side)
        for side in ("chosen_ids", "rejected_ids")
    )
    return chosen - rejected


@pytest.fixture
def trained(tiny_quantized: Path, prepared: Path):
    """A trainer of an adapter that is not what it began as, and the base as a model of its own."""
    from peft import LoraConfig, get_peft_model

    base = checkpoints.dequantize(checkpoints.load(tiny_quantized))
    reference = copy.deepcopy(base)
    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    tokenizer = AutoTokenizer.from_pretrained(tiny_quantized)
    arguments = transformers.TrainingArguments(
        str(prepared / "out"), max_steps=1, use_cpu=True, per_device_eval_batch_size=2
    )
    rows, heldout = pairs(prepared), pairs(prepared, "heldout")
    trainer = preference.trainer(model, tokenizer, arguments, rows, heldout, BETA)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return trainer, model, reference


def test_the_loss_is_that_of_the_formula(trained, prepared):
    """Equation 7 of arXiv 2305.18290, in plain PyTorch: TRL's sums of fp32 differ by their order alone."""
    trainer, model, reference = trained
    some = pairs(prepared)
    batch = trainer.data_collator(some)
    own = torch.stack([margin(model, reference, pair) for pair in some])
    assert own.abs().min() > 0.01
    expected = -functional.logsigmoid(BETA * own).mean()
    got = trainer.compute_loss(model, batch)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    weights = [weight for name, weight in model.named_parameters() if "lora_" in name]
    for ours, theirs in zip(torch.autograd.grad(got, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_the_held_out_loss_is_a_mean_over_pairs(trained, prepared):
    trainer, model, reference = trained
    model.eval()
    some = pairs(prepared, "heldout")
    assert len(some) % 2
    with torch.no_grad():
        expected = -functional.logsigmoid(BETA * torch.stack([margin(model, reference, pair) for pair in some])).mean()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_trl_trains_on_the_tokens_that_were_prepared(prepared, tiny_quantized, monkeypatch):
    seen = []

    def step(self: trl.DPOTrainer, model: torch.nn.Module, inputs: dict, *rest) -> torch.Tensor:
        count = len(inputs["input_ids"]) // 2
        for place in range(count):
            rows = [
                inputs["input_ids"][at][inputs["attention_mask"][at] == 1].tolist() for at in (place, place + count)
            ]
            answers = [int(inputs["completion_mask"][at].sum()) for at in (place, place + count)]
            seen.append((*rows, *answers))
        return original(self, model, inputs, *rest)

    original = trl.DPOTrainer.training_step
    monkeypatch.setattr(trl.DPOTrainer, "training_step", step)
    train(prepared, tiny_quantized, "adapter", max_steps=7)
    wanted = [
        (
            each["input_ids"],
            each["rejected_ids"],
            *(len(each[key]) - each["prompt_tokens"] for key in ("input_ids", "rejected_ids")),
        )
        for each in jsonl.read(prepared / "prepared/tiny/train.jsonl")
    ]
    # Two passes over seven pairs.
    assert sorted(seen) == sorted(wanted * 2)


def test_an_adapter_learns_what_is_preferred(prepared, tiny_quantized):
    from peft import PeftModel

    folder = train(prepared, tiny_quantized, "adapter", max_steps=30, checkpoint_every=30, learning_rate=0.01)
    curve = losses(folder)["train"]
    assert curve[0] == pytest.approx(np.log(2), rel=1e-5)
    assert curve[-1] < 0.5 * curve[0]
    reference = checkpoints.dequantize(checkpoints.load(tiny_quantized))
    model = PeftModel.from_pretrained(copy.deepcopy(reference), folder)
    some = jsonl.read(prepared / "prepared/tiny/heldout.jsonl")
    with torch.no_grad():
        right = [float(margin(model, reference, pair)) > 0 for pair in pairs(prepared, "heldout")]
    assert np.mean(right) >= 0.9
    assert len(right) == len(some)


def test_the_same_run_gives_the_same_bytes(prepared, tiny_quantized):
    torch.manual_seed(123)
    first = files.folder_digest(train(prepared, tiny_quantized, "first", dropout=0.1))
    files.remove(prepared / "checkpoints")
    torch.manual_seed(456)
    assert files.folder_digest(train(prepared, tiny_quantized, "again", dropout=0.1)) == first


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(prepared, tiny_quantized, monkeypatch):
    whole = files.folder_digest(train(prepared, tiny_quantized, "whole", dropout=0.1))
    files.remove(prepared / "checkpoints")
    steps = []

    def killed(self: trl.DPOTrainer, *rest) -> torch.Tensor:
        steps.append(self.state.global_step)
        if self.state.global_step == 3 and len(steps) == 4:
            raise Killed
        return original(self, *rest)

    original = trl.DPOTrainer.training_step
    monkeypatch.setattr(trl.DPOTrainer, "training_step", killed)
    with pytest.raises(Killed):
        train(prepared, tiny_quantized, "killed", dropout=0.1)
    again = train(prepared, tiny_quantized, "again", dropout=0.1)
    assert steps == [0, 1, 2, 3, 2, 3]
    assert files.folder_digest(again) == whole


def test_a_run_that_was_killed_after_its_last_step_trains_no_step_more(prepared, tiny_quantized):
    first = train(prepared, tiny_quantized, "first")
    again = train(prepared, tiny_quantized, "again")
    assert files.folder_digest(again) == files.folder_digest(first)


@pytest.mark.parametrize("method", ["rslora", "dora"])
def test_each_method_begins_as_the_reference(prepared, tiny_quantized, method):
    folder = train(prepared, tiny_quantized, "adapter", method=method, gradient_checkpointing=True)
    assert losses(folder)["train"][0] == pytest.approx(np.log(2), rel=1e-5)
    assert {path.name for path in folder.iterdir()} >= {"adapter_model.safetensors", "base.json"}
    assert not (folder / preference.COPY).exists()


def test_nothing_of_the_reference_s_copy_is_left(trained):
    _, model, _ = trained
    assert list(model.peft_config) == ["default"]
    trainable = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trainable
    assert all("lora_" in name and ".default." in name for name in trainable)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_what_is_preferred_with_the_same_bytes_each_time(prepared, tiny_quantized):
    changes = {"max_steps": 30, "checkpoint_every": 30, "learning_rate": 0.01, "gradient_checkpointing": True}
    first = train(prepared, tiny_quantized, "first", "cuda", **changes)
    curve = losses(first)["train"]
    assert curve[-1] < 0.5 * curve[0]
    files.remove(prepared / "checkpoints")
    assert files.folder_digest(train(prepared, tiny_quantized, "again", "cuda", **changes)) == files.folder_digest(
        first
    )
