"""What the presets' models need follows from the points that were measured."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs `make install-tasks`")

from bench import preset_needs

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
