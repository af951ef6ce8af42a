"""The engine: one *backend* per kind of model, each equal to two plain forward passes per pair.

A backend computes the logits of some targets under the masks, and under the flipped masks, of some
training instances. `backend_for` picks the fastest one that a model allows;
`turnover.attribution.influence` turns logits into influences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from turnover.attribution.device import HALF
from turnover.attribution.engine.checked import CheckedBackend, Fast
from turnover.attribution.engine.heads import GroupHeads, SubmatrixHeads
from turnover.attribution.engine.naive import Inputs, NaiveBackend, device_of, row_count
from turnover.attribution.engine.prefix import PrefixBackend
from turnover.attribution.engine.subnetworks import SubnetworkBackend, find_chain
from turnover.attribution.engine.tails import TailBackend, favours_subnetworks
from turnover.attribution.engine.tiling import Backend, Tiling, default_budget
from turnover.attribution.ensemble import Ensemble, MemberModel


class EnsembleBackend:
    """Deep members, one after the other, each with its own backend."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self.backends, self.members = backends, len(backends)

    @property
    def name(self) -> str:
        """How the logits are computed, in words."""
        return self.backends[0].name

    @property
    def tiling(self) -> Tiling:
        """The size of its tiles: the smallest that any member requires."""
        return min(
            (backend.tiling for backend in self.backends),
            key=lambda tiling: tiling.targets * tiling.instances,
        )

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(K, targets, ids, classes)`."""
        halves = [backend.tile(targets, ids) for backend in self.backends]
        masked, flipped = (torch.cat(half) for half in zip(*halves, strict=True))
        return masked, flipped


def backend_for(
    model: nn.Module,
    inputs: Inputs,
    *,
    plain: bool = False,
    dtype: torch.dtype | None = None,
    memory: int | None = None,
) -> Backend:
    """The fastest backend that this model allows; `plain=True` gives the reference backend."""
    memory = memory or default_budget(device_of(model))
    if plain:
        return NaiveBackend(model, inputs, memory, dtype)
    if isinstance(model, Ensemble):
        return EnsembleBackend(
            [backend_for(member, inputs, dtype=dtype, memory=memory) for member in model.models]
        )
    # mask algebra loses precision by cancellation there
    coarse = any(parameter.dtype in HALF for parameter in model.parameters())
    if isinstance(model, MemberModel) and isinstance(inputs, Tensor) and not coarse:
        for heads in (GroupHeads, SubmatrixHeads):
            if heads.fits(model):
                return heads(model, inputs, memory, dtype)
    attempts: list[Callable[[NaiveBackend], Fast]] = [PrefixBackend]
    if row_count(inputs) > 1:  # for code that depends on a target's values
        attempts.append(lambda plain: PrefixBackend(plain, targets=1))
    if isinstance(inputs, Tensor) and len(inputs) and (chain := find_chain(model)):
        with torch.no_grad():
            results = chain.results(inputs[:1].to(device_of(model), copy=True))
        whole = model, chain, inputs, memory, dtype
        if not coarse and favours_subnetworks(chain, results, len(inputs)):
            attempts.insert(0, lambda _: SubnetworkBackend(*whole))
        elif chain.known:
            return TailBackend(*whole, results)
        else:
            attempts.insert(0, lambda _: TailBackend(*whole, results))
    return CheckedBackend(attempts, NaiveBackend(model, inputs, memory, dtype))


def gains_from_targets(model: nn.Module) -> bool:
    """Whether many targets at once cost less for each, since what is computed for an instance
    serves all of them.
    """
    member = model.models[0] if isinstance(model, Ensemble) else model
    return isinstance(member, MemberModel) or find_chain(member) is not None
