"""What the presets' models need follows from the points that were measured."""

import json
import subprocess

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs `make install-tasks`")

from bench import preset_models, preset_needs

SIZES = ["layers", "computed", "layer", "table", "vocabulary", "kept", "rounding"]


@pytest.mark.parametrize(("stage", "key"), preset_needs.FITTED)
def test_factors_are_found_and_points_without_awq_tell_nothing_of_it(monkeypatch, capsys, stage, key):
    random = np.random.default_rng(0)
    shapes = [dict(zip(SIZES, random.uniform(1e7, 1e9, len(SIZES)), strict=True)) for _ in range(9)]
    monkeypatch.setattr(preset_needs, "shape", lambda name, layers: shapes[layers])
    points = [{"name": "a", "layers": index, "rows": (4, 8, 0)[index % 3], stage: {}} for index in range(9)]
    known = (1 + np.arange(len(preset_needs.features(stage, key, shapes[0], 4)))) * 1e8
    for point, of in zip(points, shapes, strict=True):
        beside = preset_needs.held(stage, key, of)
        point[stage][key] = beside + float(known @ preset_needs.features(stage, key, of, point["rows"]))
        if stage == "quantize" and not point["rows"]:
            point[stage][key] = 1e12
    np.testing.assert_allclose(preset_needs.fitted(points, stage, key), known, rtol=1e-6)
    assert "off by 0% in the mean, 0% at most; by the others alone 0%" in capsys.readouterr().out


def test_a_model_that_fails_is_left_out_and_none_begins_too_late(tmp_path, monkeypatch, capsys):
    now = [0.0]

    def whole(name, layers):
        now[0] += 30
        if name == "bad":
            raise subprocess.CalledProcessError(1, "quantize")
        return {"name": name, "layers": layers}

    monkeypatch.setattr(preset_models, "whole", whole)
    monkeypatch.setattr(preset_models.time, "monotonic", lambda: now[0])
    lines = tmp_path / "lines"
    assert not preset_models.measure_all(["bad", "a:2"], lines, 60)
    assert not preset_models.measure_all(["b", "c", "d", "e"], lines, 90)
    found = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert found == [{"name": "a", "layers": 2}, *({"name": name, "layers": None} for name in "bcd")]
    assert "e and what follows it is left out: 90 s have passed" in capsys.readouterr().out
    assert preset_models.measure_all(["a"], lines, 90)
    assert preset_needs.merged(found, [found[0] | {"new": True}], "name", "layers")[0]["new"]


def test_what_a_gpu_took_is_taken_for_what_was_reckoned():
    stages = {"quantize": 1, "finetune": 2, "capture": 3, "convert": 4}
    taken = {
        name: {"host": 10 - size, "gpu": size, "beside": 1, "output": size, "seconds": size}
        for name, size in stages.items()
    }
    sizes = preset_needs.measured(taken | {"inputs": {"output": 7}}, 2)
    assert (sizes["capture"], sizes["beside_gpu"], sizes["gpu"]) == (7, 9, 5)
    assert preset_needs.disk(sizes) == 2 * (7 + 1 + 2 * 3 + 2 * (2 + 2 * 4)) + 7
    assert preset_needs.disk(sizes | {"graph": 4}) == 2 * (7 + 1 + 2 * 4 + 20) + 8
    assert preset_needs.gpu_seconds(taken, 2) == {"quantize": 1, "finetune": 4, "capture": 3, "convert": 8}
