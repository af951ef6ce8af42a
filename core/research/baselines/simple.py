"""Baselines that need no gradients: similarity, training loss, random scores.

`Similarity`, signed cosine similarity (as in Hanawa et al. 2021): training items with the target's
label count for it, items with another label against it. It knows the inputs (for texts, the
encoder's features) and the labels, but not the model. Where all inputs point in much the same
direction, as pixels and text features do, most cosines are about equal, and the *centred* cosine,
without the training items' mean, says more. No scale: 1 for the target's own copy, −1 for a copy
with another label.

`TrainingLoss`: an item that the model could not learn is suspected of harm, to every target alike.

    score(z, target) = −l_z(θ)

It costs one forward pass over the training items and ignores the target, so any method that claims
more than finding odd items must beat it. Negated, it is the usual way to look for label errors.
Scale: nats of the item's own loss, not of the target's; never positive.

`RandomScores`: what any method must beat; the control for removal by score. Standard normal
numbers, a function of the seed, the number of targets and the number of training items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from turnover.research.baselines.base import Clock, Problem, Scores
from turnover.research.baselines.losses import RowLosses
from turnover.storage.progress import Advance, silent


def signed_similarity(
    target: np.ndarray, features: np.ndarray, labels: np.ndarray, label: int
) -> np.ndarray:
    """Scores `(N,)` of training features `(N, D)` with `labels` for one target's features `(D,)`
    and a label.
    """
    sizes = np.linalg.norm(features, axis=1) * np.linalg.norm(target)
    cosine: np.ndarray = features @ target / np.maximum(sizes, 1e-12)
    return np.where(labels == label, cosine, -cosine)


@dataclass(frozen=True)
class Similarity:
    """Signed cosine similarity.

    Attributes:
        features: what is compared, `(N, …)` inputs → `(N, D)`; by default the inputs themselves.
        centred: whether the mean of all training items is subtracted first.
    """

    features: Callable[[Tensor], Tensor] | None = None
    centred: bool = False

    @property
    def name(self) -> str:
        """The method in a few words."""
        return "signed cosine similarity" + ", centred" * self.centred

    def scores(
        self, problem: Problem, instances: Tensor | None = None, progress: Advance = silent
    ) -> Scores:
        """Cosines of the named training items."""
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        read, scored = self.features or (lambda inputs: inputs), problem.train.take(chosen)
        with clock.spent("train"), torch.no_grad():
            centre = read(problem.train.inputs).flatten(1).mean(0) if self.centred else 0
            features = (read(scored.inputs).flatten(1) - centre).cpu().numpy()
        with clock.spent("estimate"), torch.no_grad():
            targets, labels = (
                (read(problem.targets.inputs).flatten(1) - centre).cpu().numpy(),
                scored.labels.cpu().numpy(),
            )
            wanted = problem.targets.labels.tolist()
            rows = [
                signed_similarity(target, features, labels, label)
                for target, label in zip(targets, wanted, strict=True)
            ]
        progress(1.0)
        stored_bytes = features.nbytes if self.features else 0
        return clock.scores(
            torch.from_numpy(np.stack(rows)).to(problem.targets.labels.device), chosen, stored_bytes
        )


@dataclass(frozen=True)
class TrainingLoss:
    """Minus the item's own training loss."""

    @property
    def name(self) -> str:
        """The method in a few words."""
        return "training loss"

    def scores(
        self, problem: Problem, instances: Tensor | None = None, progress: Advance = silent
    ) -> Scores:
        """Minus the losses of the named training items, the same row for every target."""
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        losses = RowLosses(problem.model, problem.loss)
        with clock.spent("train"):
            values = losses.of(losses.vector[None], problem.train.take(chosen))
        progress(1.0)
        return clock.scores(
            -values.repeat(len(problem.targets.labels), 1), chosen, stored_bytes=values.nbytes
        )


@dataclass(frozen=True)
class RandomScores:
    """Seeded normal numbers."""

    seed: int = 0

    @property
    def name(self) -> str:
        """The method in a few words."""
        return "random"

    def scores(
        self, problem: Problem, instances: Tensor | None = None, progress: Advance = silent
    ) -> Scores:
        """Numbers for the named training items, the same as when scoring all."""
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        with clock.spent("estimate"):
            random = torch.Generator().manual_seed(self.seed)
            values = torch.randn(
                len(problem.targets.labels), len(problem.train.labels), generator=random
            )[:, chosen]
        progress(1.0)
        return clock.scores(values.to(problem.targets.labels.device), chosen, stored_bytes=0)
