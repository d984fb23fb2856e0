"""Direct preference optimization (DPO, arXiv 2305.18290) of an adapter by TRL, on answers in tokens."""

from collections.abc import Sequence
from typing import cast

import datasets
import transformers
import trl
from peft import PeftModel
from torch.utils.data import Dataset

# TRL makes tokens of text itself. It is given this text, and then tokens in its place.
STAND_IN = {"prompt": "a", "chosen": "b", "rejected": "c"}
# A copy of the adapter, as it was when the training began, for a reference.
COPY = "ref"


def trainer(
    model: PeftModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    arguments: transformers.TrainingArguments,
    rows: Sequence[dict],
    heldout: Sequence[dict] | None,
    beta: float,
) -> trl.DPOTrainer:
    """Return a trainer whose reference is the base with the adapter turned off.

    :param rows: pairs in the order of the training, as dicts of prompt_ids, chosen_ids and rejected_ids
    :param heldout: pairs of the held-out loss
    :param beta: how dear it is to part from the reference
    """
    # Bars about the stand-in would say nothing of the data.
    datasets.disable_progress_bars()
    text = datasets.Dataset.from_list([STAND_IN])
    made = trl.DPOTrainer(
        model=model,
        args=trl.DPOConfig(
            **arguments.to_dict(),
            beta=beta,
            # The pairs are short enough, and the adapter has the dropout that was asked for.
            max_length=None,
            disable_dropout=False,
        ),
        processing_class=tokenizer,
        train_dataset=text,
        eval_dataset=text,
    )
    if COPY in model.peft_config:
        # Turned off, a new adapter is what its copy is, and takes no memory.
        model.delete_adapter(COPY)
    # A sequence has what a data set of PyTorch has: a length, and members by their index.
    made.train_dataset = cast(Dataset, rows)
    made.eval_dataset = cast(Dataset | None, heldout)
    return made
