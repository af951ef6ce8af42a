"""Random scores: what any method must beat, and removal at random must stand beside removal by score.

Scale: none; standard normal numbers, a function of the seed, the number of targets and the number of training items.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from turnover.rivals.base import Clock, Problem, Scores, Told, silent


@dataclass(frozen=True)
class RandomScores:
    """Seeded normal numbers."""

    seed: int = 0

    @property
    def name(self) -> str:
        """The method in a few words."""
        return "random"

    def scores(self, problem: Problem, instances: Tensor | None = None, progress: Told = silent) -> Scores:
        """Numbers for the training items named: the same ones that they get among all."""
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        with clock.spent("estimate"):
            random = torch.Generator().manual_seed(self.seed)
            values = torch.randn(len(problem.targets.labels), len(problem.train.labels), generator=random)[:, chosen]
        progress(1.0)
        return clock.scores(values.to(problem.targets.labels.device), chosen, stored_bytes=0)
