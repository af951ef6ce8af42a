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
numbers, a function of the number of targets and the number of training items.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from turnover.research.baselines.base import Baseline, Clock, Problem
from turnover.research.baselines.losses import RowLosses
from turnover.storage.progress import Advance


def signed_similarity(
    targets: np.ndarray, wanted: np.ndarray, features: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Scores `(T, N)` of training features `(N, D)` with `labels` for the targets' features
    `(T, D)` with the labels `wanted`.
    """
    lengths = np.linalg.norm(features, axis=1)
    cosines = np.stack(
        [
            features @ target / np.maximum(lengths * np.linalg.norm(target), 1e-12)
            for target in targets
        ]
    )
    return np.where(labels == wanted[:, None], cosines, -cosines)


def signed_bm25(
    targets: Iterable[str], wanted: np.ndarray, texts: Iterable[str], labels: np.ndarray
) -> np.ndarray:
    """Scores `(T, N)` of training texts with `labels` for the targets' texts with the labels
    `wanted`: Okapi BM25 (Robertson and Zaragoza 2009), negative for texts with another label.
    """
    import bm25s  # an extra

    queries, words = (
        bm25s.tokenize([*some], return_ids=False, show_progress=False) for some in (targets, texts)
    )
    index = bm25s.BM25()
    index.index(words, show_progress=False)
    values = np.stack([index.get_scores(query) for query in queries])
    return np.where(labels == wanted[:, None], values, -values)


@dataclass(frozen=True)
class Similarity(Baseline):
    """Signed cosine similarity of inputs; `centred`: the mean of all training items is subtracted
    first.
    """

    centred: bool = False

    @property
    def name(self) -> str:
        return "signed cosine similarity" + ", centred" * self.centred

    def values(
        self, problem: Problem, chosen: Tensor, clock: Clock, progress: Advance
    ) -> tuple[Tensor, int]:
        train, targets = problem.train.take(chosen), problem.targets
        with clock.spent("estimate"):
            centre = problem.train.inputs.flatten(1).mean(0) if self.centred else 0
            values = signed_similarity(
                (targets.inputs.flatten(1) - centre).cpu().numpy(),
                targets.labels.cpu().numpy(),
                (train.inputs.flatten(1) - centre).cpu().numpy(),
                train.labels.cpu().numpy(),
            )
        progress(1.0)
        return torch.from_numpy(values).to(targets.labels.device), 0


class TrainingLoss(Baseline):
    """Minus the item's own training loss, the same row for every target."""

    name, asks = "training loss", True

    def values(
        self, problem: Problem, chosen: Tensor, clock: Clock, progress: Advance
    ) -> tuple[Tensor, int]:
        losses = RowLosses(problem.model)
        with clock.spent("train"):
            values = losses.of(losses.vector[None], problem.train.take(chosen))
        progress(1.0)
        return -values.repeat(len(problem.targets.labels), 1), values.nbytes


class RandomScores(Baseline):
    """Normal numbers, the same for some training items as when scoring all."""

    name = "random"

    def values(
        self, problem: Problem, chosen: Tensor, clock: Clock, progress: Advance
    ) -> tuple[Tensor, int]:
        size = (len(problem.targets.labels), len(problem.train.labels))
        with clock.spent("estimate"):
            values = torch.randn(size, generator=torch.Generator().manual_seed(0))[:, chosen]
        progress(1.0)
        return values.to(problem.targets.labels.device), 0
