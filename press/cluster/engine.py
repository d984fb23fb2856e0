"""What places jobs on machines, whichever engine it is."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from press.cluster.settings import Cluster, Resources


class Engine(Protocol):
    """Machines for jobs; each stage has one job at a time."""

    def __init__(self, cluster: Cluster, snapshot: bytes) -> None:
        """Reach the machines.

        :param snapshot: the project's files, as a tar file
        :raises UserError: if that is not possible
        """

    @staticmethod
    def place(cluster: Cluster, resources: Resources) -> str:
        """Say where such jobs are to run, as far as params.yaml tells; empty if it does not.

        :raises UserError: if params.yaml should tell
        """
        ...

    def check(self, stage: str, resources: Resources) -> None:
        """Refuse a job for which no machine is there, or large enough.

        :raises UserError: naming it
        """

    def submit(self, stage: str, order: str, resources: Resources, seconds: float, avoided: Sequence[set[str]]) -> None:
        """Queue a job.

        :param order: what press.cluster.job reads
        :param seconds: time limit
        :param avoided: sets of machines that it is to do without, by the ids that `events` gives: it waits for others
            than those of the first set that leaves any; an engine whose machines cannot be chosen gives no ids
        """

    def events(self) -> Iterator[tuple[str, str, str | dict | Exception]]:
        """Yield what the jobs say as it comes: the stage, the machine's id, and a line, the result or a failure.

        A failure is the machine's fault, unless it is a UserError. It ends when no job is left.
        """
        ...

    def cancel(self, stage: str) -> None:
        """Cancel a job; what it has said before may still come."""

    def stop(self) -> None:
        """Cancel all jobs and leave the machines."""
