"""Calibration rows shared among processes, and sums over all of them in one order."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import distributed

from passes.activation_aware.calibration import Moments


@dataclass(frozen=True)
class Shares:
    """Which part of the rows is this process's.

    :param rank: of this process; the first gets the sums
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def of(cls, processes: int, device: torch.device) -> "Shares":
        """Return this process's share, by what a launcher says of it in the environment."""
        if processes == 1:
            return cls()
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(distributed.get_rank(), distributed.get_world_size())

    def own(self, rows: torch.Tensor) -> torch.Tensor:
        """Return this process's rows: as many as the others', or one more, one behind the other."""
        return rows.tensor_split(self.count)[self.rank]

    def add_up(self, moments: Sequence[Moments]) -> None:
        """Let the first process have the moments of all rows: its own, then the second's added, and so on.

        The order is that of the ranks, whatever connects them: the same number of processes gives the same bytes.
        """
        for moment in moments:
            # In float64, as all tokens are whole numbers there.
            sums = *moment.sums, torch.tensor(moment.tokens, dtype=torch.float64, device=moment.sums[0].device)
            for total in sums:
                self._add_up(total)
            moment.tokens = int(sums[-1])

    def _add_up(self, total: torch.Tensor) -> None:
        if self.rank:
            distributed.send(total, 0)
            return
        part = torch.empty_like(total)
        for rank in range(1, self.count):
            distributed.recv(part, rank)
            total += part
