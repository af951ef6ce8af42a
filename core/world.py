"""Which of how many processes this one is: what `torchrun` says of it in the environment. Needs no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class World:
    """Process `rank` of `size`, of which `local_size` run on this machine, this one as number `local_rank` among them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0


def world() -> World:
    """What torchrun has set; one process alone where it has not."""
    told = [os.environ.get(name, "") for name in _VARIABLES]
    return World(*map(int, told)) if all(number.isdigit() for number in told) else World()
