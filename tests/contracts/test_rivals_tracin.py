"""TracIn by captum, against gradient dot products written by hand for a linear model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from core.errors import TurnoverError
from core.rivals.base import Problem, Schedule
from core.rivals.repeat import train_problem
from core.rivals.retraining import Retraining
from core.rivals.tracin import TracIn
from core.training import Split
from tests.contracts.test_rivals_problems import SHORT_ADAMW, SHORT_SGD, linear, net_problem, plain_loop, some_split


def linear_problem(schedule: Schedule) -> Problem:
    """A linear classifier after a few epochs."""
    return train_problem(linear(), some_split(24), some_split(5, seed=1), schedule)


def by_hand(problem: Problem, epochs: list[int], every: int, bias: bool) -> Tensor:
    """Σ every · η/|S| · ⟨(p − y) ⊗ x, (p' − y') ⊗ x'⟩ over the models after these epochs, trained by a plain loop."""
    schedule, total = problem.schedule, torch.zeros(5, 24, dtype=torch.float64)

    def errors(model: nn.Module, split: Split) -> Tensor:
        return model(split.inputs).softmax(1).detach() - nn.functional.one_hot(split.labels, 3)

    inputs = problem.targets.inputs @ problem.train.inputs.T + (1 if bias else 0)
    for epoch in epochs:
        model = linear()
        plain_loop(model, problem.train, replace(schedule, epochs=epoch))
        total += every * schedule.learning_rate / schedule.batch * (errors(model, problem.targets) @ errors(model, problem.train).T) * inputs
    return total


@pytest.mark.parametrize("schedule", [SHORT_SGD, replace(SHORT_ADAMW, epochs=4)])
@pytest.mark.parametrize(("every", "epochs"), [(1, [1, 2, 3, 4]), (2, [2, 4]), (3, [3])])
def test_gradient_dot_products_of_a_linear_model(schedule: Schedule, every: int, epochs: list[int]) -> None:
    """captum's fast variant leaves the bias out."""
    problem = linear_problem(schedule)
    torch.testing.assert_close(TracIn("all", every).scores(problem).values, by_hand(problem, epochs, every, bias=True), rtol=0, atol=1e-12)
    torch.testing.assert_close(TracIn("last", every).scores(problem).values, by_hand(problem, epochs, every, bias=False), rtol=0, atol=1e-12)


def test_the_fast_variant_is_the_last_layer_of_the_whole() -> None:
    model = nn.Sequential(nn.Linear(4, 6).requires_grad_(False), nn.Tanh(), nn.Linear(6, 3, bias=False)).double()
    problem = net_problem(model=model)
    whole, fast = TracIn("all").scores(problem).values, TracIn("last").scores(problem).values
    torch.testing.assert_close(whole, fast, rtol=0, atol=1e-13)
    assert not torch.allclose(TracIn("all").scores(net_problem()).values, TracIn("last").scores(net_problem()).values)


def test_its_scale_is_nats_for_small_steps() -> None:
    """With small steps z's visits add up: TracIn and retraining tell the same."""
    schedule = replace(SHORT_SGD, learning_rate=1e-4, weight_decay=0.0, epochs=3, batch=8)
    problem = linear_problem(schedule)
    scores, truth = TracIn("all").scores(problem).values, Retraining().scores(problem).values
    assert (scores - truth).norm() < 1e-3 * truth.norm()


def test_a_batch_is_no_larger_than_the_data() -> None:
    small, whole = (TracIn().scores(linear_problem(replace(SHORT_SGD, batch=batch))).values for batch in (1000, 24))
    torch.testing.assert_close(small, whole, rtol=0, atol=1e-13)


def test_training_must_reach_a_checkpoint() -> None:
    with pytest.raises(TurnoverError, match="before the first checkpoint"):
        TracIn(every=5).scores(linear_problem(SHORT_SGD))
    with pytest.raises(TurnoverError, match="gives another model"):
        TracIn().scores(replace(linear_problem(SHORT_SGD), schedule=SHORT_ADAMW))
