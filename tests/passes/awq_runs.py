"""Runs of the awq pass on small models, with the project's calibration data."""

from pathlib import Path

import pytest
import torch
from olive.model import HfModelHandler
from olive.passes.olive_pass import Pass, create_pass_from_dict
from projects import ROOT

from passes import awq
from press.core.errors import UserError
from press.model import quantization
from press.params import settings

CALIBRATION = settings.load(ROOT / "params.yaml").quantize.calibration
ROWS = CALIBRATION.model_copy(update={"data": str(ROOT / CALIBRATION.data), "rows": 4, "row_tokens": 64})
OPTIONS = {"group_size": 32, "rows": 4, "row_tokens": 64, "device": "cpu"}
IDS = torch.randint(32, 256, (4, 64), generator=torch.Generator().manual_seed(0))


def options(base: Path, **changes: object) -> dict:
    return {**OPTIONS, "data_config": quantization.calibration_config(ROWS, base), **changes}


def awq_pass(config: dict) -> Pass:
    return create_pass_from_dict(awq.Awq, config, disable_search=True)


def refuse(base: Path, match: str, **changes: object) -> None:
    """Run the pass and see that it ends in a sentence of one line."""
    with pytest.raises(UserError, match=match) as caught:
        awq_pass(options(base, **changes)).run(HfModelHandler(str(base)), str(base / "quantized"))
    assert "\n" not in str(caught.value)
