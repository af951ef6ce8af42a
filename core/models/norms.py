"""Batch norm over a batch that several ranks share: its mean and variance are those of all rows, on any device.

torch.nn.SyncBatchNorm does the same between GPUs only. Two sums a norm go over the ranks forward and two backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from turnover.errors import TurnoverError
from turnover.teams import Team

_BATCH_NORM = nn.modules.batchnorm._BatchNorm


class _AllReduced(torch.autograd.Function):
    """`Team.all_reduce`, whose gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(context: Any, own: Tensor, team: Team) -> Tensor:
        context.team = team
        return team.all_reduce(own)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return context.team.all_reduce(gradients[0]), None


@contextmanager
def shared_norms(model: nn.Module, team: Team, weight: float) -> Iterator[None]:
    """Inside, batch norms in training mode see the team's whole batch, of which this rank's rows count `weight` each.

    Raises:
        TurnoverError: in the norm's forward pass, if that is one value of each channel, which has no variance.
    """
    norms = [module for module in model.modules() if isinstance(module, _BATCH_NORM) and module.training]
    for norm in norms:
        norm.forward = partial(_normalised, norm, team, weight) if team.size > 1 else partial(_alone, norm)  # type: ignore[method-assign]
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
        raise TurnoverError("a batch norm cannot learn from a batch of one item; train on more items (--limit)")


def _normalised(norm: _BATCH_NORM, team: Team, weight: float, x: Tensor) -> Tensor:
    """`norm` of rows `(B, C, …)`, in float32 at least; also moves its running statistics, as torch does."""
    dims, shape = [dim for dim in range(x.dim()) if dim != 1], [1, -1, *[1] * (x.dim() - 2)]
    wide = x if x.dtype == torch.float64 else x.float()
    sums = _AllReduced.apply(torch.cat((wide.sum(dims), wide.new_tensor([x.numel() / x.shape[1]]))) * weight, team)
    count = sums[-1].detach()
    _check(float(count))
    mean = sums[:-1] / count
    centred = wide - mean.view(shape)
    variance = _AllReduced.apply(centred.square().sum(dims) * weight, team) / count
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked += 1
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.detach().to(norm.running_mean), share)
        norm.running_var.lerp_((variance.detach() * count / (count - 1)).to(norm.running_var), share)
    made = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        made = made * norm.weight.view(shape) + norm.bias.view(shape)
    return made.to(x.dtype)
