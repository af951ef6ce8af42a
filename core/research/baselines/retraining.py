"""Leave-one-out by retraining: what all other methods estimate.

    score(z, target) = L(target; θ₋z) − L(target; θ)

θ₋z is trained from the same start on the same batches with z's row left out
(`turnover.research.baselines.retraining` says how), θ with all rows. Training is deterministic, so
the difference is z's doing and not the seed's; still it is the difference of two whole runs, and a
net trained by AdamW magnifies rounding: for heads on 2,000 SST-2 sentences, 5 epochs, the median
|score| is .005 nats, and float32 moves scores by .0007 (root mean square). Where that matters,
state the problem in float64. Many models train at once as one stack; each stack holds one model
that leaves nothing out, so that both losses of a difference come from the same program.

Scale: nats, exactly. Cost: one training per item, so name the instances that matter.

One member of a run as a plain model: ordinary layers, no masks, logits `(B, C)`.

A K-member model without a mask context is K ordinary classifiers side by side. Baselines are given
one of them, made of `nn.Linear` and `nn.Conv2d`, which every library understands. It is cut out
before training (to be trained by `turnover.research.baselines.retraining`) or after. The members of
an ensemble are such models already.

Training again, many models at once: the same start, the same batches, here and there an item left
out.

K models lie in one stack of parameter vectors `(K, P)`. Their losses are summed, so no model feels
another, and the optimisers (plain SGD, AdamW) work element by element: model k of the stack is the
model that would be trained alone.

Model k leaves training item z_k out: the step that meets it takes 1/|S| · Σ over i ∈ S, i ≠ z_k of
∇l_i. The row's weight is 0 and |S| stays as it was, as in Hara et al. (2019) and in Koh and Liang's
1/n: so no other item gains weight, the penalty λ keeps its ratio to the data, the linear methods
estimate exactly this, and a batch of z alone needs no exception.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from turnover.attribution.device import at_least_float32
from turnover.attribution.ensemble import Ensemble, MemberConv2d, MemberLinear, MemberModel, Members
from turnover.errors import TurnoverError
from turnover.models.heads import PixelPrefix, VggPrefix
from turnover.research.baselines.base import (
    Clock,
    Problem,
    RowLoss,
    Schedule,
    Scores,
    Told,
    cross_entropy,
    silent,
    take,
)
from turnover.research.baselines.losses import RowLosses
from turnover.training.fit import Split

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def _linear(layer: MemberLinear, member: int) -> nn.Linear:
    weight, bias = layer.weight.detach()[member], layer.bias.detach()[member, 0]
    return _filled(nn.Linear(weight.shape[0], weight.shape[1], device="meta"), weight.T, bias)


def _convolution(layer: MemberConv2d, member: int) -> nn.Conv2d:
    weight, bias = layer.weight.detach()[member], layer.bias.detach()[member]
    return _filled(
        nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, device="meta"), weight, bias
    )


def _filled(layer: Layer, weight: Tensor, bias: Tensor) -> Layer:
    layer.weight, layer.bias = (
        nn.Parameter(weight.clone(memory_format=torch.contiguous_format)),
        nn.Parameter(bias.clone()),
    )
    return layer


def plain_classifier(model: Members, member: int = 0) -> nn.Module:
    """A copy of one member of heads on features or pixels, of a small VGG or of an ensemble, in
    float32 at least.

    Raises:
        TurnoverError: if there is no such member, or the model is of another kind.
    """
    if not 0 <= member < model.members:
        raise TurnoverError(f"the model has members 0 to {model.members - 1}, not {member}")
    if isinstance(model, Ensemble):
        own = copy.deepcopy(model.models[member])
        for parameter in own.parameters():
            parameter.data = at_least_float32(parameter.data)
        return own
    if isinstance(model, MemberModel):
        return nn.Sequential(
            *_prefix(model.prefix, member),
            _linear(model.head.linear_in, member),
            nn.ReLU(),
            _linear(model.head.linear_out, member),
        )
    raise TurnoverError(
        f"members of a {type(model).__name__} cannot be cut out; build the plain model by hand"
    )


def _prefix(prefix: nn.Module, member: int) -> list[nn.Module]:
    """The layers before the head."""
    if isinstance(prefix, nn.Identity):
        return []
    if isinstance(prefix, PixelPrefix):
        return [nn.Flatten(), _linear(prefix.linear, member), nn.ReLU()]
    if isinstance(prefix, VggPrefix):
        layers = [
            _convolution(layer, member) if isinstance(layer, MemberConv2d) else copy.deepcopy(layer)
            for layer in prefix.layers
        ]
        return [*layers, nn.Flatten()]
    raise TurnoverError(
        f"a prefix that is a {type(prefix).__name__} cannot be cut out; build the plain model by "
        "hand"
    )


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
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or (
            isinstance(module, nn.modules.dropout._DropoutNd) and module.p
        ):
            raise TurnoverError(
                f"layer {name!r} ({type(module).__name__}) makes training depend on more than "
                "weights and batches; it cannot be repeated"
            )


def train_stack(
    losses: RowLosses,
    start: Tensor,
    train: Split,
    schedule: Schedule,
    left_out: Tensor,
    watch: Watch | None = None,
) -> Tensor:
    """Train K models from `start` `(P,)`, model k without item `left_out[k]`, and return their
    vectors `(K, P)`.

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
        raise TurnoverError(
            f"training diverged with learning rate {schedule.learning_rate:g}; choose a smaller one"
        )
    return stack.detach()


def train_problem(
    model: nn.Module,
    train: Split,
    targets: Split,
    schedule: Schedule,
    loss: RowLoss = cross_entropy,
) -> Problem:
    """Train a copy of an untrained model, and state the problem; the copy is left in evaluation
    mode.

    Raises:
        TurnoverError: as `train_stack`.
    """
    losses = RowLosses(model, loss)
    vector = train_stack(losses, losses.vector, train, schedule, torch.tensor([NOTHING]))[0]
    trained = copy.deepcopy(model).eval()
    trained.load_state_dict(losses.named(vector), strict=False)
    initial = {name: value.clone() for name, value in losses.named(losses.vector).items()}
    return Problem(trained, initial, train, targets, schedule, loss)


def check_repeated(
    problem: Problem, losses: RowLosses, vector: Tensor, tolerance: float = 1e-2
) -> None:
    """Refuse a problem whose model is not the one that its schedule trains.

    Raises:
        TurnoverError: if the targets' losses differ by more than `tolerance` nats in the mean.
    """
    again, given = losses.of(torch.stack((vector, losses.vector)), problem.targets)
    difference = float((again - given).abs().mean())
    if not difference <= tolerance:
        raise TurnoverError(
            f"training again gives another model (targets' losses differ by {difference:.2g} nats);"
            " give the schedule and start it was trained with"
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
            self._rows = np.lib.format.open_memmap(
                folder / "trail.npy", mode="w+", dtype=kind, shape=shape
            )
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


_STACK_BYTES = 2**29
_COPIES = 5  # weights, gradients, two moments, and one on the way


@dataclass(frozen=True)
class Retraining:
    """True leave-one-out.

    Attributes:
        together: how many models train at once; by default, as many as half a gigabyte holds with
            their batches.
    """

    together: int | None = None

    @property
    def name(self) -> str:
        """The method in a few words."""
        return "leave-one-out by retraining"

    def scores(
        self, problem: Problem, instances: Tensor | None = None, progress: Told = silent
    ) -> Scores:
        """Scores in nats of the training items named (all by default: N trainings).

        Raises:
            TurnoverError: if training cannot be repeated, or gives another model than the
                problem's.
        """
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        losses = RowLosses(problem.model, problem.loss)
        start, own = losses.flat(problem.initial), losses.vector
        values = own.new_empty((len(problem.targets.labels), len(chosen)))
        fit = min(
            _STACK_BYTES // (_COPIES * own.nbytes),
            losses.pairs(problem.train.inputs) // problem.schedule.batch,
        )
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
