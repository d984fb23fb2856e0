"""Let a release run: on an endpoint of Azure ML, by Foundry Local, or on a box that has its tarball.

What may not be published may not be deployed either.
"""

from pathlib import Path

from press.core import files, paths
from press.core.errors import UserError
from press.model import packaged
from press.release import foundry, publishing, tarball
from press.release.package import check_own
from press.release.settings import Release

PLACES = ("azureml", "foundry", "tarball")


def deploy(release: Release, seconds: float, to: str, into: str) -> None:
    """Let the release that params.yaml names run in a place.

    :param into: the folder, for the places that are one
    :raises UserError: with what keeps it from that
    """
    folder = _folder(to, into)
    released = publishing.checked(release)
    name = _name(release)
    match to:
        case "azureml":
            from press.release.endpoint import OnlineEndpoint

            print(f"served at {OnlineEndpoint(release.publish.azureml, seconds).deploy(released)}")
        case "foundry":
            written = foundry.write(released, folder, name)
            models = ", ".join(sorted(each.name for each in written.iterdir()))
            print(f"{written}: {models}; `foundry cache cd {folder}`, then `foundry model run {name}`")
        case "tarball":
            written = tarball.write(released, folder, f"{name}-{release.publish.version}")
            print(f"{written}: {files.readable(written.stat().st_size)}, SHA-256 {files.sha256(written)}")


def undeploy(release: Release, seconds: float, to: str, into: str) -> None:
    """Take away what `deploy` made in a place.

    :raises UserError: if it is not there
    """
    folder = _folder(to, into)
    if to == "azureml":
        from press.release.endpoint import OnlineEndpoint

        OnlineEndpoint(release.publish.azureml, seconds).undeploy()
        print(f"the endpoint {release.publish.azureml.endpoint.name} is gone")
        return
    # Whatever is wrong with the release: then above all it has to go.
    name = _name(release)
    deployed = (
        foundry.path(folder, name) if to == "foundry" else tarball.path(folder, f"{name}-{release.publish.version}")
    )
    if not (foundry.is_ours(deployed) if to == "foundry" else deployed.is_file()):
        raise UserError(f"{deployed} is not there, or is none that `make deploy TO={to}` wrote")
    try:
        files.remove(deployed)
    except OSError as error:
        raise UserError(f"{deployed} cannot be removed ({error.strerror}): it has to be yours to write to") from error
    print(f"{deployed} is gone")


def _folder(to: str, into: str) -> Path:
    if (to == "azureml") != (not into):
        raise UserError("foundry and tarball need INTO=folder, and azureml has none: params.yaml names its endpoint")
    if into:
        check_own(Path(into))
    return Path(into)


def _name(release: Release) -> str:
    target = release.publish.target
    return str(packaged.read_object(paths.RELEASES / target / paths.MANIFEST).get("name") or target)
