"""Masked encoder: a text encoder that is trained and masked as a whole, for comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnover.data.recipe import Recipe
from turnover.models.family import Masked, OnEncoder

if TYPE_CHECKING:
    from torch import nn

    from turnover.models.registry import TrainSettings


@dataclass(frozen=True)
class MaskedEncoder(OnEncoder, Masked):
    """See `MaskedClassifier` in `turnover.models.adapters`."""

    name = "masked-encoder"
    deep = True
    recipe = Recipe(epochs=8, patience=2, learning_rate=5e-5, batch=32)

    def member(
        self, settings: TrainSettings, classes: int, shape: tuple[int, ...], seed: int
    ) -> nn.Module:
        from turnover.models.adapters import TokenRows, masked_everywhere

        groups = self.groups or None
        return TokenRows(masked_everywhere(self.encoder, classes, groups=groups, seed=seed))
