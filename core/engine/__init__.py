"""How influences are computed: one *path* per kind of model, all of them equal to two plain forward passes per pair.

A path answers one question: the logits of some targets under the masks, and under the flipped masks, of some training
instances. `path_for` picks the fastest one that a model allows; `core.influences` turns logits into influences.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from core.engine.heads import HeadPath
from core.engine.plain import Inputs, PlainPath
from core.models.members import MemberModel


class PairPath(Protocol):
    """Logits of (target, training instance) pairs, for one model and one set of targets."""

    name: str
    members: int
    targets_per_tile: int
    instances_per_tile: int

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(K, targets, ids, classes)`."""
        ...


def path_for(model: nn.Module, inputs: Inputs, *, plain: bool = False) -> PairPath:
    """The fastest path that this model allows; `plain=True` asks for the reference."""
    if not plain and isinstance(model, MemberModel) and isinstance(inputs, Tensor) and HeadPath.fits(model):
        return HeadPath(model, inputs)
    return PlainPath(model, inputs)
