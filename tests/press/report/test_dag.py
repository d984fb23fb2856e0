"""The pipeline's graph is drawn as it is, without lines that say nothing new."""

from pathlib import Path

import pytest

from press.core.errors import UserError
from press.report import dag

DIAMOND = {"base": set(), "left": {"base"}, "right": {"base"}, "both": {"base", "left", "right"}}


def test_a_need_that_another_need_has_is_left_out():
    assert dag.reduced(DIAMOND) == DIAMOND | {"both": {"left", "right"}}


def test_each_stage_stands_below_what_it_needs_and_beside_no_other():
    assert dag.layers(DIAMOND) == [["base"], ["left", "right"], ["both"]]
    drawing = dag.draw(DIAMOND)
    places = {box.stage: (box.x, box.y) for box in drawing.boxes}
    for name, needs in DIAMOND.items():
        assert all(places[need][1] + dag.HEIGHT < places[name][1] for need in needs)
    assert len(set(places.values())) == len(places)
    assert all(
        0 <= x <= drawing.width - dag.WIDTH and 0 <= y <= drawing.height - dag.HEIGHT for x, y in places.values()
    )
    assert len(drawing.edges) == 4


@pytest.mark.integration
def test_the_stages_are_those_that_dvc_makes_of_the_templates(own: Path):
    needs = dag.stages()
    assert needs["prepare@travel"] == {"check", "fetch"}
    assert "quantize" in needs["finetune@packing"]
    assert needs["check"] == set()


@pytest.mark.integration
def test_a_pipeline_that_dvc_cannot_read_is_a_sentence(own: Path):
    Path("dvc.yaml").write_text("stages: {a: {cmd: [}}")
    with pytest.raises(UserError, match=r"DVC cannot read dvc\.yaml"):
        dag.stages()
