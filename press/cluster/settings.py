"""The type of the block `cluster` of params.yaml, which no stage reads: a change of it reruns nothing."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from press.params import reading
from press.params.schema import Block, Positive
from press.release.settings import IMAGE
from press.release.settings import PATTERNS as RELEASE_PATTERNS

GB = 1e9
DEFAULT = "default"
# Empty until they are named.
COMPUTE = r"^([A-Za-z0-9][A-Za-z0-9-]{0,63})?$"
INSTANCE_TYPE = r"^([A-Za-z][A-Za-z0-9_]{0,63})?$"
CLIENT_ID = r"^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$"
PATTERNS = {
    **RELEASE_PATTERNS,
    COMPUTE: "the name of a compute of the workspace, such as cpu-cluster",
    INSTANCE_TYPE: "a size of virtual machines, such as Standard_NC24ads_A100_v4",
    CLIENT_ID: "the client id of a managed identity, such as 00000000-0000-0000-0000-000000000000",
}


class Resources(Block):
    """What a job reserves on a machine.

    :param memory: in GB
    """

    cpus: Annotated[float, Field(gt=0, le=4096)]
    memory: Annotated[float, Field(gt=0, le=65536)]
    gpus: Annotated[float, Field(ge=0, le=64)]


class Machine(Block):
    """What runs jobs on Azure ML; neither is named where there are no such jobs.

    :param compute: one of the workspace's, by its name
    :param instance_type: of serverless compute
    """

    compute: Annotated[str, Field(pattern=COMPUTE)]
    instance_type: Annotated[str, Field(pattern=INSTANCE_TYPE)]

    @model_validator(mode="after")
    def one_is_named(self) -> "Machine":
        if self.compute and self.instance_type:
            raise ValueError(
                f"it names compute {self.compute} and instance_type {self.instance_type}, which is of serverless "
                "compute: leave one of them empty"
            )
        return self


class Azureml(Block):
    """How Azure ML runs jobs, in the workspace of publish.azureml.

    :param cpu: for jobs that ask for no GPU
    :param gpu: for jobs that do
    :param spot: whether they run on what others leave, for less, and may begin again
    :param identity: client id of the managed identity that jobs reach the DVC remote with; empty for the compute's own
    :param image: by its digest; empty for one that Azure ML builds of requirements.lock
    """

    cpu: Machine
    gpu: Machine
    spot: bool
    identity: Annotated[str, Field(pattern=CLIENT_ID)]
    image: Annotated[str, Field(pattern=IMAGE)]


class Cluster(Block):
    """How jobs are placed.

    :param address: of the Ray cluster, as `ray.init` takes it; auto is the one that this machine belongs to
    :param retries: how often a job begins again whose machine failed it
    :param minutes: time limit of a job
    :param resources: by the name of a stage; those of `default` are for all others
    """

    address: Annotated[str, Field(min_length=1)]
    retries: Annotated[int, Field(ge=0, le=100)]
    minutes: Positive
    resources: dict[str, Resources]
    azureml: Azureml

    @field_validator("resources")
    @classmethod
    def all_stages_have_some(cls, resources: dict[str, Resources]) -> dict[str, Resources]:
        if DEFAULT not in resources:
            raise ValueError(f"it lacks {DEFAULT}, which is for all stages that it does not name")
        return resources


class Params(Block):
    """What params.yaml says about the cluster."""

    cluster: Cluster


def load() -> Cluster:
    """Read and validate params.yaml's block, or raise UserError with one sentence for each mistake."""
    return reading.chosen(Params, PATTERNS).cluster


class OnNodes(Resources):
    """What a job reserves on each of several machines, whose number is not the cluster's block to say."""

    nodes: Positive


def resources(cluster: Cluster, stage: str, count: int = 1) -> Resources:
    """Return what a stage's job reserves, whichever instance of the stage it is.

    :param count: machines that it runs on at once
    """
    chosen = cluster.resources.get(stage.partition("@")[0], cluster.resources[DEFAULT])
    return OnNodes(**chosen.model_dump(), nodes=count) if count > 1 else chosen


def nodes(asked: Resources) -> int:
    """Return how many machines a job runs on at once."""
    return asked.nodes if isinstance(asked, OnNodes) else 1
