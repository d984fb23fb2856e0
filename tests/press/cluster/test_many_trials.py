"""A search of hundreds of trials on a real Ray cluster, whose coordinator is killed halfway; it runs if asked for.

    MANY_TRIALS=240 make test TESTS=tests/press/cluster/test_many_trials.py

docs/scale.md says how long it takes.
"""

import csv
import os
import re
import signal
import sys
from itertools import islice

import pytest
from projects import Project

from .conftest import configure
from .searching import write_search

TRIALS = int(os.environ.get("MANY_TRIALS", "0"))
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not TRIALS, reason="it takes most of an hour: MANY_TRIALS=240 asks for it"),
    pytest.mark.timeout(4 * 3600),
]
SEARCH = (sys.executable, "-m", "press.search")
SIZES, RANKS, REFUSED = (16, 32, 64, 128, 256), 60, 16


def test_hundreds_of_trials_have_the_front_that_follows_from_their_parameters(machines, project: Project):
    machines()
    machines()
    resources = {"default": {"cpus": 1, "memory": 0.1, "gpus": 0}}
    configure(project, {"address": machines.cluster.address, "resources": resources})
    space = {"quantize.group_size": list(SIZES), "adapters.travel.lora.rank": {"low": 1, "high": RANKS}}
    write_search(project, workers=2, trials=TRIALS, space=space)
    refuses = f"""    if settings.checked().quantize.group_size == {REFUSED}:
        raise UserError("groups of {REFUSED} are refused")
"""
    project.edit("stages/quantize.py", "    Path(", f"{refuses}    Path(")
    project.edit(
        "stages/quantize.py",
        "from press.core import cli",
        "from press.core import cli\nfrom press.core.errors import UserError",
    )
    project.commit()

    process = project.start(*SEARCH, "run", "--engine=ray")
    ended = list(islice((line for line in process.stdout if re.match(r"search-\d+ package\.bytes", line)), TRIALS // 2))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(ended) == TRIALS // 2
    said = project.run(*SEARCH, "run", "--engine=ray").stdout
    assert "trials were stopped before they ended, and begin again" in said

    rows = list(csv.DictReader((project.folder / "search/trials.csv").read_text(encoding="utf-8").splitlines()))
    tried = {(int(row["quantize.group_size"]), int(row["adapters.travel.lora.rank"])): row for row in rows}
    assert len(rows) == len(tried) == TRIALS
    built = {key: 1 / key[0] + 1 / key[1] for key in tried if key[0] != REFUSED}
    feasible = {key: loss for key, loss in built.items() if loss <= 0.09}
    front = {
        key
        for key, loss in feasible.items()
        if not any(
            size <= key[0] and other <= loss and (size, other) != (key[0], loss)
            for (size, _), other in feasible.items()
        )
    }
    assert {key for key, row in tried.items() if row["feasible"] == "1"} == feasible.keys()
    assert {key for key, row in tried.items() if row["front"] == "1"} == front

    chosen = re.search(r"Chosen: \*\*(search-\d+)\*\*", said)[1]
    project.run(*SEARCH, "apply", chosen)
    assert int((project.folder / "packages/cpu/model.txt").read_text(encoding="utf-8")) == min(
        key[0] for key in feasible
    )
    assert "Data and pipelines are up to date." in project.run("dvc", "status").stdout
