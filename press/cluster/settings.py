"""The type of the block `cluster` of params.yaml, which no stage reads: a change of it reruns nothing."""

from typing import Annotated

from pydantic import Field, field_validator

from press.params import reading, schema
from press.params.schema import Block, Positive

GB = 1e9
DEFAULT = "default"


class Resources(Block):
    """What a job reserves on a machine.

    :param memory: in GB
    """

    cpus: Annotated[float, Field(gt=0, le=4096)]
    memory: Annotated[float, Field(gt=0, le=65536)]
    gpus: Annotated[float, Field(ge=0, le=64)]


class Cluster(Block):
    """How jobs are placed.

    :param address: of the cluster, as `ray.init` takes it; auto is the one that this machine belongs to
    :param retries: how often a job begins again whose machine failed it
    :param minutes: time limit of a job
    :param resources: by the name of a stage; those of `default` are for all others
    """

    address: Annotated[str, Field(min_length=1)]
    retries: Annotated[int, Field(ge=0, le=100)]
    minutes: Positive
    resources: dict[str, Resources]

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
    return reading.chosen(Params, schema.PATTERNS).cluster


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
