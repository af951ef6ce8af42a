"""Teams: which ranks train which members, and data-parallel training within a team.

With no more ranks than members, each rank trains some members. With more, each member has a team of
neighbouring ranks that train it together (data-parallel): every rank holds the whole model,
computes its part of each batch, and sums gradients with the others, so that all take the step that
one process takes on the whole batch. Rows keep their instances' masks, on whichever rank. A batch
of fewer rows than ranks is computed by all of them, each weighted by one over their number.

A step sums one number for every trained weight, through the processors' memory (gloo): it pays
where a batch takes long in comparison. Results are equal up to rounding, in bfloat16 (as GPUs
train) up to bfloat16's. Ordinary dropout draws other numbers than one process would, and whatever
else a network shares among the rows of a batch, except batch norm, only each rank's rows share.

Batch norm uses the mean and variance of all rows of the team's batch, on any device
(torch.nn.SyncBatchNorm does so only between GPUs). A norm needs two sums over the ranks forward and
two backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from turnover.errors import TurnoverError
from turnover.training.ranks import ALONE, Ranks


@dataclass(frozen=True)
class BatchShare:
    """A rank's rows of a batch, and the weight of each: below 1 where other ranks have them too."""

    rows: slice
    weight: float


@dataclass(frozen=True)
class Team:
    """The ranks `group`, of all `ranks`, that together train the members with the numbers
    `members`, of `total`.
    """

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
        """Wait for all ranks of the team, however long each of them takes."""
        if self.size > 1:
            self.ranks.barrier(self.group)

    def part(self, count: int) -> BatchShare:
        """This rank's part of `count` rows: contiguous, equal up to one row; all of them, if there
        are fewer rows than ranks.
        """
        if count < self.size:
            return BatchShare(slice(0, count), 1 / self.size)
        share = _share(count, self.rank, self.size)
        return BatchShare(slice(share.start, share.stop), 1.0)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum over the team, element by element; the same bits on each of its ranks."""
        return self.ranks.all_reduce(tensor, self.group) if self.size > 1 else tensor

    def all_gather(self, count: int, compute: Callable[[slice], Tensor]) -> Tensor:
        """`(…, count)`, of which `compute` returns `(…, rows)` for this rank's part of the rows;
        the same bits on all ranks of the team.
        """
        if self.size == 1:
            return compute(slice(None))
        part = self.part(count)
        values = compute(part.rows)
        whole = values.new_zeros(*values.shape[:-1], count)
        whole[..., part.rows] = values * part.weight
        self.barrier()
        return self.all_reduce(whole)

    def all_reduce_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its sum over the team; a parameter without one on all ranks
        keeps none, so that the optimiser skips it.
        """
        if self.size == 1:
            return
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for parameter in trained
        ]
        holders = gradients[0].new_tensor([parameter.grad is not None for parameter in trained])
        *sums, holders = self.all_reduce(
            torch.cat([*(gradient.flatten() for gradient in gradients), holders])
        ).split([gradient.numel() for gradient in (*gradients, holders)])
        for parameter, whole, held in zip(trained, sums, holders.tolist(), strict=True):
            parameter.grad = (
                torch.empty_like(parameter).copy_(whole.view(parameter.shape)) if held else None
            )

    def mean(self, values: Tensor) -> Tensor:
        """`Ranks.mean` of one row per member of the team; all its ranks pass the same rows."""
        return self.ranks.mean(values if self.rank == 0 else values[:0])

    def gather(self, payload: bytes) -> list[bytes]:
        """On the first of all ranks the payload of each team, in order; nothing on the others."""
        return [given for given in self.ranks.gather(payload if self.rank == 0 else b"") if given]


def team_of(ranks: Ranks, total: int) -> Team:
    """This rank's team for training `total` members; all ranks call it at the same time."""
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
    """Part `number` of 0 to count − 1 in `parts` contiguous parts, as equal as possible."""
    return range(number * count // parts, (number + 1) * count // parts)


# Batch norm over a team's batch

_BATCH_NORM = nn.modules.batchnorm._BatchNorm


class _AllReduced(torch.autograd.Function):
    """`Team.all_reduce`, whose gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, team: Team) -> Tensor:
        context.team = team
        return team.all_reduce(tensor)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return context.team.all_reduce(gradients[0]), None


@contextmanager
def shared_norms(model: nn.Module, team: Team, weight: float) -> Iterator[None]:
    """Inside, batch norms in training mode use the team's whole batch, in which this rank's rows
    have this `weight` each.

    Raises:
        TurnoverError: in the norm's forward pass, if the batch has one value per channel, and so no
            variance.
    """
    norms = [
        module for module in model.modules() if isinstance(module, _BATCH_NORM) and module.training
    ]
    for norm in norms:
        alone = partial(_alone, norm)
        forward = partial(_normalised, norm, team, weight) if team.size > 1 else alone
        norm.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _alone(norm: _BATCH_NORM, x: Tensor) -> Tensor:
    """`norm` of rows `(B, C, …)` by its own code."""
    _check(x.numel() // x.shape[1])
    return type(norm).forward(norm, x)


def _check(count: float) -> None:
    if round(count) == 1:
        raise TurnoverError(
            "a batch norm cannot learn from a batch of one item; train on more items (--limit)"
        )


def _normalised(norm: _BATCH_NORM, team: Team, weight: float, x: Tensor) -> Tensor:
    """`norm` of rows `(B, C, …)`, in float32 at least; also updates its running statistics, as
    torch does.
    """
    dims, shape = [dim for dim in range(x.dim()) if dim != 1], [1, -1, *[1] * (x.dim() - 2)]
    wide = x if x.dtype == torch.float64 else x.float()
    sums = _AllReduced.apply(
        torch.cat((wide.sum(dims), wide.new_tensor([x.numel() / x.shape[1]]))) * weight, team
    )
    count = sums[-1].detach()
    _check(float(count))
    mean = sums[:-1] / count
    centred = wide - mean.view(shape)
    variance = _AllReduced.apply(centred.square().sum(dims) * weight, team) / count
    if (
        norm.running_mean is not None
        and norm.running_var is not None
        and norm.num_batches_tracked is not None
    ):
        norm.num_batches_tracked += 1
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.detach().to(norm.running_mean), share)
        norm.running_var.lerp_(
            (variance.detach() * count / (count - 1)).to(norm.running_var), share
        )
    normalised = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        normalised = normalised * norm.weight.view(shape) + norm.bias.view(shape)
    return normalised.to(x.dtype)
