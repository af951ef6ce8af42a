"""Methods that follow training by gradient descent: TracIn, and influence through the steps of SGD.

`TracIn` (Pruthi et al. 2020). A step of plain SGD on a batch with z lowers a target's loss by about
η/|S| · ⟨∇l_z, ∇L(target)⟩. Summed over checkpoints θ_c, one after every `every` epochs, each
standing for as many visits of z:

    score(z, target) = Σ_c  every · η/|S| · ⟨∇l_z(θ_c), ∇L(target; θ_c)⟩

captum computes the sum: `TracInCP` over all parameters, `TracInCPFast` over the weight of the last
linear layer, without its bias. captum asks its loader for a checkpoint's learning rate; ours gives
every · η/|S|, and takes weights from a `Trail`. Scale: nats for plain SGD, to first order, visit by
visit: what later steps do to z's trace is ignored. For a model trained by AdamW, whose steps have
another length, scores have the right sign and order, but no unit.

`SgdInfluence` (Hara, Nitanda and Maehara 2019). Plain SGD takes T steps θₜ₊₁ = θₜ − η/|Sₜ| · Σ over
i ∈ Sₜ of ∇lᵢ(θₜ) − η λ θₜ. Give z's row the weight w in every batch that holds it: w = 1 is
training as it was, w = 0 leaves z out. The derivative of the trajectory in w is exact and needs one
backward pass per target, from u = ∇L(target; θ_T), with Hₜ the Hessian of the batch's mean loss:

    score(z) += η/|Sₜ| · ⟨∇l_z(θₜ), u⟩   if z ∈ Sₜ,        u ← u − η (Hₜ + λ) u,        t = T−1 … 0

So score(z) = −dL/dw at w = 1, the linear estimate of L(w = 0) − L(w = 1), in nats. Neither
convergence nor convexity is assumed, and there is nothing to damp; but u grows wherever η Hₜ has an
eigenvalue below 0 or above 2, so long training of a rough network makes the estimate large and
wrong. It needs plain SGD: for a model trained by AdamW it trains one of its own from the same
start, and explains that. All θₜ are kept, in memory or in a file: T · P numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from turnover.errors import TurnoverError
from turnover.research.baselines import hessian
from turnover.research.baselines.base import Clock, Problem, Schedule, Scores
from turnover.research.baselines.losses import RowLosses, last_linear
from turnover.research.baselines.retraining import NOTHING, Trail, check_repeated, train_stack
from turnover.storage.progress import Advance, silent
from turnover.training.fit import Split

# TracIn


@dataclass(frozen=True)
class TracIn:
    """Gradient dot products summed over checkpoints, by captum.

    Attributes:
        layers: "last": `TracInCPFast`; "all": `TracInCP`.
        every: epochs from one checkpoint to the next.
        folder: of the file of checkpoints; in memory by default.
    """

    layers: Literal["all", "last"] = "last"
    every: int = 1
    folder: Path | None = None

    @property
    def name(self) -> str:
        """The method in a few words."""
        return f"TracIn, {self.layers} layers (Pruthi et al. 2020)"

    def scores(
        self, problem: Problem, instances: Tensor | None = None, progress: Advance = silent
    ) -> Scores:
        """Scores of the named training items.

        Raises:
            TurnoverError: if training cannot be repeated, or ends before the first checkpoint.
        """
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        losses = RowLosses(problem.model, problem.loss)
        with clock.spent("train"):
            trail = checkpoints(losses, problem, self.every, self.folder)
        progress(0.5)
        with hessian.quietly(problem), clock.spent("estimate"):
            method = self._captum(problem, losses, problem.train.take(chosen), trail)
            values = hessian.influence(
                method, problem.targets, trail.nbytes if self.layers == "all" else 1, progress
            )
        return clock.scores(values, chosen, trail.nbytes)

    def _captum(self, problem: Problem, losses: RowLosses, scored: Split, trail: Trail) -> Any:
        from captum.influence import TracInCP, TracInCPFast

        schedule = problem.schedule
        visit = self.every * schedule.learning_rate / min(schedule.batch, len(problem.train.labels))
        options = hessian.common_options(problem, len(losses.vector))
        options |= {
            "train_dataset": hessian.dataset(scored),
            "checkpoints": iter(range(len(trail))),
        }
        options["checkpoints_load_func"] = loader(losses, trail, visit)
        if self.layers == "all":
            return TracInCP(**options)
        del options["sample_wise_grads_per_batch"], options["layers"]
        options["loss_fn"] = hessian.batch_loss(problem.loss, "sum")
        return TracInCPFast(
            final_fc_layer=options["model"].get_submodule(last_linear(problem.model)), **options
        )


def checkpoints(losses: RowLosses, problem: Problem, every: int, folder: Path | None) -> Trail:
    """Repeat the problem's training, and keep the weights after every `every`-th epoch.

    Raises:
        TurnoverError: as `TracIn.scores`.
    """
    schedule, start = problem.schedule, losses.flat(problem.initial)
    count = schedule.epochs // every
    if not count:
        raise TurnoverError(
            f"training has {schedule.epochs} epochs, so it ends before the first checkpoint; choose"
            " every=1"
        )
    apart = every * (schedule.steps(len(problem.train.labels)) // schedule.epochs)
    trail = Trail(count, start, folder)

    def watch(step: int, stack: Tensor) -> None:
        if step and not step % apart:
            trail.keep(step // apart - 1, stack[0])

    final = train_stack(losses, start, problem.train, schedule, torch.tensor([NOTHING]), watch)[0]
    if not schedule.epochs % every:
        trail.keep(count - 1, final)
    check_repeated(problem, losses, final)
    return trail


def loader(losses: RowLosses, trail: Trail, rate: float) -> Callable[[nn.Module, int], float]:
    """captum's callback that loads a checkpoint's weights into its model; returns the checkpoint's
    rate.
    """

    def load(model: nn.Module, number: int) -> float:
        model.load_state_dict(losses.named(trail[number]), strict=False)
        return rate

    return load


# SGD influence

_NUMBER_BYTES = 8


@dataclass(frozen=True)
class SgdInfluence:
    """Hara et al.'s linear influence estimate.

    Attributes:
        schedule: plain SGD to train by; by default the problem's own, which must be plain SGD then.
        folder: of the file of all steps' weights; in memory by default.
    """

    schedule: Schedule | None = None
    folder: Path | None = None

    @property
    def name(self) -> str:
        """The method in a few words."""
        return "influence through SGD steps (Hara et al. 2019)"

    def scores(
        self, problem: Problem, instances: Tensor | None = None, progress: Advance = silent
    ) -> Scores:
        """Scores in nats of the named training items; a backward pass gives those of all, so a few
        cost as much as all.

        Raises:
            TurnoverError: if there is no plain SGD schedule, or training cannot be repeated.
        """
        schedule = self.schedule or problem.schedule
        if schedule.optimizer != "sgd":
            raise TurnoverError(
                "Hara et al.'s influence needs plain SGD; name a schedule of its own with "
                "Schedule(..., optimizer='sgd')"
            )
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        losses = RowLosses(problem.model, problem.loss)
        start, train = losses.flat(problem.initial), problem.train
        steps = schedule.steps(len(train.labels))
        with clock.spent("train"):
            trail = Trail(steps, start, self.folder)
            final = train_stack(
                losses,
                start,
                train,
                schedule,
                torch.tensor([NOTHING]),
                lambda step, stack: trail.keep(step, stack[0]),
            )[0]
        with clock.spent("estimate"):
            values = _backward(losses, final, trail, problem, schedule, progress)
        order_bytes = schedule.epochs * len(train.labels) * _NUMBER_BYTES
        return clock.scores(values[:, chosen.to(values.device)], chosen, trail.nbytes + order_bytes)


def _backward(
    losses: RowLosses,
    final: Tensor,
    trail: Trail,
    problem: Problem,
    schedule: Schedule,
    progress: Advance,
) -> Tensor:
    """One pass over the steps, last first, for all targets: `(targets, N)`."""
    rate, train = schedule.learning_rate, problem.train
    u = losses.gradients(final, problem.targets)
    values = u.new_zeros((len(u), len(train.labels)))
    batches = list(schedule.batches(len(train.labels)))
    for step in reversed(range(len(batches))):
        rows = batches[step]
        bent, slopes = losses.curved(trail[step], u, train.take(rows))
        values[:, rows.to(values.device)] += slopes * (rate / len(rows))
        u = u - rate * (bent + schedule.penalty * u)
        progress(1 / len(batches))
    return values
