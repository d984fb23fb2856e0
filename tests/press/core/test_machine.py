"""What floats depend on besides inputs is written down, and nothing that names a host or a user."""

import getpass
import json
import os
import platform
import socket

import pytest

from press.core import machine

CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: a model
flags\t\t: fpu avx2 avx512f amx_tile sse2

processor\t: 1
vendor_id\t: GenuineIntel
flags\t\t: fpu avx2 avx512f amx_tile sse2
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU implementer\t: 0x41\n"


@pytest.mark.parametrize(
    ("text", "vendor", "sets"),
    [
        (CPUINFO, "GenuineIntel", ["amx_tile", "avx2", "avx512f"]),
        (ARM, "0x41", ["asimd", "asimddp", "i8mm"]),
        ("", platform.processor(), []),
    ],
)
def test_the_instruction_sets_that_choose_kernels_are_read(monkeypatch, tmp_path, text, vendor, sets):
    (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    found = machine.this()
    assert (found["vendor"], found["instruction_sets"]) == (vendor, sets)
    assert found["architecture"] == platform.machine()


def test_what_is_recorded_is_read_again_and_names_nobody(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    machine.record("capture/cpu")
    assert machine.recorded("capture/cpu") == machine.this()
    text = json.dumps(machine.this())
    assert socket.gethostname() not in text
    assert f'"{getpass.getuser()}"' not in text


def test_a_system_without_cpuinfo_is_described_too(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    assert machine.this()["instruction_sets"] == []


def test_a_mac_is_described_by_what_its_kernel_says(monkeypatch):
    said = "hw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_SME: 0\nhw.optional.AdvSIMD: 1\nhw.optional.x86_64: 0"
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(machine.shell, "output", lambda *command: said)
    found = machine.this()
    assert (found["vendor"], found["instruction_sets"]) == ("Apple", ["asimd", "bf16"])


def test_cores_are_counted_where_a_process_cannot_be_confined(monkeypatch):
    assert machine.cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert machine.cores() == os.cpu_count()
