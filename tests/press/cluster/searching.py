"""A search whose trials load no model: three stages, of which two read what is searched for."""

import re

import yaml
from projects import ROOT, Project

from press.core import paths

from .conftest import STAGES, write_pipeline, write_stage

# What a trial of a search is built of: its size comes of one parameter, its loss of two.
TRIAL = {
    "quantize": """
def main() -> None:
    Path("quantized.txt").write_text(str(settings.checked().quantize.group_size), encoding="utf-8")
""",
    "evaluate": """
def main(target: str) -> None:
    size, rank = int(Path("quantized.txt").read_text(encoding="utf-8")), settings.checked().adapters["travel"].lora.rank
    folder = Path("reports/evaluate", target)
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"package": {"bytes": size}, "travel": {"onnx": {"adapter": {"loss": 1 / size + 1 / rank}}}}
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
""",
    "package": """
def main(target: str) -> None:
    folder = Path("packages", target)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.txt").write_text(Path("quantized.txt").read_text(encoding="utf-8"), encoding="utf-8")
""",
}
SEARCH = {
    "target": "cpu",
    "objective": "minimize package.bytes",
    "constraints": ["travel.onnx.adapter.loss <= 0.09"],
    "front": ["minimize travel.onnx.adapter.loss", "minimize package.bytes"],
    "seed": 3,
}


def write_search(project: Project, **search: object) -> None:
    """Let a project's pipeline be what a trial is built of, and its search another one, and commit that."""
    stages = {
        "quantize": {
            "cmd": "python -m stages.quantize",
            "params": [{str(paths.RESOLVED): ["quantize.group_size"]}],
            "deps": ["reports/code/quantize.txt"],
            "outs": ["quantized.txt"],
        },
        "evaluate": {
            "foreach": ["cpu"],
            "do": {
                "cmd": "python -m stages.evaluate ${item}",
                "params": [{f"{paths.RESOLVED_ADAPTERS}/travel.json": ["lora"]}],
                "deps": ["reports/code/evaluate.txt", "quantized.txt"],
                "outs": [{"reports/evaluate/${item}/metrics.json": {"cache": False}}],
            },
        },
        "package": {
            "foreach": ["cpu"],
            "do": {
                "cmd": "python -m stages.package ${item}",
                "deps": ["reports/code/package.txt", "quantized.txt"],
                "outs": ["packages/${item}"],
            },
        },
    }
    for name in STAGES:
        (project.folder / f"stages/{name}.py").unlink()
    for name, main in TRIAL.items():
        write_stage(project, name, main)
    write_pipeline(project.folder, stages)
    params = project.folder / "params.yaml"
    text = re.sub(
        r"^(gates|search):.*\n(?:(?:[ \t#].*)?\n)*", "", params.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    defaults = yaml.safe_load((ROOT / "press/params/defaults.yaml").read_text(encoding="utf-8"))
    below = yaml.safe_dump({"gates": dict.fromkeys(defaults["gates"]), "search": {**SEARCH, **search}}, sort_keys=False)
    params.write_text(f"{text.rstrip()}\n\n{below}", encoding="utf-8")
    with (project.folder / ".gitignore").open("a", encoding="utf-8") as ignored:
        ignored.write("/quantized.txt\n")
    project.commit()
