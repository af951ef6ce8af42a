"""The history of a training: what was measured after each epoch, and what that decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.storage.schema import CURVES

_ITEM_LOSSES = ("masked_items", "flipped_items", "validation_items")
CHANCES = "chances"
LOSSES = (*CURVES, CHANCES)
"""What `member_losses` returns."""
HISTORY = (*_ITEM_LOSSES, "curves", "accuracy")
"""What a checkpoint holds of a history."""


@dataclass
class History:
    """Losses in nats per finished epoch: the mean of each curve, and those of each training and
    validation item.
    """

    curves: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CURVES})
    accuracy: list[float] = field(default_factory=list)
    masked_items: list[np.ndarray] = field(default_factory=list)
    flipped_items: list[np.ndarray] = field(default_factory=list)
    validation_items: list[np.ndarray] = field(default_factory=list)
    keep: str = "learned"
    owned: bool = True

    @classmethod
    def of(cls, recipe: Recipe) -> History:
        """An empty one; where instances own no masks, the losses under masks are NaN."""
        return cls(keep=recipe.keep, owned=recipe.masked and not recipe.fresh)

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go back to what was `saved`."""
        self.curves, self.accuracy = facts["curves"], facts["accuracy"]
        for name in _ITEM_LOSSES:
            setattr(self, name, list(tensors[name].numpy()))

    def saved(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and facts for a checkpoint."""
        items = {name: torch.from_numpy(np.stack(getattr(self, name))) for name in _ITEM_LOSSES}
        return items, {"curves": self.curves, "accuracy": self.accuracy}

    @property
    def epochs(self) -> int:
        return len(self.accuracy)

    @property
    def best(self) -> int:
        """Number (from 0) of the epoch with the lowest validation loss."""
        return int(np.argmin(self.curves["validation"]))

    @property
    def kept(self) -> int:
        """Number (from 0) of the epoch that `Recipe.keep` names; `learned`: the last whose
        validation loss is within one standard error of the best.
        """
        if self.keep != "learned":
            return self.best if self.keep == "best" else self.epochs - 1
        best = self.validation_items[self.best]
        excess = np.stack(self.validation_items) - best
        error = excess.std(1) / np.sqrt(len(best))
        return int(np.flatnonzero(excess.mean(1) <= error)[-1])

    def goes_on(self, recipe: Recipe) -> bool:
        """Whether another epoch is due."""
        return self.epochs < recipe.epochs and (
            recipe.decay or not self.epochs or self.epochs - 1 - self.best < recipe.patience
        )

    def append(self, losses: Mapping[str, Tensor], labels: Tensor) -> None:
        """Append an epoch's `member_losses`, means over members; `labels` are the validation
        items'.

        Raises:
            TurnoverError: if a loss is not finite.
        """
        means = {name: values.mean(0) for name, values in losses.items()}
        for name in CURVES:
            self.curves[name].append(float(means[name].mean()))
        for name in _ITEM_LOSSES:
            getattr(self, name).append(means[name.removesuffix("_items")].cpu().numpy())
        self.accuracy.append(share_right(means[CHANCES], labels))
        known = CURVES if self.owned else ("validation",)
        if not np.isfinite([self.curves[name][-1] for name in known]).all():
            raise TurnoverError(
                f"a loss is not finite after epoch {self.epochs}; check the weights, and the "
                "inputs of both splits, for infinite or missing values"
            )


def share_right(chances: Tensor, labels: Tensor) -> float:
    """Accuracy of probabilities `(C, N)`."""
    return float((chances.argmax(0) == labels).float().mean())
