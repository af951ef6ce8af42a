"""Training again, many models at once: the same start, the same batches, here and there an item left out.

K models lie in one stack of parameter vectors `(K, P)`. Their losses are summed, so no model feels another, and the
optimisers (plain SGD, AdamW) work element by element: model k of the stack is the model that would be trained alone.

Model k leaves training item z_k out: the step that meets it takes 1/|S| · Σ over i ∈ S, i ≠ z_k of ∇l_i. The row's weight is
0 and |S| stays as it was, as in Hara et al. (2019) and in Koh and Liang's 1/n: so no other item gains weight, the
penalty λ keeps its ratio to the data, the linear methods estimate exactly this, and a batch of z alone needs no exception.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from turnover.errors import TurnoverError
from turnover.rivals.base import Problem, RowLoss, Schedule, cross_entropy, take
from turnover.rivals.losses import RowLosses
from turnover.training import Split

NOTHING = -1
"""In place of a training item's number: no item is left out."""

Watch = Callable[[int, Tensor], object]
"""What is called before every step with its number (from 0) and the stack of vectors."""


def check_repeatable(model: nn.Module) -> None:
    """Refuse models for which training mode means more than gradients.

    Raises:
        TurnoverError: if the model has ordinary dropout or batch norm.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or (isinstance(module, nn.modules.dropout._DropoutNd) and module.p):
            raise TurnoverError(f"layer {name!r} ({type(module).__name__}) makes training depend on more than weights and batches; it cannot be repeated")


def train_stack(losses: RowLosses, start: Tensor, train: Split, schedule: Schedule, left_out: Tensor, watch: Watch | None = None) -> Tensor:
    """Train K models from `start` `(P,)`, model k without item `left_out[k]`, and return their vectors `(K, P)`.

    Raises:
        TurnoverError: if training cannot be repeated, or diverges.
    """
    check_repeatable(losses.model)
    stack = nn.Parameter(start.repeat(len(left_out), 1))
    optimizer = schedule.build([stack])
    left_out = left_out[:, None]
    for step, rows in enumerate(schedule.batches(len(train.labels))):
        if watch:
            watch(step, stack.detach())
        weights = (rows != left_out).to(stack) / len(rows)
        loss = (losses.many(stack, take(train, rows)) * weights).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if not stack.isfinite().all():
        raise TurnoverError(f"training diverged with learning rate {schedule.learning_rate:g}; choose a smaller one")
    return stack.detach()


def train_problem(model: nn.Module, train: Split, targets: Split, schedule: Schedule, loss: RowLoss = cross_entropy) -> Problem:
    """Train a copy of an untrained model, and state the problem; the copy is left in evaluation mode.

    Raises:
        TurnoverError: as `train_stack`.
    """
    losses = RowLosses(model, loss)
    vector = train_stack(losses, losses.vector, train, schedule, torch.tensor([NOTHING]))[0]
    trained = copy.deepcopy(model).eval()
    trained.load_state_dict(losses.named(vector), strict=False)
    initial = {name: value.clone() for name, value in losses.named(losses.vector).items()}
    return Problem(trained, initial, train, targets, schedule, loss)


def check_repeated(problem: Problem, losses: RowLosses, vector: Tensor, tolerance: float = 1e-2) -> None:
    """Refuse a problem whose model is not the one that its schedule trains.

    Raises:
        TurnoverError: if the targets' losses differ by more than `tolerance` nats in the mean.
    """
    again, given = losses.of(torch.stack((vector, losses.vector)), problem.targets)
    difference = float((again - given).abs().mean())
    if not difference <= tolerance:
        raise TurnoverError(
            f"training again gives another model (targets' losses differ by {difference:.2g} nats); give the schedule and start it was trained with"
        )


class Trail:
    """Parameter vectors on the way of training, in memory or in one plain array file.

    Attributes:
        nbytes: what they take.
    """

    def __init__(self, count: int, like: Tensor, folder: Path | None = None) -> None:
        shape, kind = (count, len(like)), torch.empty(0, dtype=like.dtype).numpy().dtype
        if folder is None:
            self._rows = np.empty(shape, kind)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._rows = np.lib.format.open_memmap(folder / "trail.npy", mode="w+", dtype=kind, shape=shape)
        self._device = like.device
        self.nbytes = int(self._rows.nbytes)

    def __len__(self) -> int:
        return len(self._rows)

    def keep(self, number: int, vector: Tensor) -> None:
        """Put down the vector with this number."""
        self._rows[number] = vector.cpu().numpy()

    def __getitem__(self, number: int) -> Tensor:
        """The vector with this number, on the device that it came from."""
        return torch.from_numpy(self._rows[number].copy()).to(self._device)
