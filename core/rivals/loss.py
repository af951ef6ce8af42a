"""Training loss: an item that the model could not learn is suspected of harm, to every target alike.

    score(z, target) = −l_z(θ)

It costs one forward pass over the training items and knows nothing of the target, so it says what a method must beat that
claims to know more than which items are odd. Turned round, it is the usual way to look for wrong labels.

Scale: nats of the item's own loss, not of the target's; never positive.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from turnover.rivals.base import Clock, Problem, Scores, Told, silent, take
from turnover.rivals.losses import RowLosses


@dataclass(frozen=True)
class TrainingLoss:
    """Minus the item's own training loss."""

    @property
    def name(self) -> str:
        """The method in a few words."""
        return "training loss"

    def scores(self, problem: Problem, instances: Tensor | None = None, progress: Told = silent) -> Scores:
        """Minus the losses of the training items named, the same row for every target."""
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        losses = RowLosses(problem.model, problem.loss)
        with clock.spent("train"):
            own = losses.of(losses.vector[None], take(problem.train, chosen))
        progress(1.0)
        return clock.scores(-own.repeat(len(problem.targets.labels), 1), chosen, stored_bytes=own.nbytes)
