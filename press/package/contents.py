"""The files of a package, and the manifest that names each of them and what they were built from.

None of them depends on what was measured, nor on which machine: the manifest's digest is what registries know a package
by.
"""

import shutil
from pathlib import Path

from press.core import files, nested, paths
from press.model import packaged
from press.package import origin
from press.params import settings

LEGAL = (origin.LICENCES, "NOTICE*")
# What only the pipeline reads.
INTERNAL = (paths.BASE_DIGEST, paths.LAYOUT)


def members(target: str, params: settings.Settings) -> dict[str, Path]:
    """Map the name of each file of a target's package, but for the manifest, to the file that it is a copy of."""
    captured = paths.CAPTURED / target
    originals = {path.name: path for path in sorted(captured.iterdir()) if path.name not in INTERNAL}
    for name in params.adapters:
        converted = paths.CONVERTED / target / name
        inside = sorted(path for path in converted.rglob("*") if path.is_file())
        originals |= {f"adapters/{name}/{path.relative_to(converted).as_posix()}": path for path in inside}
    return originals | {path.name: path for pattern in LEGAL for path in sorted(paths.BASE.glob(pattern))}


def size(target: str, params: settings.Settings) -> int:
    """Return the bytes of a target's package, but for the manifest."""
    return sum(path.stat().st_size for path in members(target, params).values())


def gather(target: str, params: settings.Settings, building: Path) -> None:
    """Fill the empty folder `building` with the package of a target, which whoever gets it may open.

    :raises UserError: if it has what a package may not have
    """
    for name, path in members(target, params).items():
        (building / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, building / name)
    manifest = {
        "name": params.package.name,
        "target": target,
        "base_sha256": files.read_json(paths.CAPTURED / target / paths.BASE_DIGEST)["base_sha256"],
        "inputs": inputs(target, params),
        "files": files.digests(building),
    }
    files.write_json(building / paths.MANIFEST, manifest)
    packaged.open_package(building)


def inputs(target: str, params: settings.Settings) -> dict:
    """Return what the package was built from: parameters, and digests of base model, data and libraries."""
    texts = (params.quantize.calibration.data, params.evaluate.general.data)
    data = {
        adapter.data: files.read_json(paths.PREPARED / name / paths.ADAPTER_MANIFEST)["data_sha256"]
        for name, adapter in params.adapters.items()
    }
    built_with = nested.in_order(
        {**params.model_dump(exclude={"targets"}), "targets": {target: params.target(target).model_dump()}}
    )
    return {
        "params": built_with,
        "base_model_sha256": files.folder_digest(paths.BASE),
        "data_sha256": {**data, **{path: files.sha256(Path(path)) for path in texts}},
        "environment_sha256": files.digests(paths.ENVIRONMENT),
    }
