"""The backend of chains for few targets or small layers: two passes of what follows the prefix.

A chain (`turnover.attribution.engine.subnetworks`) says where its prefix ends, so nothing need be
recorded: the prefix runs once for some targets together, and its features are repeated for the
instances. Where the prefix, too, consists of modules that treat each row independently, the result
is that of the plain backend by construction, and no check against it is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from turnover.attribution.dropout import TurnoverDropout
from turnover.attribution.engine.naive import (
    autocast,
    device_of,
    masks_of_training,
    most_tail_rows,
    named_masks,
    rows_within,
)
from turnover.attribution.engine.subnetworks import Affine, Chain
from turnover.attribution.engine.tiling import Tiling
from turnover.attribution.scope import MaskScope, ModelMasks, entered

_TARGETS = 64
_UNIT, _LAYER, _CUT = 64, 2**21, 24
"""Multiplications that take as long as an operation on a unit, as the operators of a layer in a
sub-network, and as cutting out a weight (measured on a CPU).
"""


class TailBackend:
    """Two passes of a chain's steps per pair; its prefix once a target. `sample` are the prefix's
    features of one target.
    """

    members = 1
    name = "shared prefix: a chain's once a target, then two passes per pair"

    def __init__(
        self,
        model: nn.Module,
        chain: Chain,
        inputs: Tensor,
        memory: int,
        dtype: torch.dtype | None,
        sample: Tensor,
    ) -> None:
        self.chain, self.inputs, self.device, self.dtype = chain, inputs, device_of(model), dtype
        self.steps, self.expected = nn.Sequential(*chain.steps), _masks(model, inputs)
        rows = rows_within(self.steps, sample, memory, most_tail_rows(self.device))
        targets = max(1, min(_TARGETS, len(inputs), rows))
        self.tiling = Tiling(targets, rows // targets)
        self._prepared: tuple[slice, Tensor] | None = None

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(1, targets, ids, classes)`."""
        known: dict[TurnoverDropout, Tensor] = {}
        with autocast(self.device, self.dtype):
            if self._prepared is None or self._prepared[0] != targets:
                self._prepared = None
                features = self.chain.features(self.inputs[targets].to(self.device, copy=True))
                self._prepared = targets, features
            features = self._prepared[1]
            rows = features.repeat_interleave(len(ids), 0)
            halves = []
            for flipped in (False, True):
                scope = MaskScope(
                    ids, flipped, expected=self.expected, times=len(features), known=known
                )
                with entered(scope):
                    halves.append(self.steps(rows).unflatten(0, (-1, len(ids))).unsqueeze(0))
        masked, flipped_half = halves
        return masked, flipped_half


def favours_subnetworks(chain: Chain, features: Tensor, targets: int) -> bool:
    """Whether so many targets make up for cutting out each instance's sub-networks: these need a
    quarter of the multiplications, but their operators and weights are small and many. `features`
    are the prefix's, of one target.
    """
    x, tail, layers, cut = features, 0, 0, 0
    with torch.no_grad():
        for step in chain.steps:
            x = step(x)
            tail += _UNIT * x.numel()
            if isinstance(step, Affine):
                tail += step.weight.numel() * (x.numel() // x.shape[1])
                layers, cut = layers + 1, cut + step.weight.numel()
    if chain.by_groups and isinstance(first := chain.steps[1], Affine):
        cut -= first.weight.numel()
    return targets * tail >= _LAYER * layers + _CUT * cut


def _masks(model: nn.Module, inputs: Tensor) -> ModelMasks:
    """The masks of a chain, all of which run in training; those that were seen in training, if it
    was in this process.
    """
    names = {layer: name for name, layer in named_masks(model).items()}
    if any(layer.trained_with or layer.trained_outside or layer.layer is None for layer in names):
        return masks_of_training(model, inputs)
    return ModelMasks(frozenset(names), names)
