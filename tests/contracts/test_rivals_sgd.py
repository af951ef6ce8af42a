"""Hara et al.'s influence: the exact derivative of the SGD trajectory in an item's weight."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from core.errors import TurnoverError
from core.rivals.base import Problem, RowLoss, Schedule, cross_entropy
from core.rivals.repeat import train_problem
from core.rivals.retraining import Retraining
from core.rivals.sgd_influence import SgdInfluence
from core.training import Split
from tests.contracts.test_rivals_problems import SHORT_ADAMW, SHORT_SGD, linear, net, net_problem, plain_loop, some_split, squared_error
from tests.helpers.builders import randn


def losses_at(model: nn.Module, problem: Problem, item: int, weight: float, loss: RowLoss) -> Tensor:
    """The targets' losses after a plain loop in which one item has another weight."""
    plain_loop(model, problem.train, problem.schedule, item, weight, loss)
    return loss(model(problem.targets.inputs), problem.targets.labels).detach()


@pytest.mark.parametrize("schedule", [SHORT_SGD, replace(SHORT_SGD, batch=1, epochs=2), replace(SHORT_SGD, batch=23, learning_rate=1.0)])
def test_it_is_the_derivative_of_training_in_the_item_s_weight(schedule: Schedule) -> None:
    problem, step = net_problem(schedule), 1e-5
    scores = SgdInfluence().scores(problem).values
    for item in (0, 9, 23):
        after, before = (losses_at(net(), problem, item, 1 + sign * step, cross_entropy) for sign in (1, -1))
        slope = (after - before) / (2 * step)
        assert (scores[:, item] + slope).norm() < 1e-6 * slope.norm()


def test_a_loss_of_one_s_own() -> None:
    train, targets = (Split(randn(12, 4, seed=seed), randn(12, seed=seed + 9)) for seed in (0, 1))
    problem, step = train_problem(linear(4, 1), train, targets, SHORT_SGD, squared_error), 1e-5
    scores = SgdInfluence().scores(problem).values
    after, before = (losses_at(linear(4, 1), problem, 5, 1 + sign * step, squared_error) for sign in (1, -1))
    torch.testing.assert_close(scores[:, 5], (before - after) / (2 * step), rtol=1e-6, atol=1e-9)


def test_it_is_near_retraining_where_an_item_matters_little() -> None:
    problem = net_problem(rows=60)
    linear_estimate, truth = SgdInfluence().scores(problem).values, Retraining().scores(problem).values
    assert torch.corrcoef(torch.stack((linear_estimate.flatten(), truth.flatten())))[0, 1] > 0.99
    assert (linear_estimate - truth).norm() < 0.1 * truth.norm()


def test_many_targets_at_once_and_one_by_one() -> None:
    problem = net_problem(targets=20)
    every = SgdInfluence().scores(problem).values
    for target in (0, 19):
        alone = replace(problem, targets=Split(problem.targets.inputs[target : target + 1], problem.targets.labels[target : target + 1]))
        torch.testing.assert_close(SgdInfluence().scores(alone).values[0], every[target], rtol=0, atol=1e-12)


def test_a_model_trained_by_adamw_needs_a_schedule_of_its_own() -> None:
    problem = net_problem(SHORT_ADAMW)
    with pytest.raises(TurnoverError, match="plain SGD"):
        SgdInfluence().scores(problem)
    scores = SgdInfluence(SHORT_SGD).scores(problem).values
    torch.testing.assert_close(scores, SgdInfluence().scores(net_problem(SHORT_SGD)).values, rtol=0, atol=1e-13)


def test_items_that_no_batch_holds_are_worth_nothing() -> None:
    """A penalty alone moves the weights, and no item has a part in that."""
    problem = train_problem(linear(), some_split(10), some_split(3, seed=1), replace(SHORT_SGD, epochs=0))
    assert (SgdInfluence().scores(problem).values == 0).all()
