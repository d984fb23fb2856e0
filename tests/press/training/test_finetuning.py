"""Training a tiny adapter: what it learns from, what makes it the same again, and what is refused."""

import gc
import importlib.util
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from projects import ROOT
from safetensors.numpy import load_file
from transformers import AutoTokenizer

from passes import gpu, nf4
from press.core import files
from press.core.errors import UserError
from press.data import jsonl, tokens
from press.model import checkpoints, device
from press.params import settings
from press.training import finetuning

pytestmark = pytest.mark.integration
ADAPTER = settings.load(ROOT / "params.yaml").adapter("travel")
TRAINING = ADAPTER.training.model_copy(
    update={"max_steps": 4, "batch_size": 2, "warmup_steps": 0, "checkpoint_every": 2}
)
LORA = ADAPTER.lora.model_copy(update={"rank": 4, "dropout": 0.1})


@pytest.fixture
def prepared(in_root: Path, tiny_base: Path) -> Path:
    """A working folder with a few prepared examples of an adapter named `tiny`."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    # Answers of unlike length, and no whole batches of them.
    answers = [f"{'very ' * index}good<|im_end|>" for index in range(10)]
    some = [tokens.example(tokenizer, f"question {index}\n", answer) for index, answer in enumerate(answers)]
    folder = in_root / "prepared/tiny"
    folder.mkdir(parents=True)
    jsonl.write(folder / "train.jsonl", some[:7])
    jsonl.write(folder / "heldout.jsonl", some[7:])
    return in_root


def train(root: Path, base: Path, name: str, where: str = "cpu", **changes) -> Path:
    """Train into a folder of the given name, and return the adapter."""
    lora = LORA.model_copy(
        update={key: changes.pop(key) for key in ("method", "target_modules", "dropout") if key in changes}
    )
    adapter = ADAPTER.model_copy(update={"lora": lora, "training": TRAINING.model_copy(update=changes)})
    building = root / name
    building.mkdir()
    return finetuning.finetune("tiny", adapter, 0, base, building, root / "checkpoints", where)


def test_a_run_that_was_killed_after_its_last_step_trains_no_step_more(prepared, tiny_quantized):
    first = train(prepared, tiny_quantized, "first")
    state = prepared / "checkpoints/trainer/checkpoint-4/trainer_state.json"
    before = state.stat().st_mtime_ns
    again = train(prepared, tiny_quantized, "again")
    assert files.folder_digest(again) == files.folder_digest(first)
    assert state.stat().st_mtime_ns == before
    assert [point["step"] for point in files.read_json(again / "training_log.json")["heldout"]] == [2, 4]


def test_a_checkpoint_that_was_not_written_to_its_end_is_not_taken(prepared, tiny_quantized):
    first = train(prepared, tiny_quantized, "first")
    checkpoint = prepared / "checkpoints/trainer/checkpoint-4"
    state = checkpoint / "trainer_state.json"
    state.write_text(state.read_text(encoding="utf-8")[:20], encoding="utf-8")
    again = train(prepared, tiny_quantized, "again")
    assert files.folder_digest(again) == files.folder_digest(first)


def test_the_adapter_names_no_path_and_lists_its_modules_in_order(prepared, tiny_quantized):
    folder = train(prepared, tiny_quantized, "adapter")
    config = files.read_json(folder / "adapter_config.json")
    assert config["base_model_name_or_path"] is None
    assert config["target_modules"] == sorted(LORA.target_modules)
    assert not any(str(prepared).encode() in path.read_bytes() for path in folder.iterdir())


def test_training_lowers_the_loss(prepared, tiny_quantized):
    folder = train(prepared, tiny_quantized, "adapter", max_steps=30, checkpoint_every=30, learning_rate=0.01)
    curve = files.read_json(folder / "training_log.json")["train"]
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]


def test_the_prompt_counts_only_if_so_asked(prepared, tiny_quantized):
    losses = [
        files.read_json(train(prepared, tiny_quantized, str(only), response_only=only) / "training_log.json")["train"][
            0
        ]
        for only in (True, False)
    ]
    assert losses[0] != losses[1]


def test_a_loss_that_is_not_finite_ends_in_a_sentence(prepared, tiny_quantized):
    with pytest.raises(UserError, match="not a finite number any more: lower the learning rate"):
        train(prepared, tiny_quantized, "adapter", learning_rate=1e30, schedule="constant")


def test_unknown_modules_are_refused_before_anything_runs(prepared, tiny_quantized):
    with pytest.raises(UserError, match=r"names query, but .* have only down_proj, gate_proj, k_proj"):
        train(prepared, tiny_quantized, "adapter", target_modules=["q_proj", "query"])
    assert not (prepared / "checkpoints").exists()


def test_the_seed_reaches_the_initialisation(prepared, tiny_quantized):
    torch.manual_seed(123)
    first = files.folder_digest(train(prepared, tiny_quantized, "first"))
    files.remove(prepared / "checkpoints")
    torch.manual_seed(456)
    assert files.folder_digest(train(prepared, tiny_quantized, "again")) == first


def test_the_trained_base_is_the_quantized_one(tiny_quantized):
    model = checkpoints.dequantize(checkpoints.load(tiny_quantized))
    assert not hasattr(model.config, "quantization_config")
    assert {type(module) for name, module in model.named_modules() if name.endswith("_proj")} == {torch.nn.Linear}


def weights(adapter: Path) -> dict[str, np.ndarray]:
    return load_file(adapter / "adapter_model.safetensors")


def test_gradient_checkpointing_computes_the_same_gradients(prepared, tiny_quantized):
    kept = weights(train(prepared, tiny_quantized, "kept"))
    files.remove(prepared / "checkpoints")
    computed = weights(train(prepared, tiny_quantized, "computed", gradient_checkpointing=True))
    for name, expected in kept.items():
        np.testing.assert_allclose(computed[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
def test_each_method_trains_what_its_configuration_says(prepared, tiny_quantized, method):
    folder = train(prepared, tiny_quantized, "adapter", method=method)
    config = files.read_json(folder / "adapter_config.json")
    assert (config["use_rslora"], config["use_dora"]) == (method == "rslora", method == "dora")
    norms = [name for name in weights(folder) if name.endswith("lora_magnitude_vector")]
    assert bool(norms) is (method == "dora")


def test_the_methods_differ_in_what_they_learn(prepared, tiny_quantized):
    curves = []
    for method in ("lora", "rslora"):
        folder = train(prepared, tiny_quantized, f"by {method}", method=method)
        curves.append(files.read_json(folder / "training_log.json")["train"])
    # B starts at zero, so that the branch's scale shows only after the first step.
    assert curves[0][0] == curves[1][0]
    assert curves[0][-1] != curves[1][-1]


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_the_precision_of_a_gpu_trains_the_frozen_base_in_bf16_and_the_adapter_in_fp32(
    prepared, tiny_quantized, method
):
    changes = {"max_steps": 30, "checkpoint_every": 30, "learning_rate": 0.01, "gradient_checkpointing": True}
    folder = train(prepared, tiny_quantized, "adapter", "cuda", method=method, **changes)
    assert {array.dtype for array in weights(folder).values()} == {np.dtype(np.float32)}
    curve = files.read_json(folder / "training_log.json")["train"]
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]


def test_packed_rows_are_trained_on_as_they_are_anywhere(prepared, tiny_quantized):
    changes = {"packing": True, "max_steps": 30, "checkpoint_every": 30, "learning_rate": 0.01, "dropout": 0.0}
    first = train(prepared, tiny_quantized, "first", **changes)
    curve = losses(first)["train"]
    assert curve[-1] < 0.8 * curve[0]
    files.remove(prepared / "checkpoints")
    assert files.folder_digest(train(prepared, tiny_quantized, "again", **changes)) == files.folder_digest(first)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("packing", [False, True])
def test_a_training_on_a_gpu_that_is_compiled_learns_what_one_does_that_is_not(
    prepared, tiny_quantized, monkeypatch, packing
):
    changes = {"packing": packing, "max_steps": 8, "checkpoint_every": 8, "dropout": 0.0}
    plain = train(prepared, tiny_quantized, "plain", "cuda", **changes)
    monkeypatch.setattr(gpu, "WORTHWHILE", 1)
    compiled = []
    for name, recompute in (("kept", False), ("again", False), ("computed", True)):
        files.remove(prepared / "checkpoints")
        compiled.append(train(prepared, tiny_quantized, name, "cuda", **changes, gradient_checkpointing=recompute))
    assert len({files.folder_digest(folder) for folder in compiled}) == 1
    curves = losses(compiled[0])
    # Of the same weights; later ones differ by what steps make of products in bf16.
    np.testing.assert_allclose(curves["train"][0], losses(plain)["train"][0], atol=1e-3)
    for curve, expected in losses(plain).items():
        np.testing.assert_allclose(curves[curve], expected, rtol=1e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_full_gpu_ends_in_a_sentence(prepared, tiny_quantized):
    # What earlier tests left in PyTorch's cache would be enough for a tiny model.
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(UserError, match=r"the GPU's memory is full: at least .* GiB were needed .*batch_size"):
            train(prepared, tiny_quantized, "adapter", "cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def train_as_the_stage(root: Path, base: Path, name: str, where: str = "cpu", **changes) -> Path:
    """Train in a process that sees only the GPUs that it may use, where it may use any: this one has long seen all."""
    if where == "cpu":
        return train(root, base, name, **changes)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(confined, root, base, name, where, changes).result()


def confined(root: Path, base: Path, name: str, where: str, changes: dict) -> Path:
    device.confine(where, changes.get("processes", 1))
    return train(root, base, name, where, **changes)


def losses(adapter: Path) -> dict[str, np.ndarray]:
    curves = files.read_json(adapter / "training_log.json")
    return {name: np.array([point["loss"] for point in points]) for name, points in curves.items()}


def test_two_processes_learn_what_one_does(prepared, tiny_quantized):
    same = {"batch_size": 4, "gradient_accumulation": 2, "dropout": 0.0}
    one = train_as_the_stage(prepared, tiny_quantized, "one", **same)
    files.remove(prepared / "checkpoints")
    two = train_as_the_stage(prepared, tiny_quantized, "two", **same, processes=2)
    for curve, expected in losses(one).items():
        np.testing.assert_allclose(losses(two)[curve], expected, rtol=1e-6)
    for name, expected in weights(one).items():
        np.testing.assert_allclose(weights(two)[name], expected, atol=1e-5)


needs_bitsandbytes = pytest.mark.skipif(not importlib.util.find_spec("bitsandbytes"), reason="needs bitsandbytes")


@needs_bitsandbytes
def test_qlora_trains_on_a_base_in_nf4_and_gives_a_plain_lora(prepared, tiny_quantized):
    import bitsandbytes

    model = nf4.to_nf4(checkpoints.load(tiny_quantized), torch.float32)
    plain = checkpoints.dequantize(checkpoints.load(tiny_quantized), torch.float32)
    for name, linear in checkpoints.dequantize(model, torch.float32).named_modules():
        if name.endswith("_proj"):
            assert linear.weight.quant_state.quant_type == "nf4"
            assert linear.weight.quant_state.nested
            assert linear.weight.nbytes * 8 == linear.in_features * linear.out_features * 4
            expected = plain.get_submodule(name).weight
            got = bitsandbytes.functional.dequantize_4bit(linear.weight.data, linear.weight.quant_state)
            assert (got - expected).norm() < 0.15 * expected.norm()
    folder = train(prepared, tiny_quantized, "adapter", method="qlora", max_steps=30, learning_rate=0.01)
    assert {array.dtype for array in weights(folder).values()} == {np.dtype(np.float32)}
    curve = losses(folder)["train"]
    assert curve[-1] < 0.8 * curve[0]
    config = files.read_json(folder / "adapter_config.json")
    assert (config["peft_type"], config["use_dora"], config["use_rslora"]) == ("LORA", False, False)


several_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


@several_gpus
def test_two_gpus_learn_what_one_does(prepared, tiny_quantized):
    same = {"batch_size": 4, "dropout": 0.0, "max_steps": 30, "checkpoint_every": 10, "gradient_checkpointing": True}
    one = train_as_the_stage(prepared, tiny_quantized, "one", "cuda", **same)
    folders = []
    for name in ("two", "again"):
        files.remove(prepared / "checkpoints")
        folders.append(train_as_the_stage(prepared, tiny_quantized, name, "cuda", **same, processes=2))
    assert files.folder_digest(folders[0]) == files.folder_digest(folders[1])
    for curve, expected in losses(one).items():
        # Products in bf16.
        np.testing.assert_allclose(losses(folders[0])[curve], expected, rtol=1e-2)


@several_gpus
def test_a_full_gpu_of_several_ends_in_a_sentence(prepared, tiny_quantized, monkeypatch):
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "per_process_memory_fraction:0.000001")
    with pytest.raises(UserError, match=r"the GPU's memory is full: .*batch_size"):
        train_as_the_stage(prepared, tiny_quantized, "adapter", "cuda", processes=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@needs_bitsandbytes
def test_qlora_keeps_a_quarter_of_the_base_s_bytes_on_a_gpu(prepared, tiny_quantized):
    packed = checkpoints.load(tiny_quantized).to("cuda")
    model = checkpoints.dequantize(nf4.to_nf4(packed, torch.bfloat16), torch.bfloat16)
    plain = checkpoints.dequantize(checkpoints.load(tiny_quantized).to("cuda"), torch.bfloat16)
    linears = [name for name, _ in plain.named_modules() if name.endswith("_proj")]
    sizes = [sum(each.get_submodule(name).weight.nbytes for name in linears) for each in (model, plain)]
    assert sizes[0] * 4 == sizes[1]
    folder = train(prepared, tiny_quantized, "adapter", "cuda", method="qlora", max_steps=30, learning_rate=0.01)
    curve = losses(folder)["train"]
    assert curve[-1] < 0.8 * curve[0]
