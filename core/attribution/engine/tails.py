"""The backend of chains for few targets or small layers: two passes of what follows the prefix.

A chain (`turnover.attribution.engine.subnetworks`) says where its prefix ends, so nothing need be
recorded: the prefix runs once for some targets together, and its features are repeated for the
instances. Where the prefix, too, consists of modules that treat each row independently, the result
is that of the plain backend by construction, and no check against it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from turnover.attribution.engine.naive import (
    autocast,
    bits_of_halves,
    device_of,
    masks_of_training,
    most_tail_rows,
    named_masks,
    number_masks,
    rows_of,
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
    """A chain's steps for both halves of each pair; its prefix once a target. `results` are those
    of the chain for one target.
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
        results: Sequence[Tensor],
    ) -> None:
        self.chain, self.inputs, self.device, self.dtype = chain, inputs, device_of(model), dtype
        self.steps, self.expected = nn.Sequential(*chain.steps), _masks(model, inputs)
        with torch.no_grad():
            number_masks(model, inputs)
        largest = max(result.nbytes for result in results)
        rows = rows_of(largest, memory, most_tail_rows(self.device), self.device)
        targets = max(1, min(_TARGETS, len(inputs), rows // 2))
        self.tiling = Tiling(targets, max(1, rows // (2 * targets)))
        self._prepared: tuple[slice, Tensor] | None = None
        if len(inputs) == 1 and dtype is None:
            self._prepared = slice(0, 1), results[0]

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(1, targets, ids, classes)`."""
        known, twice = bits_of_halves(self.expected.names, ids.to(self.device)), ids.repeat(2)
        with autocast(self.device, self.dtype):
            if self._prepared is None or self._prepared[0] != targets:
                self._prepared = None
                features = self.chain.features(self.inputs[targets].to(self.device, copy=True))
                self._prepared = targets, features
            features = self._prepared[1]
            rows = features.repeat_interleave(len(twice), 0)
            scope = MaskScope(
                twice, False, expected=self.expected, times=len(features), known=known
            )
            with entered(scope):
                logits = self.steps(rows).unflatten(0, (-1, len(twice)))
        masked, flipped = logits.unsqueeze(0).chunk(2, 2)
        return masked, flipped


def favours_subnetworks(chain: Chain, results: Sequence[Tensor], targets: int) -> bool:
    """Whether so many targets make up for cutting out each instance's sub-networks: these need a
    quarter of the multiplications, but their operators and weights are small and many. `results`
    are those of the chain for one target.
    """
    tail, layers, cut = 0, 0, 0
    for step, x in zip(chain.steps, results[1:], strict=True):
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
