"""Classifiers of transformers that were trained without masks, and are fine-tuned under them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnover.data.recipe import Recipe
from turnover.models.family import FROM_LAYER, Masked, OnEncoder
from turnover.models.options import option

if TYPE_CHECKING:
    from torch import nn

    from turnover.models.registry import TrainSettings


@dataclass(frozen=True)
class Checkpoint(OnEncoder, Masked):
    """The classifier in a folder, with its own head and masks from a layer on."""

    name = "checkpoint"
    title = "a trained classifier of transformers"
    deep = True
    needs_trial = True
    trained_before = True
    recipe = Recipe(epochs=8, patience=2, learning_rate=1e-3, batch=32)
    from_layer: str | None = option(**FROM_LAYER)

    def member(
        self, settings: TrainSettings, classes: int, shape: tuple[int, ...], seed: int
    ) -> nn.Module:
        from turnover.models.checkpoint import TextCheckpoint

        return TextCheckpoint(
            self.encoder, self.from_layer, classes, seed=seed, **self.mask_options
        )
