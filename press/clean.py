"""Remove the pipeline's outputs from the workspace, and what a kill left of them; the DVC cache keeps its copies.

python -m press.clean
"""

from pathlib import Path

import yaml

from press.core import files, paths

FOLDERS = ("models", "packages", "prepared", "reports")
LEFTOVERS = (".*.partial", ".*.outgoing", ".*.checkpoints", ".*.download")


def outputs(lock: Path) -> list[Path]:
    """Return the paths of all outputs that a dvc.lock names."""
    if not lock.exists():
        return []
    stages = yaml.safe_load(lock.read_text(encoding="utf-8")).get("stages", {})
    return [Path(out["path"]) for stage in stages.values() for out in stage.get("outs", [])]


def clean(paths: list[Path]) -> list[Path]:
    """Remove outputs, the leftovers beside them and the folders that this empties; return what was removed."""
    parents = {parent for path in paths for parent in path.parents if parent != Path()}
    leftovers = [path for folder in FOLDERS for pattern in LEFTOVERS for path in Path(folder).rglob(pattern)]
    removed = [path for path in (*paths, *leftovers) if path.exists()]
    for path in removed:
        files.remove(path)
    for parent in sorted(parents, key=lambda path: -len(path.parts)):
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
    return removed


if __name__ == "__main__":
    print(f"removed {len(clean(outputs(paths.LOCK)))} outputs")
