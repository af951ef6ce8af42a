"""Linear influence through the steps of SGD (Hara, Nitanda and Maehara 2019, "Data Cleansing for Models Trained with SGD").

Plain SGD takes T steps θₜ₊₁ = θₜ − η/|Sₜ| · Σ over i ∈ Sₜ of ∇lᵢ(θₜ) − η λ θₜ. Give z's row the weight w in every batch that
holds it: w = 1 is training as it was, w = 0 leaves z out. The derivative of the trajectory in w is exact and needs one
pass backward per target, from u = ∇L(target; θ_T):

    score(z) += η/|Sₜ| · ⟨∇l_z(θₜ), u⟩   if z ∈ Sₜ,        u ← u − η (Hₜ + λ) u,        t = T−1 … 0

with Hₜ the Hessian of the batch's mean loss at θₜ. So score(z) = −dL/dw at w = 1, the linear estimate of
L(w = 0) − L(w = 1). Neither convergence nor convexity is assumed, and there is nothing to damp; but u grows wherever
η Hₜ has an eigenvalue below 0 or above 2, so long training of a rough net makes the estimate large and wrong.

The method knows plain SGD only. For a model trained by AdamW it trains a model of its own from the same start, and
answers for that one. All θₜ are kept, in memory or in a file: T · P numbers.

Scale: nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from turnover.errors import TurnoverError
from turnover.rivals.base import Clock, Problem, Schedule, Scores, Told, silent, take
from turnover.rivals.losses import RowLosses
from turnover.rivals.repeat import NOTHING, Trail, train_stack

_NUMBER_BYTES = 8


@dataclass(frozen=True)
class SgdInfluence:
    """Hara et al.'s linear influence estimate.

    Attributes:
        schedule: plain SGD to train by; by default the problem's own, which must be plain SGD then.
        folder: where the weights of all steps are kept as a file; in memory if not named.
    """

    schedule: Schedule | None = None
    folder: Path | None = None

    @property
    def name(self) -> str:
        """The method in a few words."""
        return "influence through SGD steps (Hara et al. 2019)"

    def scores(self, problem: Problem, instances: Tensor | None = None, progress: Told = silent) -> Scores:
        """Scores in nats of the training items named; a pass backward gives those of all, so a few cost as much as all.

        Raises:
            TurnoverError: if there is no plain SGD schedule, or training cannot be repeated.
        """
        schedule = self.schedule or problem.schedule
        if schedule.optimizer != "sgd":
            raise TurnoverError("Hara et al.'s influence needs plain SGD; name a schedule of its own with Schedule(..., optimizer='sgd')")
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        losses = RowLosses(problem.model, problem.loss)
        start, train = losses.flat(problem.initial), problem.train
        steps = schedule.steps(len(train.labels))
        with clock.spent("train"):
            trail = Trail(steps, start, self.folder)
            final = train_stack(losses, start, train, schedule, torch.tensor([NOTHING]), lambda step, stack: trail.keep(step, stack[0]))[0]
        with clock.spent("estimate"):
            values = _backward(losses, final, trail, problem, schedule, progress)
        order_bytes = schedule.epochs * len(train.labels) * _NUMBER_BYTES
        return clock.scores(values[:, chosen.to(values.device)], chosen, trail.nbytes + order_bytes)


def _backward(losses: RowLosses, final: Tensor, trail: Trail, problem: Problem, schedule: Schedule, progress: Told) -> Tensor:
    """One pass over the steps, last first, for all targets: `(targets, N)`."""
    rate, train = schedule.learning_rate, problem.train
    u = losses.gradients(final, problem.targets)
    values = u.new_zeros((len(u), len(train.labels)))
    batches = list(schedule.batches(len(train.labels)))
    for step in reversed(range(len(batches))):
        rows = batches[step]
        bent, slopes = losses.curved(trail[step], u, take(train, rows))
        values[:, rows.to(values.device)] += slopes * (rate / len(rows))
        u = u - rate * (bent + schedule.penalty * u)
        progress(1 / len(batches))
    return values
