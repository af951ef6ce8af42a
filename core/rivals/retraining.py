"""Leave-one-out by retraining: what all other methods estimate.

    score(z, target) = L(target; θ₋z) − L(target; θ)

θ₋z is trained from the same start on the same batches with z's row left out (`turnover.rivals.repeat` says how), θ with all
rows. Training is deterministic, so the difference is z's doing and not the seed's; still it is the difference of two whole
runs, and a net trained by AdamW magnifies rounding: for heads on 2,000 SST-2 sentences, 5 epochs, the median |score| is
.005 nats, and float32 moves scores by .0007 (root mean square). Where that matters, state the problem in float64. Many
models train at once as one stack; each stack holds one model that leaves nothing out, so that both losses of a difference
come from the same program.

Scale: nats, exactly. Cost: one training per item, so name the instances that matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from turnover.rivals.base import Clock, Problem, Scores, Told, silent
from turnover.rivals.losses import RowLosses
from turnover.rivals.repeat import NOTHING, check_repeated, train_stack

_STACK_BYTES = 2**29
_COPIES = 5  # weights, gradients, two moments, and one on the way


@dataclass(frozen=True)
class Retraining:
    """True leave-one-out.

    Attributes:
        together: how many models train at once; by default, as many as half a gigabyte holds with their batches.
    """

    together: int | None = None

    @property
    def name(self) -> str:
        """The method in a few words."""
        return "leave-one-out by retraining"

    def scores(self, problem: Problem, instances: Tensor | None = None, progress: Told = silent) -> Scores:
        """Scores in nats of the training items named (all by default: N trainings).

        Raises:
            TurnoverError: if training cannot be repeated, or gives another model than the problem's.
        """
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        losses = RowLosses(problem.model, problem.loss)
        start, own = losses.flat(problem.initial), losses.vector
        values = own.new_empty((len(problem.targets.labels), len(chosen)))
        fit = min(_STACK_BYTES // (_COPIES * own.nbytes), losses.pairs(problem.train.inputs) // problem.schedule.batch)
        together = self.together or max(1, fit - 1)
        for columns in torch.arange(len(chosen)).split(together):
            left_out = torch.cat((chosen[columns], torch.tensor([NOTHING])))
            with clock.spent("train"):
                stack = train_stack(losses, start, problem.train, problem.schedule, left_out)
            with clock.spent("estimate"):
                check_repeated(problem, losses, stack[-1])
                on_targets = losses.of(stack, problem.targets)
                values[:, columns.to(values.device)] = (on_targets[:-1] - on_targets[-1]).T
            progress(len(columns) / len(chosen))
        return clock.scores(values, chosen, stored_bytes=len(chosen) * own.nbytes)
