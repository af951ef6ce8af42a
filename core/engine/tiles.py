"""From logits to influences, tile by tile.

All pairs of targets and training instances are covered by tiles of the size that the path asks for. Where memory runs out
in spite of the plan, the tile is cut into pieces, and the following ones are made smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

from turnover.device import at_least_float32
from turnover.engine import PairPath
from turnover.engine.memory import is_out_of_memory
from turnover.errors import TurnoverError

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits `(R, …)` and labels `(R, …)` → one loss a row, `(R,)`."""

Progress = Callable[[int], object]
"""What is told the number of values just finished."""

Tile = tuple[slice, slice, list[Tensor]]
"""Targets, instances, and their values `(K, t, n)` on the CPU, one tensor for each label of a target."""


def default_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats; for a single logit a row, binary cross-entropy with labels 0 and 1."""
    if logits.dim() == 1 or logits.shape[-1] == 1:
        return nn.functional.binary_cross_entropy_with_logits(logits.flatten(), labels.to(logits.dtype), reduction="none")
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def pair_losses(loss: Loss | None, logits: Tensor, labels: Tensor) -> Tensor:
    """Losses `(K, t, n)` of logits `(K, t, n, …)` under labels `(t, …)`; for no loss the default one, without copies."""
    members, targets, count = logits.shape[:3]
    logits = at_least_float32(logits)
    if loss is None and logits.dim() == 4 and logits.shape[-1] > 1 and labels.dim() == 1:
        own = labels.to(logits.device).view(1, -1, 1, 1).expand(members, targets, count, 1)
        return logits.logsumexp(-1) - logits.gather(-1, own).squeeze(-1)
    loss = loss or default_loss
    rows = labels.to(logits.device)[None, :, None].expand(members, targets, count, *labels.shape[1:])
    losses = loss(logits.flatten(0, 2), rows.flatten(0, 2))
    if losses.shape != (members * targets * count,):
        raise TurnoverError(f"the loss gave shape {tuple(losses.shape)}, not one loss a row; use reduction='none'")
    return losses.view(members, targets, count)


def tiles(path: PairPath, labels: Sequence[Tensor], ids: Tensor, loss: Loss | None, progress: Progress | None) -> Iterator[Tile]:
    """All tiles, one slice of targets after the other; the size is asked for each time, since it may shrink on the way.

    `labels` are one or more times one label for each target: what they have in common, the forward passes, is computed once.
    """
    first, count = 0, len(labels[0])
    while first < count:
        targets = slice(first, min(first + path.tiling.targets, count))
        first, second = targets.stop, 0
        while second < len(ids):
            instances = slice(second, min(second + path.tiling.instances, len(ids)))
            second = instances.stop
            for tile in _tile(path, targets, instances, labels, ids, loss):
                yield tile
                if progress:
                    progress(sum(values.numel() for values in tile[2]))


def _tile(path: PairPath, targets: slice, instances: slice, labels: Sequence[Tensor], ids: Tensor, loss: Loss | None) -> Iterator[Tile]:
    """One tile, in pieces if memory runs out."""
    try:
        masked, flipped = path.tile(targets, ids[instances])
        differences = (pair_losses(loss, flipped, own[targets]) - pair_losses(loss, masked, own[targets]) for own in labels)
        values = [difference.cpu() for difference in differences]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        yield targets, instances, values
        return
    rows, columns = targets.stop - targets.start, instances.stop - instances.start
    if rows == columns == 1:
        raise TurnoverError("memory runs out even for one target and one training instance; use a smaller model or another device")
    while path.tiling.targets >= rows and path.tiling.instances >= columns:
        path.tiling.shrink()
    for piece in path.tiling.rectangles(targets, instances):
        yield from _tile(path, *piece, labels, ids, loss)
