"""Recipes: how a model is trained. Needs no torch, so pages can show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """How to train: AdamW on cross-entropy, with early stopping on the validation loss.

    With `decay` the learning rate falls to zero in a straight line over the `epochs`, step by step,
    and all of them are run. `masked` trains each row under its instance's mask; with `fresh` under
    a new random one at each step, which is ordinary dropout of the same rate. `augment` shifts and
    mirrors images. `keep` names the epoch that is kept: `learned`, the last one within one standard
    error of the best; `best` itself, for a model that is only meant to be accurate; or `last`, the
    end that a falling rate is planned for.
    """

    epochs: int = 30
    patience: int = 3
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0
    masked: bool = True
    fresh: bool = False
    augment: bool = False
    keep: Literal["learned", "best", "last"] = "learned"
    decay: bool = False

    def rate(self, epoch: float) -> float:
        """The learning rate after this many epochs, which may include a fraction."""
        return self.learning_rate * (1 - epoch / self.epochs) if self.decay else self.learning_rate
