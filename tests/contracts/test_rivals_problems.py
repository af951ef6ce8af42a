"""What rivals stand on: problems, training again, and derivatives of the loss. The other tests of rivals take their problems from here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import hessian

from core.dropout import TurnoverDropout
from core.errors import TurnoverError
from core.models.ensemble import Ensemble
from core.models.text import text_heads
from core.models.vision import small_vgg
from core.recipe import Recipe
from core.rivals.base import Problem, Schedule, cross_entropy
from core.rivals.losses import RowLosses, parameter_names, row_bytes
from core.rivals.plain import plain_classifier
from core.rivals.repeat import NOTHING, Trail, train_problem, train_stack
from core.training import Split, fit
from tests.helpers.builders import randn, shaken, some_labels

CONVEX = Schedule(epochs=600, batch=1000, learning_rate=0.6, weight_decay=0.1, optimizer="sgd")
"""Plain gradient descent that reaches the minimum of a small convex problem to about 1e-12."""
SHORT_SGD = Schedule(epochs=4, batch=7, learning_rate=0.2, weight_decay=0.01, seed=3, optimizer="sgd")
SHORT_ADAMW = Schedule(epochs=3, batch=7, learning_rate=0.01, weight_decay=0.1, seed=3)


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
    return nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, classes)).double()


def some_split(rows: int, width: int = 4, classes: int = 3, seed: int = 0) -> Split:
    """Inputs with labels that can be learned in part."""
    inputs = randn(rows, width, seed=seed)
    signal = inputs[:, :classes].argmax(1)
    return Split(inputs, torch.where(torch.arange(rows) % 4 == 0, some_labels(rows, classes, seed), signal))


def convex_problem(rows: int = 24, targets: int = 5, **changes: Any) -> Problem:
    """Logistic regression with a penalty, trained to the minimum."""
    return train_problem(linear(), some_split(rows), some_split(targets, seed=1), replace(CONVEX, **changes))


def net_problem(schedule: Schedule = SHORT_SGD, rows: int = 24, targets: int = 5, model: nn.Module | None = None) -> Problem:
    """A small net after a few epochs."""
    return train_problem(model or net(), some_split(rows), some_split(targets, seed=1), schedule)


def plain_loop(
    model: nn.Module,
    train: Split,
    schedule: Schedule,
    without: int = NOTHING,
    weight: float = 0.0,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> dict[str, Tensor]:
    """Training as anyone would write it with torch.optim, where item `without` has another weight; the parameters by name."""
    made = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[schedule.optimizer]
    optimizer = made(model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    for rows in schedule.batches(len(train.labels)):
        weights = torch.ones(len(rows), dtype=torch.float64).masked_fill(rows == without, weight)
        batch_loss = (loss(model(train.inputs[rows]), train.labels[rows]) * weights).sum() / len(rows)
        optimizer.zero_grad()
        batch_loss.backward()
        optimizer.step()
    return {name: value.detach() for name, value in model.named_parameters()}


def same(parameters: dict[str, Tensor], model: nn.Module, tolerance: float) -> bool:
    """Whether the model has these parameters."""
    return all(torch.allclose(parameters[name], value, rtol=0, atol=tolerance) for name, value in model.named_parameters())


@pytest.mark.parametrize("schedule", [SHORT_SGD, SHORT_ADAMW])
def test_a_problem_is_trained_like_a_plain_loop(schedule: Schedule) -> None:
    model = net()
    problem = net_problem(schedule, model=model)
    assert same(dict(problem.initial), model, 0), "the untrained model is left as it was"
    assert same(plain_loop(net(), problem.train, schedule), problem.model, 1e-12)
    assert not problem.model.training


@pytest.mark.parametrize("member", [0, 2])
def test_a_schedule_repeats_the_run_s_own_training(member: int) -> None:
    """A plain twin by `fit` and the member cut out and trained here are the same model: same start, batches and optimiser."""
    recipe = Recipe(epochs=3, patience=99, batch=8, learning_rate=3e-3, weight_decay=0.5, seed=4, masked=False)
    train, validation = some_split(30, 16, 3), some_split(9, 16, 3, seed=1)
    twin = shaken(text_heads(16, 3, members=3, groups=None, seed=4), 0).double()
    problem = train_problem(plain_classifier(twin, member), train, validation, Schedule.of(recipe, 3, member))
    history = fit(twin, train, validation, recipe)
    schedule = Schedule.of(recipe, history.kept + 1, member)
    problem = replace(problem, schedule=schedule) if history.kept == 2 else train_problem(_initial(problem), train, validation, schedule)
    torch.testing.assert_close(problem.model(validation.inputs), twin(validation.inputs)[member], rtol=0, atol=1e-10)


def _initial(problem: Problem) -> nn.Module:
    problem.model.load_state_dict(dict(problem.initial))
    return problem.model


def test_members_cut_out_compute_what_they_did() -> None:
    features, images = randn(5, 16), randn(5, 1, 8, 8)
    heads = shaken(text_heads(16, 3, members=2, groups=4, seed=1), 1).double()
    vgg = shaken(small_vgg((1, 8, 8), 10, members=2, groups=4, seed=1), 1).double()
    deep = Ensemble([net(16), net(16, seed=1)], 3, [])
    state = torch.get_rng_state()
    for model, inputs in ((heads, features), (vgg, images), (deep, features)):
        for member in range(2):
            plain = plain_classifier(model, member)
            torch.testing.assert_close(plain(inputs), model(inputs)[member], rtol=0, atol=1e-12)
            assert {type(module) for module in plain.modules()} <= {nn.Sequential, nn.Linear, nn.Conv2d, nn.ReLU, nn.Tanh, nn.MaxPool2d, nn.Flatten}
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(TurnoverError, match="members 0 to 1, not 2"):
        plain_classifier(heads, 2)
    heads.prefix = nn.ReLU()
    with pytest.raises(TurnoverError, match="prefix that is a ReLU"):
        plain_classifier(heads)


def test_a_stack_trains_each_model_as_if_alone() -> None:
    problem = net_problem(SHORT_ADAMW)
    losses = RowLosses(net(), cross_entropy)
    left_out = torch.tensor([3, NOTHING, 11, 3])
    together = train_stack(losses, losses.vector, problem.train, SHORT_ADAMW, left_out)
    alone = torch.cat([train_stack(losses, losses.vector, problem.train, SHORT_ADAMW, left_out[k : k + 1]) for k in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-13)
    assert torch.equal(together[0], together[3]) and not torch.equal(together[0], together[1])


def test_derivatives_are_those_of_the_written_out_loss() -> None:
    problem = net_problem()
    losses = RowLosses(problem.model, cross_entropy)
    split = problem.train
    directions = randn(20, len(losses.vector))
    full = hessian(lambda vector: losses(vector, split).mean())(losses.vector)
    jacobian = torch.func.jacrev(lambda vector: losses(vector, split))(losses.vector)
    torch.testing.assert_close(losses.hessian(losses.vector, directions, split), directions @ full, rtol=0, atol=1e-12)
    torch.testing.assert_close(losses.along(losses.vector, directions, split), directions @ jacobian.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(losses.gradients(losses.vector, split), jacobian, rtol=0, atol=1e-12)
    bent, slopes = losses.curved(losses.vector, directions, split)
    torch.testing.assert_close(bent, directions @ full, rtol=0, atol=1e-12)
    torch.testing.assert_close(slopes, directions @ jacobian.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(losses.of(losses.vector[None], split)[0], cross_entropy(problem.model(split.inputs), split.labels), rtol=0, atol=1e-12)


@pytest.mark.parametrize("limits", [{"_DIRECTIONS": 2, "_PAIRS": 10}, {"_PASS_BYTES": 1, "_GRADIENT_BYTES": 1}, {"_PAIRS": 70}])
def test_many_rows_are_taken_in_parts(limits: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    problem = net_problem()
    directions = randn(3, 51)

    def derivatives() -> list[Tensor]:
        losses = RowLosses(problem.model, cross_entropy)
        vector, split = losses.vector, problem.train
        made = losses.hessian(vector, directions, split), losses.along(vector, directions, split), losses.of(vector[None], split)
        return [*made, losses.gradients(vector, split), *losses.curved(vector, directions, split)]

    expected = derivatives()
    for name, value in limits.items():
        monkeypatch.setattr(f"core.rivals.losses.{name}", value)
    for made, known in zip(derivatives(), expected, strict=True):
        torch.testing.assert_close(made, known, rtol=0, atol=1e-13)


def test_layers_are_named() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)), nn.Softmax(1))
    assert parameter_names(model, "all") == ["0.weight", "0.bias", "2.0.weight", "2.0.bias"]
    assert parameter_names(model, "last") == ["2.0.weight", "2.0.bias"]
    model[0].requires_grad_(False)
    assert parameter_names(model, "all") == ["2.0.weight", "2.0.bias"]
    with pytest.raises(TurnoverError, match="'first' is not known"):
        parameter_names(model, "first")
    with pytest.raises(TurnoverError, match="no linear layer"):
        parameter_names(nn.Conv2d(1, 1, 1), "last")
    with pytest.raises(TurnoverError, match="no parameter"):
        parameter_names(model.requires_grad_(False), "all")


def test_a_trail_in_memory_and_in_a_file(tmp_path: Path) -> None:
    rows = randn(3, 5)
    for trail in (Trail(3, rows[0]), Trail(3, rows[0], tmp_path / "new")):
        for number in (2, 0, 1):
            trail.keep(number, rows[number])
        assert len(trail) == 3 and trail.nbytes == 3 * 5 * 8
        assert torch.equal(torch.stack([trail[number] for number in range(3)]), rows)
    assert [path.name for path in tmp_path.rglob("*.npy")] == ["trail.npy"]


def test_models_that_cannot_be_repeated_are_refused() -> None:
    for layer in (nn.Dropout(0.5), nn.BatchNorm1d(6)):
        with pytest.raises(TurnoverError, match="cannot be repeated"):
            net_problem(model=nn.Sequential(nn.Linear(4, 6), layer, nn.Linear(6, 3)).double())
    idle = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.0), TurnoverDropout(6), nn.Linear(6, 3)).double()
    assert net_problem(model=idle).model(randn(2, 4)).isfinite().all(), "without a mask context, a turn-over layer is nothing"
    with pytest.raises(TurnoverError, match=r"diverged with learning rate 1e\+300"):
        net_problem(replace(SHORT_SGD, learning_rate=1e300))


def test_bad_problems_are_one_line() -> None:
    problem = net_problem()
    with pytest.raises(TurnoverError, match="not 2 members"):
        replace(problem, model=text_heads(8, 2, members=2, groups=None, seed=0))
    for numbers, message in (([24], "numbered 0 to 23"), ([-1, 2], "numbered 0 to 23"), ([], "no training items")):
        with pytest.raises(TurnoverError, match=message):
            problem.chosen(torch.tensor(numbers))
    with pytest.raises(TurnoverError, match="'adam' is not known"):
        Schedule(1, optimizer="adam")  # type: ignore[arg-type]
    with pytest.raises(TurnoverError, match="augmentation"):
        Schedule.of(Recipe(augment=True), 1)
    with pytest.raises(TurnoverError, match="learning rate falls"):
        Schedule.of(Recipe(decay=True), 1)
    assert (SHORT_SGD.penalty, SHORT_ADAMW.penalty) == (0.01, 0.0)
    assert SHORT_SGD.steps(24) == len(list(SHORT_SGD.batches(24))) == 16


def test_the_memory_of_a_row_is_what_the_layers_put_out() -> None:
    model = nn.Sequential(nn.Linear(300, 5, bias=False), nn.ReLU(), nn.Linear(5, 2)).double()
    assert row_bytes(model, randn(7, 300)) == 8 * (5 + 5 + 2 + 2), "each layer's and the whole model's; weights do not count"
    assert not any(module._forward_hooks for module in model.modules())
    losses = RowLosses(model, cross_entropy)
    assert losses.pairs(randn(7, 300)) == 8192
    assert RowLosses(nn.Linear(1, 2**26, device="meta"), cross_entropy).pairs(torch.zeros(1, 1, device="meta")) == 1
