"""Which ranks train which members.

Of no more ranks than members each trains some. Where there are more, each member has a team of neighbouring ranks that train
it together (data-parallel): every one holds the whole model, takes its part of each batch, and adds up gradients with the
others, so that all take the step that one process takes on the whole batch. Rows keep their instances' masks, whichever rank
has them. A batch of fewer rows than ranks is computed by all of them, each counted as one of so many.

A step adds up one number for every trained weight, through the processors' memory (gloo): it pays where a batch takes long
beside that. Equal up to rounding, that is; in bfloat16, as GPUs train, to its own. Ordinary dropout draws other numbers than
one process would, and what else a network lets rows of a batch share, but for batch norm, each rank's rows share alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from turnover.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Part:
    """A rank's rows of a batch, and what each of them counts: 1, or less where other ranks have it too."""

    rows: slice
    weight: float


@dataclass(frozen=True)
class Team:
    """The ranks `group`, of all `ranks`, that train the members with the numbers `members`, of all `total`, together."""

    ranks: Ranks
    group: range
    members: range
    total: int

    @property
    def size(self) -> int:
        return len(self.group)

    @property
    def rank(self) -> int:
        """This rank's number in its group."""
        return self.ranks.rank - self.group.start

    def barrier(self) -> None:
        """Wait until all ranks of the team are here, however long each of them takes."""
        if self.size > 1:
            self.ranks.barrier(self.group)

    def part(self, count: int) -> Part:
        """This rank's part of so many rows: neighbours, no rank one more than another; all of them, if there are fewer rows than ranks."""
        if count < self.size:
            return Part(slice(0, count), 1 / self.size)
        own = _share(count, self.rank, self.size)
        return Part(slice(own.start, own.stop), 1.0)

    def all_reduce(self, own: Tensor) -> Tensor:
        """Sum over the team, element by element; the same bits on each of its ranks."""
        return self.ranks.all_reduce(own, self.group) if self.size > 1 else own

    def all_gather(self, count: int, made: Callable[[slice], Tensor]) -> Tensor:
        """`(…, count)`, of which `made` gives `(…, rows)` for this rank's part of so many rows; the same bits on all ranks of the team."""
        if self.size == 1:
            return made(slice(None))
        part = self.part(count)
        own = made(part.rows)
        whole = own.new_zeros(*own.shape[:-1], count)
        whole[..., part.rows] = own * part.weight
        self.barrier()
        return self.all_reduce(whole)

    def all_reduce_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its sum over the team; what has none on any rank keeps none, so that the optimiser leaves it alone."""
        if self.size == 1:
            return
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        own = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in trained]
        holders = own[0].new_tensor([parameter.grad is not None for parameter in trained])
        *sums, holders = self.all_reduce(torch.cat([*(one.flatten() for one in own), holders])).split([one.numel() for one in (*own, holders)])
        for parameter, whole, held in zip(trained, sums, holders.tolist(), strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(whole.view(parameter.shape)) if held else None

    def mean(self, own: Tensor) -> Tensor:
        """`Ranks.mean` of one row for each of the team's members, which each of its ranks has."""
        return self.ranks.mean(own if self.rank == 0 else own[:0])

    def gather(self, payload: bytes) -> list[bytes]:
        """On the first of all ranks what each team has to give, in order; nothing on the others."""
        return [given for given in self.ranks.gather(payload if self.rank == 0 else b"") if given]


def team_of(ranks: Ranks, total: int) -> Team:
    """This rank's team, where `total` members are to be trained; all ranks ask at the same time."""
    count = min(ranks.size, total)
    number = next(team for team in range(count) if ranks.rank in _share(ranks.size, team, count))
    group = _share(ranks.size, number, count)
    if ranks.size > count:
        ranks.new_group(group)
    return Team(ranks, group, _share(total, number, count), total)


def one_rank(members: int) -> Team:
    """One process that trains all members."""
    return team_of(ALONE, members)


def _share(count: int, number: int, parts: int) -> range:
    """Part `number` of 0 to count − 1 in so many parts, one after the other and as equal as can be."""
    return range(number * count // parts, (number + 1) * count // parts)
