"""AWQ in several processes: what they make is what one makes that adds up the rows of each."""

import pytest
import torch
from projects import ROOT

from passes.activation_aware import calibration, quantization
from press.core import arithmetic, files
from press.model import quantization as stage
from press.params import settings

from .awq_runs import ROWS

pytestmark = pytest.mark.integration
MOMENTS = calibration.Moments


class Parted(MOMENTS):
    """Moments that add up those of each batch, as processes do that have one each."""

    def add(self, inputs: torch.Tensor) -> None:
        part = MOMENTS(inputs.shape[-1], inputs.device)
        part.add(inputs)
        self.tokens += part.tokens
        for total, each in zip(self.sums, part.sums, strict=True):
            total.add_(each)


def test_two_processes_give_the_bytes_of_one_that_adds_up_their_rows(llama, in_root, monkeypatch):
    # As another test of this process may have begun it, and nothing ends it.
    arithmetic.begin(arithmetic.PORTABLE, 2)
    params = settings.load(ROOT / "params.yaml").quantize.model_copy(update={"calibration": ROWS})

    def digest(name: str, processes: int) -> str:
        awq = params.awq.model_copy(update={"processes": processes})
        (in_root / name).mkdir()
        chosen, mode = params.model_copy(update={"awq": awq}), arithmetic.PORTABLE
        return files.folder_digest(stage.quantize(chosen, llama, in_root / name, 0, mode=mode))

    two = digest("two", 2)
    # Each has two of the four rows, in one batch, and one of the two threads.
    monkeypatch.setattr(quantization, "BATCH_TOKENS", 2 * ROWS.row_tokens)
    monkeypatch.setattr(calibration, "Moments", Parted)
    torch.set_num_threads(1)
    assert digest("one", 1) == two
