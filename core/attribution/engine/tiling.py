"""From logits to influences, tile by tile: tile sizes, memory, and threads.

All pairs of targets and training instances are worked through in *tiles*, some targets by some
instances. A backend states what a tile costs, `Cost`, and `tile_size` chooses the largest tile
within the budget: as many targets as it can hold (what is prepared for a target serves all
instances), but never more of either than the backend finds useful. Where the estimate was too low
and an allocation fails, `Tiling.shrink` halves the tile, which is computed in pieces.

`spread` runs many small tasks on all cores of a CPU. The engine's tiles are small, to stay in a
core's cache; one operator on such a tile is too short to be split among threads, which would wait
for each other after each of thousands of operators. So whole tasks are spread instead, one thread
per core, each with single-threaded operators.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from turnover.attribution.device import at_least_float32
from turnover.errors import TurnoverError
from turnover.storage.progress import Advance, silent

# Memory

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
    """Bytes for tiles: 60 % of a GPU's free memory; on a CPU a quarter of the free memory, but at
    most 1 GB, since small tiles stay in its caches.
    """
    if device.type == "cuda":
        return int(0.6 * torch.cuda.mem_get_info(device)[0])
    return min(_MOST_ON_CPU, host_budget())


def host_budget() -> int:
    """A quarter of this machine's free memory: the limit for values that came from a GPU."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # not available on macOS
        free = 4 * _MOST_ON_CPU
    return free // 4


# Tiles


@dataclass(frozen=True)
class Cost:
    """Bytes that a tile needs: for each of its targets, and for each pair of a target and an
    instance.
    """

    target: int
    pair: int


@dataclass
class Tiling:
    """How many targets and training instances are computed at a time."""

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
        """Tiles of this size that cover some targets and instances, all instances of one slice of
        targets after the other.
        """
        return [
            (rows, columns)
            for rows in pieces(targets, self.targets)
            for columns in pieces(instances, self.instances)
        ]


class Backend(Protocol):
    """Logits of (target, training instance) pairs, for one model and one set of targets."""

    members: int

    @property
    def name(self) -> str:
        """How the logits are computed, in words."""
        ...

    @property
    def tiling(self) -> Tiling:
        """The size of its tiles."""
        ...

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(K, targets, ids, classes)`."""
        ...


def pieces(whole: slice, step: int) -> list[slice]:
    """A slice cut into slices of `step`; the last may be shorter."""
    return [
        slice(first, min(first + step, whole.stop))
        for first in range(whole.start, whole.stop, step)
    ]


def tile_size(cost: Cost, memory: int, most_targets: int, most_instances: int) -> Tiling:
    """The largest useful tile within `memory` bytes; at least one target and a few instances,
    whatever the budget.
    """
    instances = most_instances
    while instances > _LEAST_INSTANCES and instances * cost.pair + cost.target > memory:
        instances = max(_LEAST_INSTANCES, instances // 2)
    return Tiling(
        max(1, min(most_targets, memory // max(1, cost.target + instances * cost.pair))), instances
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    return isinstance(
        error, torch.OutOfMemoryError | MemoryError
    ) or "can't allocate memory" in str(error)


# Losses and influences

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits `(R, …)` and labels `(R, …)` → one loss per row, `(R,)`."""

Tile = tuple[slice, slice, list[Tensor]]
"""Targets, instances, and their values `(K, t, n)` on the CPU, one tensor for each label of a
target.
"""


def default_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats; for one logit per row, binary cross-entropy with labels 0 and 1."""
    if logits.dim() == 1 or logits.shape[-1] == 1:
        return nn.functional.binary_cross_entropy_with_logits(
            logits.flatten(), labels.to(logits.dtype), reduction="none"
        )
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def pair_losses(loss: Loss | None, logits: Tensor, labels: Tensor) -> Tensor:
    """Losses `(K, t, n)` of logits `(K, t, n, …)` under labels `(t, …)`; None is the default loss,
    computed without copies.
    """
    members, targets, count = logits.shape[:3]
    logits = at_least_float32(logits)
    if loss is None and logits.dim() == 4 and logits.shape[-1] > 1 and labels.dim() == 1:
        index = labels.to(logits.device).view(1, -1, 1, 1).expand(members, targets, count, 1)
        return logits.logsumexp(-1) - logits.gather(-1, index).squeeze(-1)
    loss = loss or default_loss
    rows = labels.to(logits.device)[None, :, None].expand(
        members, targets, count, *labels.shape[1:]
    )
    losses = loss(logits.flatten(0, 2), rows.flatten(0, 2))
    if losses.shape != (members * targets * count,):
        raise TurnoverError(
            f"the loss gave shape {tuple(losses.shape)}, not one loss a row; use reduction='none'"
        )
    return losses.view(members, targets, count)


def tiles(
    backend: Backend,
    labels: Sequence[Tensor],
    ids: Tensor,
    loss: Loss | None,
    progress: Advance = silent,
) -> Iterator[Tile]:
    """All tiles, one slice of targets after the other; the size is read each time, since it
    may shrink on the way.

    Each of `labels` has one label per target; their common forward passes are computed once.
    """
    first, count = 0, len(labels[0])
    while first < count:
        targets = slice(first, min(first + backend.tiling.targets, count))
        first, second = targets.stop, 0
        while second < len(ids):
            instances = slice(second, min(second + backend.tiling.instances, len(ids)))
            second = instances.stop
            for tile in _tile(backend, targets, instances, labels, ids, loss):
                yield tile
                progress(sum(values.numel() for values in tile[2]))


def _tile(
    backend: Backend,
    targets: slice,
    instances: slice,
    labels: Sequence[Tensor],
    ids: Tensor,
    loss: Loss | None,
) -> Iterator[Tile]:
    """One tile, in pieces if memory runs out."""
    try:
        masked, flipped = backend.tile(targets, ids[instances])
        differences = (
            pair_losses(loss, flipped, target_labels[targets])
            - pair_losses(loss, masked, target_labels[targets])
            for target_labels in labels
        )
        values = [difference.cpu() for difference in differences]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        yield targets, instances, values
        return
    rows, columns = targets.stop - targets.start, instances.stop - instances.start
    if rows == columns == 1:
        raise TurnoverError(
            "memory runs out even for one target and one training instance; use a smaller model or "
            "another device"
        )
    while backend.tiling.targets >= rows and backend.tiling.instances >= columns:
        backend.tiling.shrink()
    for piece in backend.tiling.rectangles(targets, instances):
        yield from _tile(backend, *piece, labels, ids, loss)


# Many small tasks on all cores

Item = TypeVar("Item")
_spreading = threading.Lock()


def spread(work: Callable[[Item], object], items: Sequence[Item], device: torch.device) -> None:
    """Call `work` on every item, without gradients; on a CPU in as many threads as torch uses
    there.

    The first error of a task is raised. The number of threads that torch uses is restored.
    """
    threads = min(torch.get_num_threads(), len(items))
    if device.type != "cpu" or threads <= 1 or not _spreading.acquire(blocking=False):
        for item in items:
            work(item)
        return
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, "turnover", torch.set_num_threads, (1,)) as pool:
            list(pool.map(torch.no_grad()(work), items))
    finally:
        torch.set_num_threads(before)
        _spreading.release()
