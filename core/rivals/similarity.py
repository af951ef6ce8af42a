"""Signed cosine similarity: like training items with the label in question for it, like items with another label against it.

The simplest rival (as in Hanawa et al. 2021): it knows the inputs (for texts, the encoder's features) and the labels, but
not the model. Where all inputs point much the same way, as pixels and text features do, the cosine of most pairs is about the
same, and the *centred* one, of what is left of both without the training items' mean, says more.

Scale: none; a score is a cosine, 1 for the target's own copy, −1 for a copy with another label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from turnover.rivals.base import Clock, Problem, Scores, Told, silent, take


def signed_similarity(target: np.ndarray, features: np.ndarray, labels: np.ndarray, label: int) -> np.ndarray:
    """Scores `(N,)` of training features `(N, D)` with `labels` for one target's features `(D,)` and a label."""
    sizes = np.linalg.norm(features, axis=1) * np.linalg.norm(target)
    cosine: np.ndarray = features @ target / np.maximum(sizes, 1e-12)
    return np.where(labels == label, cosine, -cosine)


@dataclass(frozen=True)
class Similarity:
    """Signed cosine similarity.

    Attributes:
        features: what is compared, `(N, …)` inputs → `(N, D)`; by default the inputs themselves.
        centred: whether the mean of all training items is taken off first.
    """

    features: Callable[[Tensor], Tensor] | None = None
    centred: bool = False

    @property
    def name(self) -> str:
        """The method in a few words."""
        return "signed cosine similarity" + ", centred" * self.centred

    def scores(self, problem: Problem, instances: Tensor | None = None, progress: Told = silent) -> Scores:
        """Cosines of the training items named."""
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        seen, some = self.features or (lambda inputs: inputs), take(problem.train, chosen)
        with clock.spent("train"), torch.no_grad():
            centre = seen(problem.train.inputs).flatten(1).mean(0) if self.centred else 0
            features = (seen(some.inputs).flatten(1) - centre).cpu().numpy()
        with clock.spent("estimate"), torch.no_grad():
            targets, labels = (seen(problem.targets.inputs).flatten(1) - centre).cpu().numpy(), some.labels.cpu().numpy()
            wanted = problem.targets.labels.tolist()
            rows = [signed_similarity(target, features, labels, label) for target, label in zip(targets, wanted, strict=True)]
        progress(1.0)
        kept = features.nbytes if self.features else 0
        return clock.scores(torch.from_numpy(np.stack(rows)).to(problem.targets.labels.device), chosen, kept)
