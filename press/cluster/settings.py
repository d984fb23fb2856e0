"""The type of the block `cluster` of params.yaml, which no stage reads: a change of it reruns nothing."""

from typing import Annotated

from pydantic import Field

from press.params import reading, schema
from press.params.schema import Block, Positive

GB = 1e9


class Resources(Block):
    """What a job reserves on a machine.

    :param memory: in GB
    """

    cpus: Annotated[float, Field(gt=0, le=4096)] = 2
    memory: Annotated[float, Field(gt=0, le=65536)] = 4
    gpus: Annotated[float, Field(ge=0, le=64)] = 0


class Cluster(Block):
    """How jobs are placed.

    :param address: of the cluster, as `ray.init` takes it; auto is the one that this machine belongs to
    :param retries: how often a job begins again whose machine failed it
    :param minutes: time limit of a job
    :param resources: by the name of a stage; those of `default` are for all others
    """

    address: Annotated[str, Field(min_length=1)] = "auto"
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    minutes: Positive = 240
    resources: dict[str, Resources] = Field(default_factory=dict)

    def of(self, stage: str) -> Resources:
        """Return the resources of a stage's job, its instance left out of its name."""
        return self.resources.get(stage.partition("@")[0]) or self.resources.get("default") or Resources()


class Params(Block):
    """What params.yaml says about the cluster."""

    cluster: Cluster = Field(default_factory=Cluster)


def load() -> Cluster:
    """Read and validate params.yaml's block, or raise UserError with one sentence for each mistake."""
    return reading.chosen(Params, schema.PATTERNS).cluster
