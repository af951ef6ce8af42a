"""Leave-one-out by retraining, against a plain loop with torch.optim and against closed forms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from core.errors import TurnoverError
from core.rivals.base import Problem, Schedule, cross_entropy
from core.rivals.repeat import NOTHING, train_problem
from core.rivals.retraining import Retraining
from core.training import Split
from tests.contracts.test_rivals_problems import (
    CONVEX,
    SHORT_ADAMW,
    SHORT_SGD,
    convex_problem,
    linear,
    net,
    net_problem,
    plain_loop,
    some_split,
    squared_error,
)
from tests.helpers.builders import randn


def target_losses(problem: Problem, without: int) -> Tensor:
    """Losses of the targets after a plain loop that leaves an item out."""
    model = net()
    plain_loop(model, problem.train, problem.schedule, without)
    return cross_entropy(model(problem.targets.inputs), problem.targets.labels).detach()


@pytest.mark.parametrize("schedule", [SHORT_SGD, SHORT_ADAMW, replace(SHORT_SGD, batch=1), replace(SHORT_ADAMW, batch=23, member=2)])
def test_retraining_is_a_plain_loop_without_the_item(schedule: Schedule) -> None:
    problem, some = net_problem(schedule), torch.tensor([0, 9, 23])
    scores = Retraining().scores(problem, some).values
    expected = torch.stack([target_losses(problem, int(item)) - target_losses(problem, NOTHING) for item in some], 1)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-11)
    assert expected.abs().max() > 1e-3


def test_the_number_that_train_together_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = net_problem(SHORT_ADAMW)
    expected = Retraining().scores(problem).values
    for together in (1, 5, 24):
        torch.testing.assert_close(Retraining(together).scores(problem).values, expected, rtol=0, atol=1e-12)
    monkeypatch.setattr("core.rivals.retraining._STACK_BYTES", 1)
    torch.testing.assert_close(Retraining().scores(problem).values, expected, rtol=0, atol=1e-12)


def ridge(inputs: Tensor, labels: Tensor, rows: int, penalty: float) -> Tensor:
    """Weights that minimise Σ (x·w − y)²/2 / rows + penalty/2 · |w|²."""
    return torch.linalg.solve(inputs.T @ inputs / rows + penalty * torch.eye(inputs.shape[1], dtype=inputs.dtype), inputs.T @ labels / rows)


def test_ridge_regression_in_closed_form() -> None:
    train, targets = (Split(randn(rows, 4, seed=seed), randn(rows, seed=seed + 9)) for rows, seed in ((20, 0), (5, 1)))
    problem = train_problem(linear(4, 1, bias=False), train, targets, CONVEX, squared_error)
    full = ridge(train.inputs, train.labels, 20, 0.1)
    columns = []
    for item in range(20):
        others = torch.arange(20) != item
        without = ridge(train.inputs[others], train.labels[others], 20, 0.1)
        columns.append(squared_error(targets.inputs @ without[:, None], targets.labels) - squared_error(targets.inputs @ full[:, None], targets.labels))
    torch.testing.assert_close(Retraining().scores(problem).values, torch.stack(columns, 1), rtol=0, atol=1e-9)


def logistic_optimum(train: Split, keep: Tensor, penalty: float) -> nn.Module:
    """The minimum by L-BFGS, a row's weight 1/N whatever is kept."""
    model = linear()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=1e-15)

    def closure() -> Tensor:
        optimizer.zero_grad()
        rows = cross_entropy(model(train.inputs[keep]), train.labels[keep])
        loss = rows.sum() / len(keep) + penalty / 2 * sum(value.square().sum() for value in model.parameters())
        loss.backward()
        return loss

    optimizer.step(closure)
    return model


def test_logistic_regression_at_its_minimum() -> None:
    problem, some = convex_problem(), torch.tensor([0, 5, 23])
    scores = Retraining().scores(problem, some).values
    everyone = torch.ones(24, dtype=torch.bool)

    def losses(keep: Tensor) -> Tensor:
        return cross_entropy(logistic_optimum(problem.train, keep, 0.1)(problem.targets.inputs), problem.targets.labels).detach()

    expected = torch.stack([losses(torch.arange(24) != item) - losses(everyone) for item in some], 1)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-7)


def test_an_item_without_a_gradient_is_worth_exactly_nothing() -> None:
    """Also in float32: both losses of a difference come from one stack."""
    train = some_split(20)
    train.inputs[7] = 0
    train, targets = (Split(split.inputs.float(), split.labels) for split in (train, some_split(5, seed=1)))
    problem = train_problem(linear(bias=False).float(), train, targets, SHORT_ADAMW)
    scores = Retraining().scores(problem).values
    assert scores.dtype == torch.float32
    assert (scores[:, 7] == 0).all() and (scores != 0).sum() == 5 * 19


def test_another_model_is_refused() -> None:
    problem = net_problem()
    for wrong in (replace(problem, schedule=replace(SHORT_SGD, epochs=9)), replace(problem, schedule=SHORT_ADAMW), replace(problem, model=net(seed=5))):
        with pytest.raises(TurnoverError, match="training again gives another model"):
            Retraining().scores(wrong, torch.tensor([0]))
