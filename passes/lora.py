"""Olive pass: LoRA fine-tuning of an Olive-quantized model (LoRA, arXiv 2106.09685; QLoRA, arXiv 2305.14314)."""

import math
import zipfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Literal, cast

import torch
import transformers
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import HfModelHandler
from olive.passes.olive_pass import PassConfigParam
from olive.passes.pass_config import BasePassConfig
from olive.passes.pytorch.lora import LoRA
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch.utils.data import Dataset
from transformers.trainer import TRAINER_STATE_NAME, TrainerState

from passes import gpu, nf4
from passes.batches import Collator
from passes.packing import packed_rows
from passes.trainer import TokenMeanTrainer, training_order
from press.core import files
from press.core.errors import UserError
from press.model import checkpoints, device

LOG = "training_log.json"


class LoRAOnQuantized(LoRA):
    """Train a LoRA adapter on a checkpoint that Olive quantized, which Olive's own pass refuses.

    Every quantized linear is replaced by a frozen one with the dequantized weight in `torch_dtype`: the same
    function. It trains on a GPU if there is one, in a way of its own (`passes/gpu.py`); in bfloat16, products are in
    bf16 and the adapter's weights stay in fp32. The seed is set before the adapter is initialised, since the Trainer
    sets it only afterwards. Where `training_args.output_dir` holds a whole checkpoint of an earlier, killed run,
    training goes on from there; who calls the pass makes sure that it belongs to the same inputs.

    A launcher such as torchrun may run it in several processes. They share each batch, of
    `per_device_train_batch_size` examples a process: the examples of a step and their loss, a mean over tokens, are
    those of one process with the whole batch.
    """

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        return {
            **super()._default_config(accelerator_spec),
            "method": PassConfigParam(
                type_=Literal["lora", "rslora", "dora", "qlora"],
                default_value="lora",
                description=(
                    "lora, rslora (scaled by alpha / sqrt(r), arXiv 2312.03732), dora (which also trains the norms of"
                    " the weights' rows, arXiv 2402.09353) or qlora (lora on a base in NF4, arXiv 2305.14314)."
                ),
            ),
            "seed": PassConfigParam(
                type_=int, default_value=42, description="Seed of the initialisation, the data order and the dropout."
            ),
            "beta": PassConfigParam(
                type_=float | None,
                default_value=None,
                description=(
                    "Of direct preference optimization (arXiv 2305.18290), on data of pairs: how dear it is to part"
                    " from the base. None learns the answers that the data has."
                ),
            ),
            "row_tokens": PassConfigParam(
                type_=int | None,
                default_value=None,
                description="Tokens of a row that is filled with whole examples. None takes each example for a row.",
            ),
        }

    def load_base_pytorch_model(self, model_handler: HfModelHandler, config: type[BasePassConfig], **kwargs):
        """Load the quantized base and dequantize it in place, on the device that the Trainer will take."""
        transformers.set_seed(config.seed)
        where, trust = device.resolve("auto"), checkpoints.trusted(model_handler)
        if where == "cuda":
            gpu.settle()
        model = checkpoints.load(Path(model_handler.model_name_or_path), where, trust)
        dtype = self.get_torch_dtype(config.torch_dtype)
        if dtype == torch.float16:
            dtype = torch.float32
        if config.method == "qlora":
            nf4.to_nf4(model, dtype)
        return checkpoints.dequantize(model, dtype)

    @staticmethod
    def get_peft_model(
        model: transformers.PreTrainedModel, config: type[BasePassConfig], config_kwargs: dict | None = None
    ) -> PeftModel:
        """Add the branches of the chosen method."""
        method = {"use_rslora": config.method == "rslora", "use_dora": config.method == "dora"}
        return LoRA.get_peft_model(model, config, {**(config_kwargs or {}), **method, **checkpoints.kept_out(model)})

    @staticmethod
    def get_datasets(config: type[BasePassConfig]) -> tuple[Sequence[dict], Sequence[dict] | None]:
        """Load the examples as they are: Olive would go through a cache of Hugging Face datasets."""
        containers = [config.train_data_config, config.eval_data_config]
        train, heldout = [container and container.to_data_container().load_dataset() for container in containers]
        return train, heldout

    def train_and_save_new_model(
        self,
        model: PeftModel,
        tokenizer: transformers.PreTrainedTokenizerBase,
        config: type[BasePassConfig],
        output_model: HfModelHandler,
        output_model_path: str,
    ) -> HfModelHandler:
        """Train, and save the adapter with its loss curves (training_log.json).

        :raises UserError: if the loss is not finite
        """
        train, heldout = self.get_datasets(config)
        arguments = training_arguments(config)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token_id = tokenizer.eos_token_id
        # Olive says that it takes no number of tokens, without which a loss is a mean over means of unlike batches.
        del model.get_base_model().accepts_loss_kwargs
        batches = arguments.max_steps * arguments.gradient_accumulation_steps * arguments.world_size
        count = batches * arguments.train_batch_size
        if config.row_tokens:
            rows = packed_rows(train, config.row_tokens, count, config.seed)
        else:
            rows = training_order(train, count, config.seed)
        if config.beta is None:
            trainer, way = answer_trainer(model, tokenizer, arguments, rows, heldout, config)
        else:
            trainer, way = pair_trainer(model, tokenizer, arguments, rows, heldout, config)
        # Each process drops out something else.
        transformers.set_seed(config.seed + arguments.process_index)
        with arguments.main_process_first(local=False):
            checkpoint = last_whole_checkpoint(Path(cast(str, arguments.output_dir)), arguments.world_size)
        checkpoint = seen_by_all(checkpoint, arguments.world_size)
        if checkpoint and is_finished(checkpoint, arguments.max_steps):
            # The Trainer would train one step more.
            weights = load_file(checkpoint / "adapter_model.safetensors")
            set_peft_model_state_dict(model, weights)
            history = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)).log_history
        else:
            with way.taken(model):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            history = trainer.state.log_history
        curves = loss_curves(history)
        if not all(math.isfinite(point["loss"]) for points in curves.values() for point in points):
            raise UserError("the training loss is not a finite number any more: lower the learning rate")
        adapter = Path(output_model_path) / "adapter"
        save_adapter(model, adapter)
        files.write_json(adapter / LOG, curves)
        handler = deepcopy(output_model)
        handler.set_resource("adapter_path", adapter)
        return handler


def training_arguments(config: type[BasePassConfig]) -> transformers.TrainingArguments:
    """Return the Trainer's arguments: those of the config, and those that its device and the processes ask for."""
    config.training_args.extra_args |= {
        "use_cpu": device.resolve("auto") == "cpu",
        "bf16": config.torch_dtype == "bfloat16",
        "fp16": config.torch_dtype == "float16",
        "train_sampling_strategy": "sequential",
        # An example that is held out counts once.
        "accelerator_config": {"even_batches": False},
        # Otherwise gradients are put together anew after the first step, and a run that goes on sums in another order.
        "ddp_find_unused_parameters": True,
    }
    arguments = config.training_args.create_training_args()
    if arguments.max_steps < 1:
        raise UserError(
            f"training_args.max_steps is {arguments.max_steps}, but must be at least 1: the length of the run"
        )
    return arguments


def answer_trainer(
    model: PeftModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    arguments: transformers.TrainingArguments,
    rows: Sequence[dict],
    heldout: Sequence[dict] | None,
    config: type[BasePassConfig],
) -> tuple[transformers.Trainer, gpu.Way]:
    """Return what trains on right answers, and the way in which it does."""
    way = chosen_way(model, rows, arguments, config)
    if way.lengths:
        # The compiler computes activations anew in its own way.
        arguments.gradient_checkpointing = False
    trainer = TokenMeanTrainer(
        model=model,
        args=arguments,
        # A sequence has what a data set of PyTorch has: a length, and members by their index.
        train_dataset=cast(Dataset, rows),
        eval_dataset=cast(Dataset | None, heldout),
        data_collator=Collator(cast(int, tokenizer.pad_token_id), way.lengths, way.labelled_only),
        labelled_only=way.labelled_only,
        compiled=bool(way.lengths),
    )
    return trainer, way


def pair_trainer(
    model: PeftModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    arguments: transformers.TrainingArguments,
    rows: Sequence[dict],
    heldout: Sequence[dict] | None,
    config: type[BasePassConfig],
) -> tuple[transformers.Trainer, gpu.Way]:
    """Return what trains on pairs of answers, and the way in which it does: uncompiled."""
    # Imported where it is used, since it takes seconds.
    from passes import preference

    trainer = preference.trainer(model, tokenizer, arguments, rows, heldout, config.beta)
    return trainer, gpu.Way(on_gpu=device.resolve("auto") == "cuda")


def chosen_way(
    model: PeftModel, rows: Sequence[dict], arguments: transformers.TrainingArguments, config: type[BasePassConfig]
) -> gpu.Way:
    """Return how to train on `rows`: uncompiled on the CPU, where the compiler would cost more than it saves."""
    base = model.get_base_model()
    if device.resolve("auto") == "cpu":
        return gpu.Way(labelled_only=gpu.gives_chosen_logits(base))
    size = arguments.train_batch_size
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    widths = [max(len(row["input_ids"]) for row in batch) for batch in batches]
    return gpu.choose(
        base,
        widths,
        arguments.world_size,
        # bitsandbytes' products are no operators of PyTorch.
        compiles=config.method != "qlora",
        recompute=bool(arguments.gradient_checkpointing),
    )


def last_whole_checkpoint(folder: Path, processes: int) -> Path | None:
    """Return the newest checkpoint that was written to its end, and remove those that were not."""
    newest = None
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])):
        if is_whole(checkpoint, processes):
            newest = checkpoint
        else:
            files.remove(checkpoint)
    return newest


def seen_by_all(checkpoint: Path | None, processes: int) -> Path | None:
    """Return a checkpoint if all processes have found it; those of another node may have a disk of their own."""
    if processes == 1:
        return checkpoint
    found: list[str | None] = [None] * processes
    torch.distributed.all_gather_object(found, checkpoint and checkpoint.name)
    return checkpoint if len(set(found)) == 1 else None


def is_whole(checkpoint: Path, processes: int) -> bool:
    """Tell whether every process wrote its part: its random state, and the first one the Trainer's state last."""
    names = [f"rng_state_{rank}.pth" for rank in range(processes)] if processes > 1 else ["rng_state.pth"]
    try:
        files.read_json(checkpoint / TRAINER_STATE_NAME)
    except (OSError, ValueError):
        return False
    return all(zipfile.is_zipfile(checkpoint / name) for name in names)


def is_finished(checkpoint: Path, max_steps: int) -> bool:
    """Tell whether a checkpoint is that of the last step."""
    return files.read_json(checkpoint / TRAINER_STATE_NAME)["global_step"] >= max_steps


def loss_curves(history: list[dict]) -> dict[str, list[dict]]:
    """Return the points of the training and the held-out loss, without the log's wall-clock figures."""
    keys = {"train": "loss", "heldout": "eval_loss"}
    return {
        curve: [{"step": entry["step"], "loss": entry[key]} for entry in history if key in entry]
        for curve, key in keys.items()
    }


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Save the adapter in PEFT's format, without what differs from run to run: a path, a set's order."""
    model.save_pretrained(str(folder), save_embedding_layers=False)
    config = files.read_json(folder / "adapter_config.json")
    config["base_model_name_or_path"] = None
    config["target_modules"] = sorted(config["target_modules"])
    files.write_json(folder / "adapter_config.json", config)
    files.remove(folder / "README.md")
