"""What is asked of Azure ML about jobs, by the SDK azure-ai-ml, each in a call that may be ended at any time.

A job is a command job: it has the project and its order as inputs, and leaves its result and its log where Azure ML
keeps what a job says. Its definition names places, a compute and an identity; it holds no secret.
"""

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from press.cluster import settings, worker
from press.cluster.settings import GB, Machine, Resources
from press.core.errors import UserError
from press.release.azureml import DATASTORE, FOLDER, container, where, workspace
from press.release.settings import Azureml as Workspace

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Command, Job, VmSize
    from azure.storage.blob import ContainerClient

EXPERIMENT = "olive-press"
ENVIRONMENT = "olive-press-jobs"
JOBS = f"{FOLDER}/jobs"
ORDER = "order.json"
# What an environment is built of where no image is named, and its recipe among it.
DOCKERFILE = Path("deploy/Dockerfile.jobs")
LOCKS = (Path("requirements.lock"), Path("requirements-cuda.lock"))
# Beyond a job's own time limit: to fetch its inputs, and to end by itself.
SPARE_SECONDS = 1800
# Where Azure ML keeps what a job says, and the files that the job leaves in outputs/.
ARTIFACTS = "workspaceartifactstore"
LOGS, RESULT = "user_logs/std_log", f"outputs/{worker.RESULT}"
# The log of a job's only process, or of its first one; the SDK, too, shows that one.
FIRST_LOG = re.compile(rf".*/{LOGS}\D*0*\.txt")
PLACE = re.compile(r"/datastores/(?P<datastore>[^/]+)/(?:paths/)?(?P<folder>.+?)/?$")
# Of a job that nobody has heard of for a while Azure ML says that it does not respond.
CANCELED, LOST = "Canceled", "NotResponding"
ENDED = frozenset({"Completed", "Failed", CANCELED, LOST})
LOW_PRIORITY = "low_priority"
# What Azure answers about a job that has ended, or never began.
NOTHING_TO_CANCEL = frozenset({400, 404, 409})


@dataclass(frozen=True)
class Asked:
    """A job as it is to run.

    :param name: of the job, which no other job of the workspace has
    :param nodes: machines that it takes at once
    :param project: where the project lies
    :param environment: as `prepare` names it
    """

    name: str
    stage: str
    order: str
    machine: Machine
    nodes: int
    seconds: float
    spot: bool
    identity: str
    project: str
    environment: str
    commit: str


@dataclass(frozen=True)
class Seen:
    """A job as it stands.

    :param log: what it, or the first of its nodes, has said since it was looked at before
    :param again: whether it began anew since then, so that the log is all of it
    :param result: what the worker says of its end, if it has ended and could say so
    """

    status: str
    log: bytes
    again: bool
    result: dict | None


def prepare(params: Workspace, snapshot: bytes, image: str) -> tuple[str, str]:
    """Upload the project, and make the environment if it is not there.

    :return: where the project lies, and the environment's name
    """
    files = {worker.PROJECT: snapshot, "worker.py": Path(worker.__file__).read_bytes()}
    with workspace(params) as client:
        return _uploaded(client, files), _environment(client, image)


def check(params: Workspace, stage: str, machine: Machine, resources: Resources, spot: bool) -> None:
    """Refuse a job whose machine is not there, or is too small.

    :param spot: whether it is to be one that others leave
    :raises UserError: naming it
    """
    from azure.core.exceptions import ResourceNotFoundError

    with workspace(params) as client:
        size, tier, most = machine.instance_type, LOW_PRIORITY, None
        if machine.compute:
            # A workspace that does not exist is another mistake.
            client.workspaces.get(params.workspace)
            try:
                compute = client.compute.get(machine.compute)
            except ResourceNotFoundError as error:
                raise UserError(
                    f"{stage}: {where(params)} has no compute {machine.compute}: make it, or name another one in "
                    "cluster.azureml of params.yaml"
                ) from error
            size, tier = getattr(compute, "size", None), getattr(compute, "tier", None)
            most = getattr(compute, "max_instances", None)
        if most is not None and (count := settings.nodes(resources)) > most:
            raise UserError(
                f"{stage} asks for {count} machines at once, but {machine.compute} has {most} at most: set its "
                "training.nodes to less, or let the cluster grow (`az ml compute update --max-instances`)"
            )
        if spot and tier and tier.lower() != LOW_PRIORITY:
            raise UserError(
                f"{stage}: cluster.azureml.spot is true, but the machines of {machine.compute} are dedicated: make a "
                "cluster of low priority (`az ml compute create --tier low_priority`), or name an instance_type instead"
            )
        sizes = {each.name: each for each in client.compute.list_sizes()} if size else {}
    if too_small := size in sizes and _lacks(sizes[size], resources):
        raise UserError(
            f"{stage} asks for {too_small}, which {size} has not: cluster.azureml in params.yaml says where it runs, "
            "and cluster.resources what it asks for"
        )


def submit(params: Workspace, asked: Asked) -> str:
    """Begin a job, and return the address of its page."""
    # It calls half of its own classes experimental, once for each.
    logging.getLogger("azure.ai.ml._utils._experimental").setLevel(logging.ERROR)
    with workspace(params) as client:
        place = f"{JOBS}/{asked.name}/{ORDER}"
        with container(client, DATASTORE) as blobs:
            blobs.upload_blob(place, asked.order.encode(), overwrite=True)
        job = client.jobs.create_or_update(definition(asked, _uri(place)))
        return str(job.studio_url or "")


def definition(asked: Asked, order: str) -> "Command":
    """Return what Azure ML is told of a job.

    :param order: where its order lies
    """
    from azure.ai.ml import Input, PyTorchDistribution, command
    from azure.ai.ml.entities import ManagedIdentityConfiguration

    # That of a cluster is its own.
    tier = None if asked.machine.compute else "spot" if asked.spot else "standard"
    return command(
        name=asked.name,
        display_name=asked.stage,
        experiment_name=EXPERIMENT,
        tags={"stage": asked.stage},
        # With a commit the SDK adds nothing of git's, such as origin's address, in which a password may be.
        properties={"mlflow.source.git.commit": asked.commit},
        command=f"python ${{{{inputs.project}}}}/worker.py ${{{{inputs.order}}}} {asked.seconds:g}",
        inputs={
            "project": Input(type="uri_folder", path=asked.project, mode="download"),
            "order": Input(type="uri_file", path=order, mode="download"),
        },
        environment=asked.environment,
        environment_variables={worker.IDENTITY: asked.identity} if asked.identity else {},
        identity=ManagedIdentityConfiguration(client_id=asked.identity or None),
        compute=asked.machine.compute or None,
        instance_type=asked.machine.instance_type or None,
        instance_count=asked.nodes,
        # It tells each node where the first one is, and which of them it is (press/model/nodes.py).
        distribution=PyTorchDistribution(process_count_per_instance=1) if asked.nodes > 1 else None,
        job_tier=tier,
        timeout=int(asked.seconds) + SPARE_SECONDS,
        is_deterministic=False,
    )


def look(params: Workspace, read: dict[str, int]) -> dict[str, Seen]:
    """Return how jobs stand.

    :param read: how much of each job's log is known, in bytes
    """
    with workspace(params) as client:
        return {name: _seen(client, client.jobs.get(name), known) for name, known in read.items()}


def cancel(params: Workspace, names: list[str]) -> None:
    """Cancel those jobs that have not ended."""
    from azure.core.exceptions import HttpResponseError

    with workspace(params) as client:
        for name in names:
            try:
                client.jobs.begin_cancel(name, polling=False)
            except HttpResponseError as error:
                if error.status_code not in NOTHING_TO_CANCEL:
                    raise


def _uri(place: str) -> str:
    return f"azureml://datastores/{DATASTORE}/paths/{place}"


def _uploaded(client: "MLClient", files: dict[str, bytes]) -> str:
    """Upload files to a folder that their content names, and return where it lies."""
    place = f"{JOBS}/{_digest(files)}"
    with container(client, DATASTORE) as blobs:
        for name, content in files.items():
            blobs.upload_blob(f"{place}/{name}", content, overwrite=True)
    return f"{_uri(place)}/"


def _digest(files: dict[str, bytes]) -> str:
    """Return what names some files' content."""
    return hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:32]


def _environment(client: "MLClient", image: str) -> str:
    """Return the name of the environment that has an image, or is built of the locks; its content names its version."""
    from azure.ai.ml.entities import BuildContext, Environment
    from azure.core.exceptions import ResourceNotFoundError

    recipe = {} if image else {path.name: path.read_bytes() for path in (DOCKERFILE, *LOCKS)}
    version = _digest({"image": image.encode(), **recipe})
    name = f"azureml:{ENVIRONMENT}:{version}"
    try:
        client.environments.get(ENVIRONMENT, version)
    except ResourceNotFoundError:
        words = {"name": ENVIRONMENT, "version": version}
        if image:
            made = Environment(image=image, **words)
        else:
            context = BuildContext(path=_context(client, recipe), dockerfile_path=DOCKERFILE.name)
            made = Environment(build=context, **words)
        client.environments.create_or_update(made)
    return name


def _context(client: "MLClient", recipe: dict[str, bytes]) -> str:
    """Upload what an image is built of, and return its address."""
    place = _uploaded(client, recipe).partition("/paths/")[2]
    with container(client, DATASTORE) as blobs:
        return f"{blobs.url.partition('?')[0]}/{place}"


def _lacks(size: "VmSize", resources: Resources) -> str:
    """Say what a machine has too little of, if it has."""
    # The SDK keeps the service's own names of these, and leaves those of its class empty.
    given = vars(size)
    cores, memory = size.v_cp_us or given.get("vCPUs"), size.memory_gb or given.get("memoryGB")
    lacks = {
        f"{resources.gpus:g} GPUs": resources.gpus > (size.gpus or 0),
        f"{resources.cpus:g} cores": bool(cores) and resources.cpus > cores,
        f"{resources.memory:g} GB": bool(memory) and resources.memory * GB > memory * 2**30,
    }
    return next((what for what, lacking in lacks.items() if lacking), "")


def _seen(client: "MLClient", job: "Job", known: int) -> Seen:
    # The SDK gives a member of an enumeration, whose str is its name.
    status, place = str(getattr(job.status, "value", job.status)), _place(job)
    with container(client, place["datastore"]) as blobs:
        result = f"{place['folder']}/{RESULT}"
        log, size = _first_log(blobs, place["folder"])
        again = size < known
        said = _content(blobs, log, 0 if again else known, size)
        return Seen(status, said, again, _result(_content(blobs, result, 0, _size(blobs, result))))


def _place(job: "Job") -> dict[str, str]:
    """Return where a job's log and outputs are, as Azure ML says or else as its SDK knows."""
    default = (getattr(job, "outputs", None) or {}).get("default")
    found = PLACE.search(str(getattr(default, "path", "")))
    return found.groupdict() if found else {"datastore": ARTIFACTS, "folder": f"ExperimentRun/dcid.{job.name}"}


def _first_log(blobs: "ContainerClient", folder: str) -> tuple[str, int]:
    """Return the name and size of the blob in which a job's log is; there may be none."""
    there = blobs.list_blobs(name_starts_with=f"{folder}/{LOGS}")
    return next(((blob.name, blob.size) for blob in there if FIRST_LOG.fullmatch(blob.name)), ("", 0))


def _size(blobs: "ContainerClient", name: str) -> int:
    """Return how much a blob holds; there may be none."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return blobs.get_blob_client(name).get_blob_properties().size
    except ResourceNotFoundError:
        return 0


def _content(blobs: "ContainerClient", name: str, start: int, end: int) -> bytes:
    return blobs.download_blob(name, offset=start, length=end - start).readall() if end > start else b""


def _result(text: bytes) -> dict | None:
    """Return what a worker wrote at its end, if that is whole."""
    try:
        result = json.loads(text)
        return result if isinstance(result["code"], int) and isinstance(result["late"], bool) else None
    except (LookupError, TypeError, ValueError):
        return None
