"""Where PyTorch computes, and what is said of a GPU that is missing, full or gone."""

import os
import subprocess
import sys

import pytest
import torch

from press.core.errors import UserError
from press.model import device

# What PyTorch says on a full GPU of 24 GB.
FULL = (
    "CUDA out of memory. Tried to allocate 512.00 MiB. GPU 0 has a total capacity of 23.50 GiB of which 301.06 MiB is "
    "free. Including non-PyTorch memory, this process has 23.19 GiB memory in use. Of the allocated memory 22.25 GiB "
    "is allocated by PyTorch, and 513.60 MiB is reserved by PyTorch but unallocated."
)
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
with_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@without_gpu
def test_without_a_gpu_auto_is_the_cpu_and_cuda_a_mistake():
    assert [device.resolve(name) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(UserError, match=r"^device is cuda, but PyTorch finds no CUDA device here: choose auto or cpu$"):
        device.resolve("cuda")


@with_gpu
def test_with_a_gpu_auto_is_cuda():
    assert [device.resolve(name) for name in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]


@pytest.mark.integration
def test_confined_to_the_cpu_no_library_sees_a_gpu():
    code = (
        "from press.model import device; print(device.confine('cpu')); import torch; print(torch.cuda.device_count())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["cpu", "0"]


@without_gpu
@pytest.mark.parametrize(("visible", "first"), [("3,1", "3"), ("0", "0"), ("", "")])
def test_one_gpu_is_left_of_those_that_the_user_lets_it_see(monkeypatch, visible, first):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.confine("auto") == "cpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == first


@without_gpu
@pytest.mark.parametrize(("visible", "left"), [("3,1,2", "3,1"), ("0", "0"), (None, "0,1")])
def test_as_many_gpus_are_left_as_a_training_has_processes(monkeypatch, visible, left):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    device.confine("auto", 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left


def explained(error: Exception) -> str:
    with pytest.raises(UserError) as caught, device.explained("some.batch_size"):
        # As Olive's engine passes errors on.
        raise RuntimeError("Olive gave no model") from error
    return str(caught.value)


def test_a_full_gpu_says_how_much_was_needed_and_what_lowers_it():
    assert explained(torch.OutOfMemoryError(FULL)) == (
        "the GPU's memory is full: at least 22.75 GiB were needed (22.25 in use and 0.50 more) of its 23.50 GiB; "
        "lower some.batch_size, or set device to cpu"
    )


@with_gpu
def test_the_amounts_are_in_what_pytorch_says_today():
    with pytest.raises(UserError, match=r"at least \d+\.\d\d GiB were needed"), device.explained("x"):
        torch.empty(2**46, dtype=torch.uint8, device="cuda")


def test_other_words_for_a_full_gpu_are_passed_on():
    assert explained(torch.OutOfMemoryError("CUDA out of memory. Tried something. GPU 0 is full.")) == (
        "the GPU's memory is full: CUDA out of memory. Tried something; lower some.batch_size, or set device to cpu"
    )


def test_a_gpu_that_is_gone_is_one_sentence():
    assert explained(torch.AcceleratorError("CUDA error: unspecified launch failure\nFor debugging ...")) == (
        "the GPU failed (CUDA error: unspecified launch failure): run `dvc repro` again when it works, or set device "
        "to cpu"
    )


def test_other_errors_are_left_alone():
    with pytest.raises(ZeroDivisionError), device.explained("x"):
        1 / 0  # noqa: B018
