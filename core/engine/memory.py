"""How much memory the engine may use, and how large its tiles are therefore.

All pairs of targets and training instances are worked through in *tiles*, some targets by some instances. A path says what
a tile costs, `Cost`, and `tile_size` chooses the largest tile within the budget: as many targets as it can hold (what is
prepared for a target serves all instances), but never more of either than the path finds useful. Where the estimate was
too low and an allocation fails, `Tiling.shrink` halves the tile, and the work goes on.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import torch

from turnover.errors import TurnoverError
from turnover.world import world

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_MOST_ON_CPU = 2**30
_LEAST_INSTANCES = 16


def parse_memory(text: str) -> int:
    """Bytes from `512M`, `2G`, `1.5 GB` or a plain number of bytes.

    Raises:
        TurnoverError: for anything else, and for less than 1 MB.
    """
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if size < 2**20:
        raise TurnoverError(f"--memory {text}: give a size of at least 1M, such as 512M or 4G")
    return size


def default_budget(device: torch.device) -> int:
    """Bytes for tiles: 60 % of a GPU's free memory; on a CPU a quarter of what is free, but at most 1 GB, since small tiles stay in its caches.

    Ranks that share a device share them.
    """
    if device.type == "cuda":
        return int(0.6 * torch.cuda.mem_get_info(device)[0]) // -(-world().local_size // torch.cuda.device_count())
    return min(_MOST_ON_CPU, host_budget())


def host_budget() -> int:
    """A quarter of this machine's free memory, shared by its ranks: what values that came from a GPU may take."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # macOS does not tell
        free = 4 * _MOST_ON_CPU
    return free // 4 // world().local_size


@dataclass(frozen=True)
class Cost:
    """Bytes that a tile needs: for each of its targets, and for each pair of a target and an instance."""

    target: int
    pair: int


@dataclass
class Tiling:
    """How many targets and training instances are worked on at a time."""

    targets: int
    instances: int

    def shrink(self) -> bool:
        """Halve the tile, instances first; false if it cannot be smaller."""
        if self.instances > _LEAST_INSTANCES or (self.targets == 1 and self.instances > 1):
            self.instances = (self.instances + 1) // 2
        elif self.targets > 1:
            self.targets = (self.targets + 1) // 2
        else:
            return False
        return True

    def rectangles(self, targets: slice, instances: slice) -> list[tuple[slice, slice]]:
        """Tiles of this size that cover some targets and instances, all instances of one slice of targets after the other."""
        return [(rows, columns) for rows in pieces(targets, self.targets) for columns in pieces(instances, self.instances)]


def pieces(whole: slice, step: int) -> list[slice]:
    """A slice cut into slices of `step`, the last one of what is left."""
    return [slice(first, min(first + step, whole.stop)) for first in range(whole.start, whole.stop, step)]


def tile_size(cost: Cost, memory: int, most_targets: int, most_instances: int) -> Tiling:
    """The largest useful tile within `memory` bytes; at least one target and a few instances, whatever the budget."""
    instances = most_instances
    while instances > _LEAST_INSTANCES and instances * cost.pair + cost.target > memory:
        instances = max(_LEAST_INSTANCES, instances // 2)
    return Tiling(max(1, min(most_targets, memory // max(1, cost.target + instances * cost.pair))), instances)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
