"""Train a LoRA adapter on a quantized base by Olive's passes, and take up a training that was killed."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Literal

from press.core import arithmetic, files, paths
from press.core.errors import UserError
from press.model import checkpoints, device, launcher, meeting, nodes, olive_run
from press.params import objectives, schema

# What `check` writes about the libraries and the code of this stage.
BUILT_WITH = "finetune.txt"
# What lowers the memory that an adapter's training needs.
KNOBS = (
    "adapters.{0}.training.batch_size (and raise .gradient_accumulation), adapters.{0}.max_seq_len or "
    "adapters.{0}.lora.rank, or set adapters.{0}.training.gradient_checkpointing to true or adapters.{0}.lora.method "
    "to qlora"
)


def finetune(
    name: str,
    adapter: schema.Adapter,
    seed: int,
    base: Path,
    building: Path,
    resumed: Path,
    where: Literal["cpu", "cuda"] = "cpu",
    mode: str = arithmetic.NATIVE,
    trust: bool = False,
    node: nodes.Node = nodes.Node(),  # noqa: B008 - it is frozen
) -> Path:
    """Train an adapter on the prepared examples; return its folder, below `building`, with the digest of its base.

    Where several nodes train it, each calls this, and the result of the first counts.

    :param where: cpu trains in fp32, cuda in bf16
    :param mode: of arithmetic; the portable one is the optimizer in one kernel, without square roots of MKL
    :param trust: whether the base's own Python code may run
    :param resumed: folder of the training checkpoints, which outlives a kill
    :raises UserError: if the base has no such modules, the loss diverges, a GPU is full or fails, or a node does
    """
    check_target_modules(name, adapter.lora.target_modules, base)
    ranks = nodes.ranks(adapter.training)
    with files.digesting(base) as digested:
        if ranks == 1:
            olive_run.load()
    digest = digested.result()
    prepared = paths.PREPARED / name
    training = adapter.training
    fused = where == "cuda" or arithmetic.is_portable(mode)
    trainer = {
        "type": "LoRAOnQuantized",
        "seed": seed,
        "method": adapter.lora.method,
        "r": adapter.lora.rank,
        "alpha": adapter.lora.alpha,
        "lora_dropout": adapter.lora.dropout,
        "target_modules": adapter.lora.target_modules,
        "beta": training.beta if objectives.learns_from_pairs(training) else None,
        "row_tokens": adapter.max_seq_len if training.packing else None,
        "torch_dtype": "bfloat16" if where == "cuda" else "float32",
        "train_data_config": _data_config("train", prepared / paths.TRAIN, training),
        "eval_data_config": _data_config("heldout", prepared / paths.HELDOUT, training),
        "training_args": {
            "output_dir": str(resumed / "trainer"),
            "seed": seed,
            "data_seed": seed,
            "max_steps": training.max_steps,
            "per_device_train_batch_size": training.batch_size // ranks,
            "per_device_eval_batch_size": training.batch_size // ranks,
            "gradient_accumulation_steps": training.gradient_accumulation,
            "gradient_checkpointing": training.gradient_checkpointing,
            "learning_rate": training.learning_rate,
            "lr_scheduler_type": training.schedule,
            "warmup_ratio": 0.0,
            "warmup_steps": training.warmup_steps,
            "weight_decay": training.weight_decay,
            "optim": "adamw_torch_fused" if fused else "adamw_torch",
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "eval_strategy": "steps",
            "eval_steps": training.checkpoint_every,
            "save_strategy": "steps",
            "save_steps": training.checkpoint_every,
            "save_total_limit": 1,
            "prediction_loss_only": True,
            "disable_tqdm": False,
            "dataloader_pin_memory": False,
        },
    }
    inputs = fingerprint(trainer, mode, ranks, digest, prepared)
    if node.rank == 0:
        discard_other_checkpoints(resumed, inputs)
    model, passes, knobs = olive_run.hf_model(base, trust), {"finetune": trainer}, KNOBS.format(name)
    with meeting.meeting(node, inputs) if node.count > 1 else contextlib.nullcontext() as met:
        # On a disk that the nodes share, the first has done so.
        discard_other_checkpoints(resumed, inputs)
        if ranks > 1:
            result = launcher.run(model, passes, building, training.processes, knobs, mode, "the training", met)
        else:
            with device.explained(knobs):
                result = olive_run.run(model, passes, building)
    trained = result / "adapter"
    files.write_json(trained / paths.BASE_DIGEST, {"base_sha256": digest})
    return trained


def check_target_modules(name: str, wanted: list[str], base: Path) -> None:
    """Refuse a target module that the base model's layers do not have."""
    present = checkpoints.adaptable_modules(base)
    unknown = [module for module in wanted if module not in present]
    if unknown:
        raise UserError(
            f"adapters.{name}.lora.target_modules names {', '.join(unknown)}, but the base model's layers have only "
            f"{', '.join(sorted(present))}"
        )


def fingerprint(trainer: dict, mode: str, processes: int, base: str, prepared: Path) -> str:
    """Return a digest of all that the training depends on: parameters, base, examples, libraries and code.

    :param processes: on all nodes
    :param base: digest of its files
    """
    import torch

    inputs = [prepared / paths.TRAIN, prepared / paths.HELDOUT, paths.ENVIRONMENT / BUILT_WITH, paths.CODE / BUILT_WITH]
    digests = [files.sha256(path) for path in inputs if path.exists()]
    everything = [trainer, mode, processes, torch.get_num_threads(), base, digests]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def discard_other_checkpoints(resumed: Path, inputs: str) -> None:
    """Remove checkpoints of a run with other inputs, which the Trainer would go on from without a word."""
    mark = resumed / "inputs.sha256"
    if not mark.exists() or mark.read_text(encoding="utf-8") != inputs:
        files.remove(resumed)
        resumed.mkdir(parents=True)
        mark.write_text(inputs, encoding="utf-8")


def _data_config(name: str, path: Path, training: schema.Training) -> dict:
    config = {"type": "prepared_examples", "params": {"path": str(path), "response_only": training.response_only}}
    if objectives.learns_from_pairs(training):
        config = {"type": "prepared_pairs", "params": {"path": str(path)}}
    return {"name": name, "user_script": "passes/data.py", "load_dataset_config": config}
