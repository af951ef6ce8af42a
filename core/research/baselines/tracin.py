"""Methods that follow training by gradient descent: TracIn, and influence through the steps of SGD.

`TracIn` (Pruthi et al. 2020). A step of plain SGD on a batch with z lowers a target's loss by about
η/|S| · ⟨∇l_z, ∇L(target)⟩. Summed over checkpoints θ_c, one after every epoch:

    score(z, target) = Σ_c  η/|S| · ⟨∇l_z(θ_c), ∇L(target; θ_c)⟩

over all parameters, or over the weight of the last linear layer, without its bias. Scale: nats for
plain SGD, to first order, visit by visit: what later steps do to z's trace is ignored. For a model
trained by AdamW, whose steps have another length, scores have the right sign and order, but no
unit.

`SgdInfluence` (Hara, Nitanda and Maehara 2019). Plain SGD takes T steps θₜ₊₁ = θₜ − η/|Sₜ| · Σ over
i ∈ Sₜ of ∇lᵢ(θₜ) − η λ θₜ. Give z's row the weight w in every batch that holds it: w = 1 is
training as it was, w = 0 leaves z out. The derivative of the trajectory in w is exact and needs one
backward pass per target, from u = ∇L(target; θ_T), with Hₜ the Hessian of the batch's mean loss:

    score(z) += η/|Sₜ| · ⟨∇l_z(θₜ), u⟩   if z ∈ Sₜ,        u ← u − η (Hₜ + λ) u,        t = T−1 … 0

So score(z) = −dL/dw at w = 1, the linear estimate of L(w = 0) − L(w = 1), in nats. Neither
convergence nor convexity is assumed, and there is nothing to damp; but u grows wherever η Hₜ has an
eigenvalue below 0 or above 2, so long training of a rough network makes the estimate large and
wrong. It needs plain SGD: for a model trained by AdamW it trains one of its own from the same
start, and explains that. All θₜ are kept in memory: T · P numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from turnover.errors import TurnoverError
from turnover.research.baselines.base import Baseline, Clock, Problem, Schedule
from turnover.research.baselines.losses import RowLosses, parameter_names
from turnover.research.baselines.retraining import NOTHING, check_repeated, train_stack
from turnover.storage.progress import Advance

_BYTES = 2**28


@dataclass(frozen=True)
class TracIn(Baseline):
    """Gradient dot products summed over checkpoints: over "all" layers, or the "last" linear one's
    weight.
    """

    layers: Literal["all", "last"] = "last"

    @property
    def name(self) -> str:
        return f"TracIn, {self.layers} layers (Pruthi et al. 2020)"

    def values(
        self, problem: Problem, chosen: Tensor, clock: Clock, progress: Advance
    ) -> tuple[Tensor, int]:
        losses, schedule = RowLosses(problem.model), problem.schedule
        rows, targets = len(problem.train.labels), problem.targets
        scored, names = problem.train.take(chosen), losses.names
        if self.layers == "last":
            names = tuple(
                name for name in parameter_names(problem.model, "last") if name.endswith("weight")
            )
        with clock.spent("train"):
            _, *checkpoints = trail(
                losses, problem, schedule, schedule.steps(rows) // schedule.epochs
            )
            check_repeated(problem, losses, checkpoints[-1].to(losses.vector))
        progress(0.5)
        products = RowLosses(problem.model, names)
        total = torch.zeros(len(targets.labels), len(chosen)).to(losses.vector)
        with clock.spent("estimate"):
            for checkpoint in checkpoints:
                weights = losses.named(checkpoint.to(losses.vector))
                products.model.load_state_dict(weights, strict=False)
                vector = products.flat(weights)
                on_targets = products.gradients(vector, targets)
                for columns in torch.arange(len(chosen)).split(max(1, _BYTES // vector.nbytes)):
                    on_items = products.gradients(vector, scored.take(columns))
                    total[:, columns.to(total.device)] += on_targets @ on_items.T
                progress(0.5 / len(checkpoints))
        total *= schedule.learning_rate / min(schedule.batch, rows)
        return total, sum(checkpoint.nbytes for checkpoint in checkpoints)


def trail(losses: RowLosses, problem: Problem, schedule: Schedule, apart: int = 1) -> list[Tensor]:
    """The weights `(P,)` before every `apart`-th step of training again, then those at its end, in
    the CPU's memory.

    Raises:
        TurnoverError: if training cannot be repeated, or diverges.
    """
    kept: list[Tensor] = []

    def keep(step: int, stack: Tensor) -> None:
        if not step % apart:
            kept.append(stack[0].cpu().clone())

    start, everything = losses.flat(problem.initial), torch.tensor([NOTHING])
    final = train_stack(losses, start, problem.train, schedule, everything, keep)[0]
    return [*kept, final.cpu()]


_NUMBER_BYTES = 8


@dataclass(frozen=True)
class SgdInfluence(Baseline):
    """Hara et al.'s linear influence estimate; a backward pass gives the scores of all items, so a
    few cost as much.

    Attributes:
        schedule: plain SGD to train by where the problem's own is not.
    """

    schedule: Schedule | None = None
    name, keeps = "influence through SGD steps (Hara et al. 2019)", True

    def values(
        self, problem: Problem, chosen: Tensor, clock: Clock, progress: Advance
    ) -> tuple[Tensor, int]:
        schedule = problem.schedule
        if schedule.optimizer != "sgd" or schedule.momentum:
            if self.schedule is None:
                raise TurnoverError(
                    "Hara et al.'s influence needs plain SGD; name a schedule of its own with "
                    "Schedule(..., optimizer='sgd')"
                )
            schedule = self.schedule
        losses, train = RowLosses(problem.model), problem.train
        batches = list(schedule.batches(len(train.labels)))
        with clock.spent("train"):
            *steps, final = trail(losses, problem, schedule)
        with clock.spent("estimate"):
            u = losses.gradients(final.to(losses.vector), problem.targets)
            values = u.new_zeros((len(u), len(train.labels)))
            for weights, rows in zip(reversed(steps), reversed(batches), strict=True):
                bent, slopes = losses.curved(weights.to(u), u, train.take(rows))
                values[:, rows.to(u.device)] += slopes * (schedule.learning_rate / len(rows))
                u = u - schedule.learning_rate * (bent + schedule.penalty * u)
                progress(1 / len(batches))
        order_bytes = schedule.epochs * len(train.labels) * _NUMBER_BYTES
        return values[:, chosen.to(u.device)], sum(step.nbytes for step in steps) + order_bytes
