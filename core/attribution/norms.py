"""Batch norms with two sets of running statistics: under masks, and without.

Masks change the statistics of what lies behind them, so those that training measures under masks do
not fit the whole network. A norm that training moves therefore has both, and the scope chooses: in
a mask context `running_mean` and `running_var`, which training moves as torch does; outside one
`unmasked_mean` and `unmasked_var`, which `settle_norms` measures anew without masks. All are
buffers, so a `state_dict` has both sets. Both are made of all instances: both are leaks (law 3).

Norms that stay in evaluation mode while a model is trained have one set, as do other kinds of norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from turnover.attribution.scope import under_masks

_PARTS = ("mean", "var")
_MOVED = ("running_mean", "running_var", "num_batches_tracked", "momentum")


class _TwoSets(nn.modules.batchnorm._BatchNorm):
    unmasked_mean: Tensor
    unmasked_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return _uncompiled(self, x) if torch.compiler.is_compiling() else self._normed(x)

    def _normed(self, x: Tensor) -> Tensor:
        if self.training or under_masks():
            return super().forward(x)
        statistics = self.unmasked_mean, self.unmasked_var
        return nn.functional.batch_norm(x, *statistics, self.weight, self.bias, eps=self.eps)


class TurnoverNorm1d(_TwoSets, nn.BatchNorm1d):
    """`nn.BatchNorm1d` with two sets of statistics."""


class TurnoverNorm2d(_TwoSets, nn.BatchNorm2d):
    """`nn.BatchNorm2d` with two sets of statistics."""


class TurnoverNorm3d(_TwoSets, nn.BatchNorm3d):
    """`nn.BatchNorm3d` with two sets of statistics."""


_KINDS: dict[type[nn.Module], type[_TwoSets]] = {
    nn.BatchNorm1d: TurnoverNorm1d,
    nn.BatchNorm2d: TurnoverNorm2d,
    nn.BatchNorm3d: TurnoverNorm3d,
}
_uncompiled = torch._disable_dynamo(_TwoSets._normed)  # type: ignore[attr-defined]
"""Outside a compiled graph, which could not see whether masks apply."""


def two_sets(norm: nn.Module) -> bool:
    """Whether a norm has statistics under masks and without."""
    return isinstance(norm, _TwoSets)


def moving_norms(model: nn.Module) -> dict[str, Any]:
    """The norms whose statistics training moves, by name; leaves the model in evaluation mode."""
    model.train()
    moving = {
        name: module
        for name, module in model.named_modules()
        if getattr(module, "track_running_stats", False) and module.training
    }
    model.eval()
    return moving


def split_norms(model: nn.Module) -> None:
    """Give each batch norm that training moves a second set of statistics, equal to its first; a
    model that has one is left in evaluation mode.
    """
    if not any(type(module) in _KINDS for module in model.modules()):
        return
    for norm in moving_norms(model).values():
        if (kind := _KINDS.get(type(norm))) is not None:
            norm.__class__ = kind  # in place: names, hooks and ties stay as they are
            for part in _PARTS:
                norm.register_buffer(f"unmasked_{part}", getattr(norm, f"running_{part}").clone())


@torch.no_grad()
def settle_norms(
    model: nn.Module, batches: Iterable[Tensor] | None, run: Callable[[Tensor], object]
) -> None:
    """Set the statistics without masks of a model in evaluation mode, as
    `torch.optim.swa_utils.update_bn` does: means over batches, by their rows; nothing else changes.

    Args:
        batches: training inputs `(K, B, …)` for `run`, which runs the model; None: the model was
            trained without masks, so that its statistics are those already.
    """
    norms = [module for module in model.modules() if isinstance(module, _TwoSets)]
    if batches is None:
        for norm in norms:
            for part in _PARTS:
                getattr(norm, f"unmasked_{part}").copy_(getattr(norm, f"running_{part}"))
        return
    if not norms:
        return
    kept = [{name: getattr(norm, name) for name in _MOVED} for norm in norms]
    rows = 0
    try:
        for norm in norms:
            norm.train()
            norm.running_mean, norm.running_var = norm.unmasked_mean, norm.unmasked_var
            norm.num_batches_tracked = None
        for batch in batches:
            rows += (size := batch.shape[1])
            for norm in norms:
                norm.momentum = size / rows
            run(batch)
    finally:
        for norm, values in zip(norms, kept, strict=True):
            norm.eval()
            for name, value in values.items():
                setattr(norm, name, value)


def with_both_sets(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state of this model, or of one from when its norms had one set, which is then both."""
    full = dict(state)
    for name, module in model.named_modules():
        for part in _PARTS if isinstance(module, _TwoSets) else ():
            first, second = (
                f"{name}.{kind}_{part}".lstrip(".") for kind in ("running", "unmasked")
            )
            if first in full:
                full.setdefault(second, full[first])
    return full
