"""What a preset's model needs is said before the download, and refused only where it cannot be."""

import json
import re
from pathlib import Path

import pytest
import yaml
from projects import ROOT

from press.core import machine
from press.core.errors import UserError
from press.params import needs, preset

TABLE = json.loads((ROOT / "presets/needs.json").read_text(encoding="utf-8"))
FROM_HUB = {
    path.stem
    for path in (ROOT / "presets").glob("*.yaml")
    if yaml.safe_load(path.read_text(encoding="utf-8")).get("base", {}).get("source") == "hub"
}
GB = 10**9
NEEDED = {
    "memory": {"cpu": 12 * GB, "gpu": 8 * GB},
    "disk": 30 * GB,
    "gpu_memory": 10 * GB,
    "core_minutes": {"quantize": 100, "finetune": 140},
}


def has(memory: int = 16, disk: int = 50, gpus: tuple[int, ...] = ()) -> needs.Here:
    return needs.Here(memory * GB, disk * GB, tuple(each * GB for each in gpus), 2)


@pytest.mark.parametrize(
    ("machine_", "device", "sentence"),
    [
        (
            has(),
            "auto",
            "big needs about 12.0 GB of memory, 30.0 GB of disk; here are 16.0 GB of memory, 50.0 GB of free disk and "
            "no GPU; on 2 cores it takes some 2.0 hours, on a GPU with 10.0 GB minutes",
        ),
        (
            has(gpus=(24,)),
            "auto",
            "big needs about 8.0 GB of memory, 30.0 GB of disk and 10.0 GB of GPU memory; here are 16.0 GB of memory, "
            "50.0 GB of free disk and a GPU with 24.0 GB",
        ),
        (
            has(gpus=(24,)),
            "cpu",
            "big needs about 12.0 GB of memory, 30.0 GB of disk; here are 16.0 GB of memory, 50.0 GB of free disk and "
            "a GPU with 24.0 GB; on 2 cores it takes some 2.0 hours, on a GPU with 10.0 GB minutes",
        ),
    ],
)
def test_it_is_said_what_is_needed_and_what_is_here(machine_, device, sentence):
    assert needs.sentence("big", NEEDED, machine_, device) == sentence


@pytest.mark.parametrize(
    ("machine_", "device", "lacking"),
    [
        (has(), "auto", None),
        (has(gpus=(8, 24)), "auto", None),
        (has(gpus=(8,)), "cpu", None),
        (has(disk=29), "auto", "it needs 30.0 GB of disk, but 29.0 GB are free: free some"),
        (has(memory=11), "auto", "it needs 12.0 GB of memory, but there are 11.0 GB: take a larger "),
        (has(memory=11, gpus=(24,)), "auto", None),
        (has(memory=7, gpus=(24,)), "cuda", "it needs 8.0 GB of memory, but there are 7.0 GB: take a larger "),
        (has(gpus=(8,)), "auto", "it needs a GPU with 10.0 GB, but the largest has 8.0 GB: commit `device: cpu` in "),
    ],
)
def test_only_what_cannot_be_is_refused(machine_, device, lacking):
    found = needs.impossible(NEEDED, machine_, device)
    assert found == lacking if lacking is None else found.startswith(lacking)


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [([], 16), (["max\n"], 16), (["8000000000\n"], 8), (["9223372036854771712"], 16), (["max", "4000000000"], 4)],
)
def test_a_container_has_what_it_may_have(tmp_path, monkeypatch, limits, allowed):
    paths = [tmp_path / str(index) for index in range(3)]
    for path, limit in zip(paths, limits, strict=False):
        path.write_text(limit, encoding="utf-8")
    monkeypatch.setattr(needs, "LIMITS", paths)
    assert needs.allowed(16 * GB) == allowed * GB


@pytest.mark.parametrize("anyway", [False, True, "laid"])
def test_a_refused_preset_is_laid_only_by_the_switch(tmp_path, monkeypatch, capsys, anyway):
    written = []
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("device: auto\n" if anyway == "laid" else "", encoding="utf-8")
    monkeypatch.setattr(preset, "apply", lambda name: "device: auto\n")
    monkeypatch.setattr(preset, "write", written.append)
    monkeypatch.setattr(needs, "of", lambda name: NEEDED)
    monkeypatch.setattr(needs, "here", lambda: has(disk=1))
    if not anyway:
        with pytest.raises(UserError, match=r"^big cannot be built here: .* free some; ANYWAY=1 goes on all the same$"):
            preset.lay("big")
        assert not written
    else:
        # What is laid already is built in part.
        preset.lay("big", anyway=anyway is True)
        assert written == ["device: auto\n"]
    assert capsys.readouterr().out.startswith("big needs about 12.0 GB of memory")


def test_this_machine_has_something(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "gpus", lambda: ())
    found = needs.here()
    assert min(found.memory, found.disk, found.cores) > 0
    assert needs.of("qwen3-0.6b") is None


def test_each_model_of_the_hub_has_its_needs_and_no_other(monkeypatch):
    assert set(TABLE["presets"]) == FROM_HUB
    monkeypatch.chdir(ROOT)
    assert all(needs.of(name) for name in FROM_HUB)


@pytest.mark.parametrize("name", sorted(FROM_HUB))
def test_the_page_and_the_preset_say_what_the_table_says(name):
    needed = TABLE["presets"][name]
    header = (ROOT / f"presets/{name}.yaml").read_text(encoding="utf-8").partition("\n\n")[0]
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{re.escape(name)}` \|.*$", page, re.MULTILINE)[0]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    hours = sum(needed["core_minutes"].values()) / 60
    gb = [f"{size / GB:.0f}" for size in (needed["memory"]["cpu"], needed["disk"], needed["gpu_memory"])]
    minutes = f"{sum(needed['gpu_seconds'].values()) / 60:.1f}" if "gpu_seconds" in needed else "–"
    fetched = re.search(r"Fetches (\d\.\d GB)", header.replace("\n# ", " "))[1]
    assert cells[2:] == [fetched, *gb, f"{hours:.1f}", minutes]
    # Weights of 2 bytes a parameter; what is fetched may have a tied head twice.
    assert 0.9 <= float(cells[2].split()[0]) / (2 * needed["parameters"] / GB) <= 1.3
