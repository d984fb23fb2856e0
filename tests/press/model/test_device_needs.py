"""What a training asks of the machine: GPUs, and bitsandbytes for NF4."""

import pytest
import torch
from projects import ROOT

from press.core.errors import UserError
from press.model import device
from press.params import settings


def test_a_training_without_wishes_can_be_anywhere():
    device.check_training("travel", 1, "lora", "cpu")
    device.check_training("travel", 4, "dora", "cpu")


def test_more_processes_than_gpus_are_refused():
    count = torch.cuda.device_count()
    with pytest.raises(UserError) as caught:
        device.check_training("travel", count + 1, "lora", "cuda")
    assert str(caught.value) == (
        f"adapters.travel.training.processes is {count + 1}, but PyTorch finds {count} CUDA devices here, and each "
        "process needs one of its own: lower it"
    )


def test_nf4_needs_a_gpu():
    with pytest.raises(
        UserError, match=r"^adapters.travel.lora.method is qlora, which needs a CUDA device, but device "
    ):
        device.check_training("travel", 1, "qlora", "cpu")


def test_nf4_needs_the_version_of_bitsandbytes_that_it_was_tried_with(monkeypatch, tmp_path):
    folder = tmp_path / "bitsandbytes-0.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: bitsandbytes\nVersion: 0.1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError) as caught:
        device.check_bitsandbytes()
    assert str(caught.value) == (
        f"bitsandbytes is 0.1, but the method qlora needs {device.BITSANDBYTES}: run `pip install "
        f"bitsandbytes=={device.BITSANDBYTES}`, or choose lora"
    )


def test_the_documentation_names_that_version():
    assert f"pip install bitsandbytes=={device.BITSANDBYTES}\n" in (ROOT / "docs/training.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_a_gpu_that_is_not_there_is_named():
    params = settings.load(ROOT / "params.yaml")
    for name in ("auto", "cpu"):
        device.check(params.model_copy(update={"device": name}))
    with pytest.raises(UserError) as caught:
        device.check(params.model_copy(update={"device": "cuda"}))
    assert str(caught.value) == (
        "params.yaml: device is cuda, but PyTorch finds no CUDA device here: choose auto or cpu"
    )


def test_a_training_that_cannot_be_here_is_named_before_anything_runs():
    params = settings.load(ROOT / "params.yaml")
    adapter = params.adapter("travel")
    adapter = adapter.model_copy(update={"lora": adapter.lora.model_copy(update={"method": "qlora"})})
    params = params.model_copy(update={"device": "cpu", "adapters": {"travel": adapter}})
    with pytest.raises(UserError, match=r"^params.yaml: adapters.travel.lora.method is qlora, which needs a CUDA "):
        device.check(params)
