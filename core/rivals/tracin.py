"""TracIn (Pruthi et al. 2020, "Estimating Training Data Influence by Tracing Gradient Descent").

A step of plain SGD on a batch with z lowers a target's loss by about η/|S| · ⟨∇l_z, ∇L(target)⟩. Summed over checkpoints θ_c
on the way of training, one after every `every` epochs, each standing for as many visits of z:

    score(z, target) = Σ_c  every · η/|S| · ⟨∇l_z(θ_c), ∇L(target; θ_c)⟩

captum computes the sum: `TracInCP` over all parameters, `TracInCPFast` over the weight of the last linear layer, whose bias
it leaves out. captum's sign is ours (proponents are positive), and its loader is asked for a checkpoint's learning rate,
where ours gives every · η/|S|. captum's own loader reads files with `torch.load`; ours takes weights from a `Trail`, in memory or a
plain array file.

Scale: nats for plain SGD, to first order, for z's visits one by one: what later steps do to z's trace is left out. AdamW
takes steps of another length, so that scores of a model trained by it have the right sign and order, but no unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from turnover.errors import TurnoverError
from turnover.rivals import through_captum
from turnover.rivals.base import Clock, Problem, Scores, Told, silent, take
from turnover.rivals.losses import RowLosses, last_linear
from turnover.rivals.repeat import NOTHING, Trail, check_repeated, train_stack
from turnover.training import Split


@dataclass(frozen=True)
class TracIn:
    """Gradient dot products summed over checkpoints, by captum.

    Attributes:
        layers: "last": `TracInCPFast`; "all": `TracInCP`.
        every: epochs from one checkpoint to the next.
        folder: where the checkpoints are kept as a file; in memory if not named.
    """

    layers: Literal["all", "last"] = "last"
    every: int = 1
    folder: Path | None = None

    @property
    def name(self) -> str:
        """The method in a few words."""
        return f"TracIn, {self.layers} layers (Pruthi et al. 2020)"

    def scores(self, problem: Problem, instances: Tensor | None = None, progress: Told = silent) -> Scores:
        """Scores of the training items named.

        Raises:
            TurnoverError: if training cannot be repeated, or ends before the first checkpoint.
        """
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        losses = RowLosses(problem.model, problem.loss)
        with clock.spent("train"):
            trail = checkpoints(losses, problem, self.every, self.folder)
        progress(0.5)
        with through_captum.quietly(problem), clock.spent("estimate"):
            method = self._captum(problem, losses, take(problem.train, chosen), trail)
            values = through_captum.influence(method, problem.targets, trail.nbytes if self.layers == "all" else 1, progress)
        return clock.scores(values, chosen, trail.nbytes)

    def _captum(self, problem: Problem, losses: RowLosses, some: Split, trail: Trail) -> Any:
        from captum.influence import TracInCP, TracInCPFast

        schedule = problem.schedule
        visit = self.every * schedule.learning_rate / min(schedule.batch, len(problem.train.labels))
        options = through_captum.common_options(problem, len(losses.vector))
        options |= {"train_dataset": through_captum.dataset(some), "checkpoints": iter(range(len(trail)))}
        options["checkpoints_load_func"] = loader(losses, trail, visit)
        if self.layers == "all":
            return TracInCP(**options)
        del options["sample_wise_grads_per_batch"], options["layers"]
        options["loss_fn"] = through_captum.batch_loss(problem.loss, "sum")
        return TracInCPFast(final_fc_layer=options["model"].get_submodule(last_linear(problem.model)), **options)


def checkpoints(losses: RowLosses, problem: Problem, every: int, folder: Path | None) -> Trail:
    """Train as the problem's model was trained, and keep the weights after every `every`-th epoch.

    Raises:
        TurnoverError: as `TracIn.scores`.
    """
    schedule, start = problem.schedule, losses.flat(problem.initial)
    count = schedule.epochs // every
    if not count:
        raise TurnoverError(f"training has {schedule.epochs} epochs, so it ends before the first checkpoint; choose every=1")
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
    """What captum calls to put a checkpoint's weights into its model; gives the checkpoint's rate."""

    def load(model: nn.Module, number: int) -> float:
        model.load_state_dict(losses.named(trail[number]), strict=False)
        return rate

    return load
