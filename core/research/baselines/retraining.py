"""Training again, many models at once, and exact leave-one-out, which all other methods estimate.

    score(z, target) = L(target; θ₋z) − L(target; θ)      in nats

θ₋z is trained from the same start on the same batches without z's row, θ with all rows. Training is
deterministic, so the difference is due to z and not to the seed; still it is the difference of two
whole runs, and a network trained by AdamW magnifies rounding: for heads on 2,000 SST-2 sentences, 5
epochs, the median |score| is .005 nats, and float32 moves scores by .0007 (root mean square). Where
that matters, state the problem in float64. Cost: one training per item.

K models form one stack of parameter vectors `(K, P)`. Their losses are summed, so no model affects
another, and the optimisers (plain SGD, AdamW) work element by element: model k of the stack is the
model that would be trained alone. Model k leaves training item z_k out: the step that meets it
takes 1/|S| · Σ over i ∈ S, i ≠ z_k of ∇l_i. The row's weight is 0 and |S| stays as it was, as in
Hara et al. (2019) and in Koh and Liang's 1/n: so no other item gains weight, the penalty λ keeps
its ratio to the data, the linear methods estimate exactly this, and a batch of z alone needs no
exception. Each stack holds one model that leaves nothing out, so that both losses of a difference
come from the same program.

`plain_classifier` makes the plain model: a K-member model without a mask context is K ordinary
classifiers side by side, and one of them is rebuilt from `nn.Linear` and `nn.Conv2d`, which every
library understands, before or after training. An ensemble's members are such models already.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from turnover.attribution.device import at_least_float32
from turnover.attribution.ensemble import (
    Ensemble,
    MemberConv2d,
    MemberDropout,
    MemberLinear,
    MemberModel,
    Members,
)
from turnover.attribution.masks import derive_seed
from turnover.errors import TurnoverError
from turnover.models.heads import PixelPrefix, VggPrefix
from turnover.research.baselines.base import Baseline, Clock, Problem, Schedule
from turnover.research.baselines.losses import RowLosses
from turnover.storage.progress import Advance
from turnover.training.fit import Split

# One member as a plain model

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


def _dropout(layer: MemberDropout) -> list[nn.Module]:
    return [nn.Dropout(layer.p)] if layer.p else []


def plain_classifier(model: Members, member: int = 0) -> nn.Module:
    """A copy of one member of heads on features or pixels, of a small VGG or of an ensemble, in
    float32 at least.

    Raises:
        TurnoverError: if there is no such member, or the model is of another kind.
    """
    if not 0 <= member < model.members:
        raise TurnoverError(f"the model has members 0 to {model.members - 1}, not {member}")
    if isinstance(model, Ensemble):
        plain = copy.deepcopy(model.models[member])
        for parameter in plain.parameters():
            parameter.data = at_least_float32(parameter.data)
        return plain
    if isinstance(model, MemberModel):
        return nn.Sequential(
            *_prefix(model.prefix, member),
            _linear(model.head.linear_in, member),
            nn.ReLU(),
            *_dropout(model.head.dropout),
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
        first = [nn.Flatten(), _linear(prefix.linear, member), nn.ReLU()]
        return [*first, *_dropout(prefix.dropout)]
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


# Training again

_DIFFERENCE = 1e-2
_DROPOUT = 10
NOTHING = -1
"""In place of a training item's number: leave no item out."""

Watch = Callable[[int, Tensor], object]
"""Called before every step with its number (from 0) and the stack of vectors."""


def check_repeatable(model: nn.Module) -> None:
    """Reject models whose rows depend on each other in training; ordinary dropout is repeated by
    its seed.

    Raises:
        TurnoverError: if the model has batch norm.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
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
    with torch.random.fork_rng():
        for step, rows in enumerate(schedule.batches(len(train.labels))):
            if watch:
                watch(step, stack.detach())
            weights = (rows != left_out).to(stack) / len(rows)
            torch.manual_seed(derive_seed(schedule.seed, schedule.member, _DROPOUT, step))
            losses.model.train()
            loss = (losses.many(stack, train.take(rows)) * weights).sum()
            losses.model.eval()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if not stack.isfinite().all():
        raise TurnoverError(
            f"training diverged with learning rate {schedule.learning_rate:g}; choose a smaller one"
        )
    return stack.detach()


def train_problem(model: nn.Module, train: Split, targets: Split, schedule: Schedule) -> Problem:
    """Train a copy of an untrained model and state the problem; the copy ends in evaluation mode.

    Raises:
        TurnoverError: as `train_stack`.
    """
    losses = RowLosses(model)
    vector = train_stack(losses, losses.vector, train, schedule, torch.tensor([NOTHING]))[0]
    trained = copy.deepcopy(model).eval()
    trained.load_state_dict(losses.named(vector), strict=False)
    initial = {name: value.clone() for name, value in losses.named(losses.vector).items()}
    return Problem(trained, initial, train, targets, schedule)


def check_repeated(problem: Problem, losses: RowLosses, vector: Tensor) -> None:
    """Reject a problem whose model is not the one that its schedule trains.

    Raises:
        TurnoverError: if the targets' losses differ by more than .01 nats in the mean.
    """
    again, given = losses.of(torch.stack((vector, losses.vector)), problem.targets)
    difference = float((again - given).abs().mean())
    if not difference <= _DIFFERENCE:
        raise TurnoverError(
            f"training again gives another model (targets' losses differ by {difference:.2g} nats);"
            " give the schedule and start it was trained with"
        )


# Leave-one-out

_TOGETHER = 25
_STACK_BYTES = 2**29
_COPIES = 5  # weights, gradients, two moments, and one on the way


class Retraining(Baseline):
    """True leave-one-out, some models at once: as many as half a gigabyte holds with their batches,
    25 at the most.
    """

    name, keeps, each = "leave-one-out by retraining", True, True

    def values(
        self, problem: Problem, chosen: Tensor, clock: Clock, progress: Advance
    ) -> tuple[Tensor, int]:
        losses = RowLosses(problem.model)
        start, trained = losses.flat(problem.initial), losses.vector
        values = trained.new_empty((len(problem.targets.labels), len(chosen)))
        fit = min(
            _STACK_BYTES // (_COPIES * trained.nbytes),
            losses.pairs(problem.train.inputs) // problem.schedule.batch,
        )
        for columns in torch.arange(len(chosen)).split(max(1, min(_TOGETHER, fit - 1))):
            left_out = torch.cat((chosen[columns], torch.tensor([NOTHING])))
            with clock.spent("train"):
                stack = train_stack(losses, start, problem.train, problem.schedule, left_out)
            with clock.spent("estimate"):
                check_repeated(problem, losses, stack[-1])
                on_targets = losses.of(stack, problem.targets)
                values[:, columns.to(values.device)] = (on_targets[:-1] - on_targets[-1]).T
            progress(len(columns) / len(chosen))
        return values, len(chosen) * trained.nbytes
