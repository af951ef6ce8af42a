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

from core.teams import Team

_BATCH_NORM = nn.modules.batchnorm._BatchNorm


class _Added(torch.autograd.Function):
    """`Team.add`, whose gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(context: Any, own: Tensor, team: Team) -> Tensor:
        context.team = team
        return team.add(own)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return context.team.add(gradients[0]), None


@contextmanager
def shared_norms(model: nn.Module, team: Team, weight: float) -> Iterator[None]:
    """Inside, batch norms in training mode see the team's whole batch, of which this rank's rows count `weight` each."""
    norms = [module for module in model.modules() if isinstance(module, _BATCH_NORM) and module.training] if team.size > 1 else []
    for norm in norms:
        norm.forward = partial(_normalised, norm, team, weight)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalised(norm: _BATCH_NORM, team: Team, weight: float, x: Tensor) -> Tensor:
    """`norm` of rows `(B, C, …)`, in float32 at least; also moves its running statistics, as torch does."""
    dims, shape = [dim for dim in range(x.dim()) if dim != 1], [1, -1, *[1] * (x.dim() - 2)]
    wide = x if x.dtype == torch.float64 else x.float()
    sums = _Added.apply(torch.cat((wide.sum(dims), wide.new_tensor([x.numel() / x.shape[1]]))) * weight, team)
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = wide - mean.view(shape)
    variance = _Added.apply(centred.square().sum(dims) * weight, team) / count
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked += 1
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.detach().to(norm.running_mean), share)
        norm.running_var.lerp_((variance.detach() * count / (count - 1)).to(norm.running_var), share)
    made = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        made = made * norm.weight.view(shape) + norm.bias.view(shape)
    return made.to(x.dtype)
