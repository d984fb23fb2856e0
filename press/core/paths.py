"""Where things are: each path and file name that two rooms or two stages know."""

import re
from pathlib import Path

# The project's own files.
PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")
# Which class each Olive pass is.
OLIVE_PACKAGE = Path("passes/olive.json")

# What stages make.
BASE = Path("models/base")
QUANTIZED = Path("models/quantized")
ADAPTERS = Path("models/adapters")
CAPTURED = Path("models/captured")
CONVERTED = Path("models/converted")
DOWNLOADS = Path("downloads")
PREPARED = Path("prepared")
PACKAGES = Path("packages")
REPORTS = Path("reports")
CODE = REPORTS / "code"
ENVIRONMENT = REPORTS / "environment"
# Every parameter of the pipeline, the defaults laid under params.yaml: each adapter's in a file of its own.
RESOLVED = REPORTS / "params.json"
RESOLVED_ADAPTERS = REPORTS / "adapters"
EVALUATED = REPORTS / "evaluate"
FINETUNED = REPORTS / "finetune"
MACHINES = REPORTS / "machine"
OLIVE_RUNS = REPORTS / "olive"
PREPARATIONS = REPORTS / "prepare"

# What `make release` makes of a package.
RELEASES = Path("releases")

# Files of a model.
CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
GRAPH = "model.onnx"
# Names the digest of the quantized base that an adapter or a graph was made for.
BASE_DIGEST = "base.json"
# Says which inputs of a graph take an adapter's tensors.
LAYOUT = "lora_inputs.json"
RUNTIME_CONFIG = "genai_config.json"

# Files of an adapter.
ADAPTER_FILE = "adapter.onnx_adapter"
ADAPTER_MANIFEST = "adapter.json"
TRAIN, HELDOUT = "train.jsonl", "heldout.jsonl"
TRAINING_LOG = "training_log.json"

# Files of an evaluation, and of a release.
ANSWERS = "answers.json"
CARD = "README.md"
CASES = "cases.jsonl"
GATES = "gates.json"
LADDER = "ladder.csv"
METRICS = "metrics.json"

# Files of a package, and of a release.
MANIFEST = "manifest.json"
PROVENANCE = "provenance.json"
SIGNATURE = "model.sig"

# Where DVC keeps a file, in its cache; with `cache.type symlink` a link leads there.
CACHED = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


def outside(path: Path) -> Path | None:
    """Return where a path leads, from the project's folder, if that is not in the project; None if it is.

    An absolute path is none of the project, which may lie anywhere.
    """
    project = Path.cwd().resolve()
    place = (project / path).resolve()
    within = place.is_relative_to(project) or CACHED.search(place.as_posix())
    return None if within and not path.is_absolute() and ".." not in path.parts else place


def is_inside(name: str) -> bool:
    """Return whether a name, or a pattern of names, is of files below a folder."""
    return "://" not in name and "\\" not in name and not name.startswith(("/", "~")) and ".." not in name.split("/")
