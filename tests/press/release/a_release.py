"""A release in memory whose bills of materials the tests read."""

import shutil
from pathlib import Path

from parameters import PARAMS, ROOT

from press.core import files
from press.release.package import Package
from press.release.settings import Licences

QUESTIONS = "downloads/questions"
ALLOWED = Licences(allow=["apache-2.0", "mit"], data={"data/*": "mit"})
BARE, TUNED = {"loss": 2.5, "perplexity": 12.18}, {"loss": 1.25, "perplexity": 3.49, "kl": 0.5}
METRICS = {
    "travel": {
        "onnx": {"bare": BARE, "adapter": TUNED},
        "attribution": {"weights": 0.0625},
        "general": {"onnx": {"adapter": {"loss": 2.75}}},
    },
    "general": {"onnx": {"bare": BARE}},
    "tasks": {"arc_easy": {"acc,none": {"bare": 0.5, "travel": 0.625}}},
}


def put() -> Package:
    """Put into the current folder what the bills of materials of a release are made of, and return it."""
    shutil.copyfile(ROOT / "requirements.lock", "requirements.lock")
    files.write_json(Path("release/metrics.json"), METRICS)
    params = {key: PARAMS[key] for key in ("seed", "base", "quantize", "package")} | {
        "adapters": {"travel": PARAMS["adapters"]["travel"]},
        "data_sets": {"questions": {"id": "owner/questions", "revision": "a" * 40}},
    }
    data = {"data/travel.jsonl": "2" * 64, "data/calibration.jsonl": "5" * 64, QUESTIONS: "4" * 64}
    inputs = {"params": params, "base_model_sha256": "1" * 64, "data_sha256": data}
    digests = {"adapters/travel/adapter.onnx_adapter": "6" * 64, "manifest.json": "3" * 64}
    return Package(Path("release"), {"name": "olive-press", "inputs": inputs}, digests)
