"""The interface of every baseline: the problem it is given, and the scores it returns.

A `Problem` is one plain model, trained without turn-over dropout, with everything that a method may
need: the weights before training, the training items, the targets and the `Schedule` of training.
So a method can train again (retraining), follow the training (Hara et al., TracIn) or differentiate
the loss (Koh and Liang). A target is an input with a label; its loss is what is explained.

A `Baseline` turns a problem into `Scores`, with their cost. **Positive = the training item lowers
the target's loss** (a proponent). Where a method has a scale, a score is in nats of loss: about
L(target; trained without z) − L(target; trained with z), where "without z" always means that z's
row has weight 0 in its batches and nothing else changes
(`turnover.research.baselines.retraining`).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from turnover.attribution.device import synchronize
from turnover.attribution.engine.naive import device_of
from turnover.attribution.ensemble import Members
from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.storage.progress import Advance, silent
from turnover.training.fit import Split, batches, epoch_order

REFUSALS = (TurnoverError, RuntimeError, MemoryError)
"""How a method rejects a model: ours in words, torch by its own errors."""

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy `(B,)` in nats of logits `(B, C)` and labels `(B,)`."""
    return nn.functional.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True)
class Schedule:
    """How a plain model was trained: the optimiser, and batches that depend only on (seed, member,
    epoch).

    Attributes:
        momentum: of SGD.
        weight_decay: of AdamW, its decoupled decay; of plain SGD, λ of the penalty λ/2 · |θ|² on
            all parameters.
        member: which member of a run has these batches.
    """

    epochs: int
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    seed: int = 0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    member: int = 0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if self.optimizer not in _OPTIMIZERS:
            raise TurnoverError(
                f"optimizer {self.optimizer!r} is not known; choose one of {', '.join(_OPTIMIZERS)}"
            )

    @classmethod
    def of(cls, recipe: Recipe, epochs: int, member: int = 0) -> Schedule:
        """A run's recipe for so many epochs (the epoch that the run kept).

        Raises:
            TurnoverError: if the recipe augments images or decays its learning rate, which no
                baseline can repeat.
        """
        if recipe.augment:
            raise TurnoverError(
                "a recipe with augmentation cannot be repeated image by image; train the plain "
                "model without it"
            )
        if recipe.decay:
            raise TurnoverError(
                "a recipe whose learning rate falls cannot be repeated by methods that know one "
                "rate; train the plain model without it"
            )
        return cls(
            epochs,
            recipe.batch,
            recipe.learning_rate,
            recipe.weight_decay,
            recipe.seed,
            "adamw" if recipe.momentum is None else "sgd",
            member,
            recipe.momentum or 0.0,
        )

    def batches(self, rows: int) -> Iterator[Tensor]:
        """Row numbers of every step's batch, in order."""
        for epoch in range(self.epochs):
            yield from batches(epoch_order(rows, self.seed, self.member, epoch), self.batch)

    def steps(self, rows: int) -> int:
        """How many steps training takes."""
        return self.epochs * len(batches(torch.arange(rows), self.batch))

    def build(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """A new optimiser; fused, since otherwise its passes over many models' weights cost as much
        as their gradients.
        """
        options = {"momentum": self.momentum} if self.optimizer == "sgd" else {}
        return _OPTIMIZERS[self.optimizer](
            parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=True, **options
        )

    @property
    def penalty(self) -> float:
        """λ of the loss that training lowers, mean loss + λ/2 · |θ|²: AdamW's decoupled decay
        belongs to no such loss.
        """
        return self.weight_decay if self.optimizer == "sgd" else 0.0


@dataclass(frozen=True)
class Problem:
    """One plain trained model and its data.

    Attributes:
        model: `(B, …)` → logits `(B, C)`, trained without turn-over dropout. No baseline changes
            it.
        initial: its trainable parameters before training, by name.
        train: the training items; an item's number is its index here.
        targets: inputs, each with the label whose loss is meant.
        schedule: how it was trained.

    Raises:
        TurnoverError: if the model has several members.
    """

    model: nn.Module
    initial: Mapping[str, Tensor]
    train: Split
    targets: Split
    schedule: Schedule

    def __post_init__(self) -> None:
        if isinstance(self.model, Members):
            raise TurnoverError(
                f"a baseline takes one plain model, not {self.model.members} members; cut one out "
                "with turnover.research.baselines.retraining.plain_classifier"
            )

    def chosen(self, instances: Tensor | None) -> Tensor:
        """Numbers of the requested training items, on the CPU; all by default.

        Raises:
            TurnoverError: if a number is out of range, or the selection is empty.
        """
        rows = len(self.train.labels)
        numbers = (
            torch.arange(rows) if instances is None else instances.detach().cpu().to(torch.int64)
        )
        if not len(numbers):
            raise TurnoverError(
                "no training items are named; name one or more, or leave the choice out for all"
            )
        if int(numbers.min()) < 0 or int(numbers.max()) >= rows:
            raise TurnoverError(
                f"training items are numbered 0 to {rows - 1}; {int(numbers.min())} to "
                f"{int(numbers.max())} were asked for"
            )
        return numbers


@dataclass(frozen=True)
class Scores:
    """A baseline's scores and their cost.

    Attributes:
        values: `(targets, instances)`; positive = the training item lowers the target's loss.
        instances: number of the training item of each column.
        stored_bytes: kept beside the model and the data, to explain another target.
        train_seconds: spent once for all targets: retraining, checkpoints, decompositions.
        estimate_seconds: spent on these targets.
    """

    values: Tensor
    instances: Tensor
    stored_bytes: int
    train_seconds: float
    estimate_seconds: float


class Clock:
    """A baseline's seconds by phase."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, {"train": 0.0, "estimate": 0.0}

    def _now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def spent(self, phase: Literal["train", "estimate"]) -> Iterator[None]:
        """Time inside counts as this phase."""
        begun = self._now()
        yield
        self.seconds[phase] += self._now() - begun


class Baseline(ABC):
    """A method that scores training items.

    Attributes:
        asks: whether it starts from the problem's trained model, whose training is then part of its
            cost.
        keeps: whether it needs that model again to explain another target.
        each: whether its cost is per training item, so that a few of them give the cost of all.
    """

    asks, keeps, each = False, False, False

    @property
    @abstractmethod
    def name(self) -> str:
        """The method in a few words, with its source."""

    def scores(
        self, problem: Problem, instances: Tensor | None = None, progress: Advance = silent
    ) -> Scores:
        """Scores of the training items named (all by default) on every target; `progress` is
        called with the share of the work just finished, and the shares add up to 1.

        Raises:
            TurnoverError: if the method cannot treat this problem; the message gives the reason.
        """
        chosen, clock = problem.chosen(instances), Clock(device_of(problem.model))
        values, stored_bytes = self.values(problem, chosen, clock, progress)
        return Scores(
            values, chosen, stored_bytes, clock.seconds["train"], clock.seconds["estimate"]
        )

    @abstractmethod
    def values(
        self, problem: Problem, chosen: Tensor, clock: Clock, progress: Advance
    ) -> tuple[Tensor, int]:
        """`Scores.values` of the `chosen` items and `Scores.stored_bytes`; the clock takes the
        seconds.
        """
