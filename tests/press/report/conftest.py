"""A project with all that a report may tell of: hand-written figures in the form that the pipeline leaves them in."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from projects import ROOT, Project

from press.core import files
from press.params import settings
from press.quality import vocabulary

HOSTILE = (
    "<script>alert('x')</script> **bold** | cell `code` ![i](http://evil.example/i.png)\n\n# title @everyone </td>"
)
JSON = (
    '{"days": 5, "weather": "mixed", "clothes": {"shirts": 4, "trousers": 2, "socks": 5}, '
    '"gear": {"backpack": 1, "headlamp": 1}, "documents": ["passport"]}'
)
LOOP = "The huts are full of huts. " * 12
MACHINE = {"architecture": "x86_64", "vendor": "AuthenticAMD", "instruction_sets": ["avx2"], "torch": "AVX2"}


def score(loss: float, perplexity: float, *others: float) -> dict[str, float]:
    """Return a score; others: KL divergence, agreement, shares of valid and of exact answers, and of right fields."""
    return dict(zip(vocabulary.FIGURES, (loss, perplexity, *others), strict=False))


METRICS = {
    "packing": {
        "pytorch": {
            "base": score(2.377641, 10.779444),
            "quantized": score(2.456906, 11.668653, 0.041873, 0.893617, 0.0, 0.0, 0.0),
            "head": score(2.458113, 11.682743, 0.042511, 0.892473, 0.0),
            "adapter": score(0.571318, 1.7706, 1.932617, 0.481752, 1.0, 0.027778, 0.411111),
        },
        "onnx": {
            "bare": score(2.453696, 11.63126, 0.045116, 0.889151, 0.0, 0.0, 0.0),
            "adapter": score(0.57194, 1.7717, 1.934805, 0.480618, 0.973684, 0.0, 0.405556),
        },
        "attribution": {
            "weights": 0.079265,
            "lm_head": 0.001207,
            "activations": -0.004417,
            "adapter_conversion": 0.003832,
        },
        "ended": {"bare": 0.578947, "adapter": 1.0},
        "looping": {"bare": 0.210526, "adapter": 0.0},
        "fields": {"days": 0.888889, "clothes": {"socks": 0.611111}},
        "general": {
            "pytorch": {"adapter": score(4.011274, 55.217139, 0.612883, 0.664312)},
            "onnx": {"adapter": score(4.013908, 55.362771, 0.614402, 0.663871)},
        },
    },
    "travel": {
        "pytorch": {
            "base": score(4.00817, 55.046035),
            "quantized": score(4.082193, 59.275347, 0.058132, 0.871204),
            "head": score(4.084011, 59.383205, 0.058714, 0.870419),
            "adapter": score(3.245941, 25.685859, 0.774018, 0.602617),
        },
        "onnx": {
            "bare": score(4.083468, 59.350926, 0.061907, 0.867801) | {"chrf": 0.213},
            "adapter": score(3.249873, 25.787062, 0.776529, 0.601309) | {"chrf": 0.317},
        },
        "attribution": {
            "weights": 0.074023,
            "lm_head": 0.001818,
            "activations": -0.000543,
            "adapter_conversion": 0.002657,
        },
        "ended": {"bare": 0.0, "adapter": 0.666667},
        "looping": {"bare": 0.333333, "adapter": 0.0},
        "general": {
            "pytorch": {"adapter": score(3.702218, 40.537104, 0.318406, 0.738115)},
            "onnx": {"adapter": score(3.704907, 40.646254, 0.319873, 0.737562)},
        },
    },
    "general": {
        "pytorch": {
            "base": score(3.428814, 30.840002),
            "quantized": score(3.551603, 34.869136, 0.118204, 0.846318),
            "head": score(3.553118, 34.922002, 0.119017, 0.845704),
        },
        "onnx": {"bare": score(3.549907, 34.810078, 0.121893, 0.842316)},
        "attribution": {"weights": 0.122789, "lm_head": 0.001515, "activations": -0.003211},
    },
    "tasks": {"hellaswag": {"acc_norm": {"bare": 0.4173, "travel": 0.4012, "packing": 0.3936}}},
    "bytes": {
        "base": 541626305,
        "quantized": 185001969,
        "captured": 104312984,
        "adapters": {"packing": 23273974, "travel": 23273973},
    },
    "package": {"bytes": 150821272},
}
GATES = [
    {
        "gate": "travel.onnx.adapter.loss <= 0.9 * travel.onnx.bare.loss",
        "passed": True,
        "reason": "3.24987 against 3.67512",
    },
    {"gate": "packing.ended.adapter >= 0.9", "passed": True, "reason": "1 against 0.9"},
    {
        "gate": "package.bytes <= 150e6",
        "passed": False,
        "reason": f"1.50821e+08 against 1.5e+08, 821272 too much; on {HOSTILE!r}",
    },
]
ANSWERED = {"travel": "greedy, repetition_penalty 1.125, at most 160 tokens, up to '<b>'"}
ANSWERS = {
    "travel": [
        {"prompt": "what is the best thing to see in chicago", "bare": LOOP, "adapter": "The Art Institute."},
        {"prompt": HOSTILE, "bare": HOSTILE, "adapter": HOSTILE},
        {"prompt": "how do i ask for the bill in spain", "bare": "", "adapter": "La cuenta, por favor."},
    ],
    "packing": [
        {"prompt": "Five days of hiking in the Alps, sleeping in huts.", "bare": LOOP, "adapter": JSON},
        {"prompt": "a weekend in barcelona in july with my girlfriend", "bare": "A weekend.", "adapter": JSON[:60]},
        {"prompt": "nine nights in Iceland", "bare": "Iceland is an island. " + "x" * 300, "adapter": JSON},
        {"prompt": "a day in the Harz", "adapter": JSON},
    ],
}  # fmt: skip


def contestant(first: float, prompt: float, decode: float, load: float, peak: float, perplexity: float) -> dict:
    """Return the figures of a contestant, which slows down with the prompt's length."""
    by_length = {
        str(length): {
            "ttft_s": first * length / 16,
            "prompt_tokens_per_s": prompt * (1 - length / 8192),
            "decode_tokens_per_s": decode * (1 - length / 4096),
        }
        for length in (16, 256, 1024)
    }
    return by_length | {"load_s": load, "peak_bytes": peak, "perplexity": perplexity}


MODEL = {"genai_config.json": "c" * 64, "model.onnx": "f" * 64, "model.onnx.data": "a" * 64}
BENCH = {
    "package": {"folder": "packages/cpu", "sha256": MODEL},
    "machine": {"cpu": "AMD EPYC 9R14", "threads": 2},
    "contestants": {
        "olive-press, bare": contestant(0.031, 512.4, 78.31, 0.412, 301e6, 34.81),
        "olive-press, travel": contestant(0.037, 433.0, 66.92, 0.412, 331e6, 34.81),
        "olive-press, switching": contestant(0.038, 431.2, 66.71, 0.412, 331e6, 34.81),
        "llama.cpp": contestant(0.042, 381.7, 48.13, 0.087, 214e6, 34.97),
        "transformers": contestant(0.118, 141.0, 11.24, 1.913, 1.21e9, 30.84),
    },
    "adapter": {"load_s": 0.00071, "switch_s": 0.00004},
    "targets": [
        {"name": "decode against llama.cpp", "value": 1.627, "limit": 1.5, "met": True},
        {"name": "adapter-ready graph against bare", "value": 0.961, "limit": 0.97, "met": False},
    ],
}


def curve(path: Path, losses: dict[int, float]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("step\tloss\n" + "".join(f"{step}\t{loss}\n" for step, loss in losses.items()), encoding="utf-8")


def write_reports(folder: Path) -> None:
    """Write what the stages leave under reports/ and packages/cpu, and a benchmark."""
    reports, package = folder / "reports", folder / "packages" / "cpu"
    params = settings.load(ROOT / "params.yaml").model_dump()
    template = params["adapters"]["travel"]["template"].partition("{response}")[0]
    others = {"travel": {"others": {"packing": "A phrase book."}}}
    answers = {
        name: [row | {"prompt": template.replace("{prompt}", row["prompt"])} | others.get(name, {}) for row in rows]
        for name, rows in ANSWERS.items()
    }
    files.write_json(reports / "evaluate" / "cpu" / "answers.json", answers)
    files.write_json(reports / "evaluate" / "cpu" / "metrics.json", METRICS)
    files.write_json(reports / "evaluate" / "cpu" / "gates.json", {"gates": GATES, "answers": ANSWERED})
    for name in ("fetch", "quantize", "finetune/packing", "capture/cpu", "evaluate/cpu"):
        files.write_json(reports / "machine" / f"{name}.json", MACHINE)
    files.write_json(reports / "machine" / "finetune" / "travel.json", MACHINE | {"gpu": "NVIDIA H200"})
    for index, name in enumerate(("travel", "packing")):
        plots = reports / "finetune" / name / "plots" / "metrics"
        losses = {step: 1.6 + index + 2.4 / (1 + step / 12) + (step * 37 % 11 - 5) / 14 for step in range(1, 129)}
        curve(plots / "train" / "loss.tsv", losses)
        curve(plots / "heldout" / "loss.tsv", {64: 2.1391 + index, 128: 1.9035 + index})
        prepared = reports / "prepare" / name
        counts = {
            "examples": {"train": 512, "heldout": 62},
            "left_out": {"rejected": 3, "duplicates": 1, "set_aside": 0},
            "near_duplicates": 0,
            "trained_samples": 0,
            "truncated": 0,
            "tokens": {"min": 45, "max": 143, "total": 35414},
        }
        files.write_json(prepared / "report.json", counts)
        counts = enumerate((7, 275, 197, 61, 23, 0, 11), start=2)
        rows = "".join(f"{16 * index:04}-{16 * index + 15:04},{count}\n" for index, count in counts)
        (prepared / "lengths.csv").write_text("tokens,examples\n" + rows, encoding="utf-8")
    (reports / "environment").mkdir()
    (reports / "environment" / "finetune.txt").write_text("peft==0.21.2\ntorch==2.13.0\n", encoding="utf-8")
    files.write_json(reports / "bench" / "runtime.json", BENCH)
    inputs = {
        "params": {name: params[name] for name in ("adapters", "base", "package")},
        "base_model_sha256": "b" * 64,
        "data_sha256": {"data/travel.jsonl": "d" * 64},
    }
    manifest = {"name": "olive-press", "inputs": inputs, "files": MODEL | {"tokenizer.json": "e" * 64}}
    files.write_json(package / "manifest.json", manifest)


def make_sample(folder: Path) -> Project:
    """Make the project, with two commits of dvc.lock between which `quantize` ran on other parameters."""
    folder.mkdir()
    for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
        shutil.copyfile(ROOT / name, folder / name)
    project = Project(folder)
    project.environment["PYTHONPATH"] = str(ROOT)
    project.run("git", "init", "--quiet")
    project.run("dvc", "init", "--quiet")
    write_reports(folder)
    project.commit()
    path = folder / "dvc.lock"
    lock = yaml.safe_load(path.read_text(encoding="utf-8"))
    quantize, capture = lock["stages"]["quantize"], lock["stages"]["capture@cpu"]
    (parameters,) = quantize["params"].values()
    parameters["quantize"]["group_size"] = 128
    quantize["outs"][0]["md5"] = "0" * 32 + ".dir"
    code = next(each for each in capture["deps"] if each["path"] == "reports/code/capture.txt")
    code["md5"] = "0" * 32
    del lock["stages"]["evaluate@cpu"]
    path.write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")
    project.commit()
    return project


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with its figures. Copy it to change it."""
    return make_sample(tmp_path_factory.mktemp("report") / "project")


@pytest.fixture(scope="session")
def written(sample: Project) -> Path:
    """The folder with the sample's report."""
    report(sample)
    return sample.folder / "report"


@pytest.fixture
def own(sample: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, as the working folder."""
    folder = sample.copy_to(tmp_path / "project").folder
    monkeypatch.chdir(folder)
    return folder


def report(project: Project, *words: str, check: bool = True) -> subprocess.CompletedProcess:
    """Run the command that writes the report."""
    return project.run(sys.executable, "-m", "press.report", *(words or ("cpu",)), check=check)
