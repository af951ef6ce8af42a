"""What baselines stand on: problems, training again, and derivatives of the loss.

The other tests of baselines take their problems from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import hessian, jacrev

from tests.helpers.builders import randn, shaken, some_labels
from turnover.attribution.device import row_bytes
from turnover.attribution.dropout import TurnoverDropout
from turnover.attribution.ensemble import Ensemble
from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.models.heads import small_vgg, turnover_heads
from turnover.research.baselines.base import Problem, Schedule, cross_entropy
from turnover.research.baselines.losses import RowLosses, parameter_names
from turnover.research.baselines.retraining import (
    NOTHING,
    plain_classifier,
    train_problem,
    train_stack,
)
from turnover.training.fit import Split, fit

CONVEX = Schedule(600, 1000, learning_rate=0.6, weight_decay=0.1, optimizer="sgd")
"""Plain gradient descent that reaches the minimum of a small convex problem to about 1e-12."""
SHORT_SGD = Schedule(4, 7, learning_rate=0.2, weight_decay=0.01, seed=3, optimizer="sgd")
SHORT_ADAMW = Schedule(3, 7, learning_rate=0.01, weight_decay=0.1, seed=3)
PLAIN_LAYERS = (nn.Sequential, nn.Linear, nn.Conv2d, nn.ReLU, nn.Tanh, nn.MaxPool2d, nn.Flatten)


def check_close(made: Tensor, known: Tensor, tolerance: float = 1e-12) -> None:
    """Equal but for an absolute difference."""
    torch.testing.assert_close(made, known, rtol=0, atol=tolerance)


def squared_error(predictions: Tensor, labels: Tensor) -> Tensor:
    """Half the squared error of one output, a row at a time."""
    return (predictions[:, 0] - labels).square() / 2


def linear(width: int = 4, classes: int = 3, *, bias: bool = True, seed: int = 0) -> nn.Module:
    """A linear classifier in float64."""
    torch.manual_seed(seed)
    return nn.Linear(width, classes, bias=bias, dtype=torch.float64)


def net(width: int = 4, hidden: int = 6, classes: int = 3, seed: int = 0) -> nn.Module:
    """A smooth two-layer classifier in float64."""
    torch.manual_seed(seed)
    layers = nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, classes)
    return nn.Sequential(*layers).double()


def some_split(rows: int, width: int = 4, classes: int = 3, seed: int = 0) -> Split:
    """Inputs with labels that can be learned in part."""
    inputs, noise = randn(rows, width, seed=seed), some_labels(rows, classes, seed)
    signal = inputs[:, :classes].argmax(1)
    return Split(inputs, torch.where(torch.arange(rows) % 4 == 0, noise, signal))


def convex_problem(rows: int = 24) -> Problem:
    """Logistic regression with a penalty, trained to the minimum."""
    return train_problem(linear(), some_split(rows), some_split(5, seed=1), CONVEX)


def net_problem(
    schedule: Schedule = SHORT_SGD,
    rows: int = 24,
    targets: int = 5,
    model: nn.Module | None = None,
) -> Problem:
    """A small net after a few epochs."""
    return train_problem(model or net(), some_split(rows), some_split(targets, seed=1), schedule)


def ridge(inputs: Tensor, labels: Tensor, rows: int, penalty: float) -> Tensor:
    """Weights that minimise Σ (x·w − y)²/2 / rows + penalty/2 · |w|²."""
    eye = torch.eye(inputs.shape[1], dtype=inputs.dtype)
    return torch.linalg.solve(inputs.T @ inputs / rows + penalty * eye, inputs.T @ labels / rows)


def plain_loop(
    model: nn.Module,
    train: Split,
    schedule: Schedule,
    without: int = NOTHING,
    weight: float = 0.0,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> dict[str, Tensor]:
    """Training as anyone would write it with torch.optim; item `without` has another weight."""
    sgd = partial(torch.optim.SGD, momentum=schedule.momentum)
    kind = {"sgd": sgd, "adamw": torch.optim.AdamW}[schedule.optimizer]
    rate, decay = schedule.learning_rate, schedule.weight_decay
    optimizer = kind(model.parameters(), lr=rate, weight_decay=decay)
    for rows in schedule.batches(len(train.labels)):
        weights = torch.ones(len(rows), dtype=torch.float64).masked_fill(rows == without, weight)
        losses = loss(model(train.inputs[rows]), train.labels[rows])
        optimizer.zero_grad()
        ((losses * weights).sum() / len(rows)).backward()
        optimizer.step()
    return {name: value.detach() for name, value in model.named_parameters()}


# Training again


@pytest.mark.parametrize("schedule", [SHORT_SGD, SHORT_ADAMW])
def test_a_problem_is_trained_like_a_plain_loop(schedule: Schedule) -> None:
    model = net()
    problem = net_problem(schedule, model=model)
    by_hand = plain_loop(net(), problem.train, schedule)
    for name, value in problem.model.named_parameters():
        check_close(value.detach(), by_hand[name])
    for name, value in model.named_parameters():
        assert torch.equal(problem.initial[name], value), "the untrained model is left as it was"
    assert not problem.model.training


@pytest.mark.parametrize("member", [0, 2])
def test_a_schedule_repeats_the_run_s_own_training(member: int) -> None:
    """A plain twin by `fit` and the member cut out and trained here are the same model."""
    recipe = Recipe(3, 99, 8, learning_rate=3e-3, weight_decay=0.5, seed=4, masked=False)
    train, validation = some_split(30, 16, 3), some_split(9, 16, 3, seed=1)
    twin = shaken(turnover_heads((16,), 3, members=3, groups=None, seed=4), 0).double()
    start = plain_classifier(twin, member)
    schedule = Schedule.of(recipe, fit(twin, train, validation, recipe).kept + 1, member)
    problem = train_problem(start, train, validation, schedule)
    made, known = problem.model(validation.inputs), twin(validation.inputs)[member]
    check_close(made, known, 1e-10)


def test_members_cut_out_compute_what_they_did() -> None:
    features, images = randn(5, 16), randn(5, 1, 8, 8)
    heads = shaken(turnover_heads((16,), 3, members=2, groups=4, seed=1), 1).double()
    vgg = shaken(small_vgg((1, 8, 8), 10, members=2, groups=4, seed=1), 1).double()
    deep = Ensemble([net(16), net(16, seed=1)], 3, [])
    state = torch.get_rng_state()
    for model, inputs in ((heads, features), (vgg, images), (deep, features)):
        for member in range(2):
            plain = plain_classifier(model, member)
            check_close(plain(inputs), model(inputs)[member])
            assert {type(module) for module in plain.modules()} <= set(PLAIN_LAYERS)
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(TurnoverError, match="members 0 to 1, not 2"):
        plain_classifier(heads, 2)
    heads.prefix = nn.ReLU()
    with pytest.raises(TurnoverError, match="prefix that is a ReLU"):
        plain_classifier(heads)


def test_a_stack_trains_each_model_as_if_alone() -> None:
    train, losses = some_split(24), RowLosses(net())
    left_out = torch.tensor([3, NOTHING, 11, 3])

    def trained(items: Tensor) -> Tensor:
        return train_stack(losses, losses.vector, train, SHORT_ADAMW, items)

    together = trained(left_out)
    check_close(together, torch.cat([trained(item) for item in left_out.split(1)]), 1e-13)
    assert torch.equal(together[0], together[3]) and not torch.equal(together[0], together[1])


# Derivatives


Limits = dict[str, int]
PASSES: list[Limits] = [{"_DIRECTIONS": 2, "_PAIRS": 10}, {"_PASS_BYTES": 1, "_GRADIENT_BYTES": 1}]


@pytest.mark.parametrize("limits", [{}, *PASSES, {"_PAIRS": 70}], ids=str)
def test_derivatives_are_those_written_out(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one pass, or in parts of any size."""
    for name, value in limits.items():
        monkeypatch.setattr(f"turnover.research.baselines.losses.{name}", value)
    problem = net_problem()
    losses, split = RowLosses(problem.model), problem.train
    vector, directions = losses.vector, randn(3 if limits else 20, len(losses.vector))
    full = hessian(lambda point: losses(point, split).mean())(vector)
    jacobian = jacrev(lambda point: losses(point, split))(vector)
    check_close(losses.hessian(vector, directions, split), directions @ full)
    check_close(losses.along(vector, directions, split), directions @ jacobian.T)
    check_close(losses.gradients(vector, split), jacobian)
    bent, slopes = losses.curved(vector, directions, split)
    check_close(bent, directions @ full)
    check_close(slopes, directions @ jacobian.T)
    known = cross_entropy(problem.model(split.inputs), split.labels)
    check_close(losses.of(vector[None], split)[0], known)


def test_layers_are_named() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)), nn.Softmax(1))
    last = ["2.0.weight", "2.0.bias"]
    assert parameter_names(model, "all") == ["0.weight", "0.bias", *last]
    assert parameter_names(model, "last") == last
    model[0].requires_grad_(False)
    assert parameter_names(model, "all") == last


def test_the_memory_of_a_row_is_what_the_layers_put_out() -> None:
    model = nn.Sequential(nn.Linear(300, 5, bias=False), nn.ReLU(), nn.Linear(5, 2)).double()
    assert row_bytes(model, randn(7, 300)) == 8 * (5 + 5 + 2 + 2), "weights do not count"
    assert not any(module._forward_hooks for module in model.modules())
    assert RowLosses(model).pairs(randn(7, 300)) == 8192
    huge, inputs = nn.Linear(1, 2**26, device="meta"), torch.zeros(1, 1, device="meta")
    assert RowLosses(huge).pairs(inputs) == 1


# Refused


def around(layer: nn.Module) -> Problem:
    """A problem whose model has this layer."""
    layers = nn.Linear(4, 6), layer, nn.Linear(6, 3)
    return net_problem(model=nn.Sequential(*layers).double())


def chosen(*numbers: int) -> Tensor:
    """Training items of a problem, asked for by number."""
    return net_problem().chosen(torch.tensor(numbers))


def two_members() -> Problem:
    """A problem of two members at once."""
    return replace(net_problem(), model=turnover_heads((8,), 2, members=2, groups=None, seed=0))


BAD: dict[str, Callable[[], object]] = {
    "BatchNorm1d.*cannot be repeated": lambda: around(nn.BatchNorm1d(6)),
    r"rate 1e\+300": lambda: net_problem(replace(SHORT_SGD, learning_rate=1e300)),
    "not 2 members": two_members,
    "numbered 0 to 23; 24 to 24": lambda: chosen(24),
    "numbered 0 to 23; -1 to 2": lambda: chosen(-1, 2),
    "no training items": lambda: chosen(),
    "'adam' is not known": lambda: Schedule(1, optimizer="adam"),  # type: ignore[arg-type]
    "augmentation": lambda: Schedule.of(Recipe(augment=True), 1),
    "learning rate falls": lambda: Schedule.of(Recipe(decay=True), 1),
    "no linear layer": lambda: parameter_names(nn.Conv2d(1, 1, 1), "last"),
    "no parameter": lambda: parameter_names(net().requires_grad_(False), "all"),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_trained_again_or_asked_for_is_one_line(message: str) -> None:
    with pytest.raises(TurnoverError, match=message) as caught:
        BAD[message]()
    assert "\n" not in str(caught.value)


def test_layers_that_do_nothing_in_training_are_no_hindrance() -> None:
    """Without a mask context, a turn-over layer is nothing."""
    idle = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.0), TurnoverDropout(6), nn.Linear(6, 3))
    assert net_problem(model=idle.double()).model(randn(2, 4)).isfinite().all()
    assert (SHORT_SGD.penalty, SHORT_ADAMW.penalty) == (0.01, 0.0)
    assert SHORT_SGD.steps(24) == len(list(SHORT_SGD.batches(24))) == 16
