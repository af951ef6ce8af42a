"""Leaving an item out by retraining, and the derivative of that: both against a plain loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.contracts.test_baselines_problems import (
    SHORT_ADAMW,
    SHORT_SGD,
    check_close,
    linear,
    net,
    net_problem,
    plain_loop,
    some_split,
)
from turnover.research.baselines.base import Problem, Schedule, cross_entropy
from turnover.research.baselines.retraining import NOTHING, Retraining, train_problem
from turnover.research.baselines.tracin import SgdInfluence
from turnover.training.fit import Split


def loss_at(problem: Problem, model: nn.Module, item: int, weight: float = 0.0) -> Tensor:
    """The targets' losses after a plain loop in which one item has another weight."""
    plain_loop(model, problem.train, problem.schedule, item, weight)
    return cross_entropy(model(problem.targets.inputs), problem.targets.labels).detach()


ADAMW = replace(SHORT_ADAMW, batch=23, member=2)


MOMENTUM = replace(SHORT_SGD, momentum=0.9)


@pytest.mark.parametrize(
    "schedule", [SHORT_SGD, SHORT_ADAMW, replace(SHORT_SGD, batch=1), ADAMW, MOMENTUM]
)
def test_retraining_is_a_plain_loop_without_the_item(schedule: Schedule) -> None:
    problem, some = net_problem(schedule), torch.tensor([0, 9, 23])
    without = torch.stack([loss_at(problem, net(), int(item)) for item in some], 1)
    expected = without - loss_at(problem, net(), NOTHING)[:, None]
    check_close(Retraining().scores(problem, some).values, expected, 1e-11)
    assert expected.abs().max() > 1e-3


def test_the_number_that_train_together_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = net_problem(SHORT_ADAMW)
    expected = Retraining().scores(problem).values
    for name, limit in (("_TOGETHER", 1), ("_TOGETHER", 5), ("_STACK_BYTES", 1)):
        monkeypatch.setattr(f"turnover.research.baselines.retraining.{name}", limit)
        check_close(Retraining().scores(problem).values, expected)


def test_ordinary_dropout_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same units are dropped whoever is left out."""
    dropped = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3)).double()
    plain = nn.Sequential(dropped[0], nn.Dropout(0.0), dropped[2])
    scores, without = (
        Retraining().scores(net_problem(model=model)).values for model in (dropped, plain)
    )
    assert (scores - without).abs().max() > 1e-3
    monkeypatch.setattr("turnover.research.baselines.retraining._TOGETHER", 1)
    check_close(Retraining().scores(net_problem(model=dropped)).values, scores)


def test_an_item_without_a_gradient_is_worth_exactly_nothing() -> None:
    """Also in float32: both losses of a difference come from one stack."""
    train = some_split(20)
    train.inputs[7] = 0
    both = (train, some_split(5, seed=1))
    train, targets = (Split(split.inputs.float(), split.labels) for split in both)
    problem = train_problem(linear(bias=False).float(), train, targets, SHORT_ADAMW)
    scores = Retraining().scores(problem).values
    assert scores.dtype == torch.float32
    assert (scores[:, 7] == 0).all() and (scores != 0).sum() == 5 * 19


# Hara et al.: the derivative of training in an item's weight


ONE_BY_ONE, LARGE = {"batch": 1, "epochs": 2}, {"batch": 23, "learning_rate": 1.0}


@pytest.mark.parametrize("changes", [{}, ONE_BY_ONE, LARGE])
def test_it_is_the_derivative_in_the_item_s_weight(changes: dict[str, Any]) -> None:
    problem, step = net_problem(replace(SHORT_SGD, **changes)), 1e-5
    scores = SgdInfluence().scores(problem).values
    for item in (0, 9, 23):
        after, before = (loss_at(problem, net(), item, 1 + sign * step) for sign in (1, -1))
        slope = (after - before) / (2 * step)
        assert (scores[:, item] + slope).norm() < 1e-6 * slope.norm()


def test_many_targets_are_as_one() -> None:
    problem = net_problem(rows=20, targets=20)
    scores = SgdInfluence().scores(problem).values
    for target in (0, 19):
        alone = replace(problem, targets=problem.targets.take(torch.tensor([target])))
        check_close(SgdInfluence().scores(alone).values[0], scores[target])
    untrained = net_problem(replace(SHORT_SGD, epochs=0))
    assert (SgdInfluence().scores(untrained).values == 0).all(), "no batch holds any item"
