"""Influence functions: every solver against the Hessian written out, and all of it against retraining."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.func import hessian, jacrev

from core.errors import TurnoverError
from core.rivals.base import Problem, Schedule
from core.rivals.hessian import CaptumInfluence, InfluenceFunction, choose_damping
from core.rivals.losses import RowLosses, parameter_names
from core.rivals.retraining import Retraining
from core.rivals.solvers import ConjugateGradient, Curvature, Lissa, ends
from tests.contracts.test_rivals_problems import SHORT_ADAMW, SHORT_SGD, convex_problem, net, net_problem
from tests.helpers.builders import randn

TIGHT = ConjugateGradient(1e-12)


def written_out(problem: Problem, layers: str = "all") -> tuple[Tensor, Tensor, Tensor]:
    """Hessian of the mean training loss, gradients of the training items and of the targets."""
    losses = RowLosses(problem.model, problem.loss, parameter_names(problem.model, layers))
    full = hessian(lambda vector: losses(vector, problem.train).mean())(losses.vector)
    train, targets = (jacrev(lambda vector, split=split: losses(vector, split))(losses.vector) for split in (problem.train, problem.targets))
    return full, train, targets


def exact(problem: Problem, shift: float, layers: str = "all") -> Tensor:
    """Koh and Liang's formula with the inverse written out."""
    full, train, targets = written_out(problem, layers)
    return targets @ torch.linalg.solve(full + shift * torch.eye(len(full), dtype=full.dtype), train.T) / len(train)


def off(made: Tensor, known: Tensor) -> float:
    """Relative error."""
    return float((made - known).norm() / known.norm())


def test_the_exact_formula_on_a_convex_model() -> None:
    """No damping is added to the penalty where none is needed; captum rounds its own to float32."""
    problem = convex_problem()
    for rival, bound in ((InfluenceFunction(TIGHT), 1e-10), (CaptumInfluence(), 1e-7)):
        assert off(rival.scores(problem).values, exact(problem, 0.1)) < bound


@pytest.mark.parametrize("layers", ["all", "last"])
@pytest.mark.parametrize("targets", [5, 20])
@pytest.mark.parametrize("schedule", [SHORT_SGD, SHORT_ADAMW])
def test_the_damped_formula_on_a_net(schedule: Schedule, layers: Literal["all", "last"], targets: int) -> None:
    problem = net_problem(schedule, targets=targets)
    known = exact(problem, schedule.penalty + 0.5, layers)
    for rival, bound in ((InfluenceFunction(TIGHT, layers, 0.5), 1e-10), (CaptumInfluence("exact", layers, 0.5), 1e-7)):
        assert off(rival.scores(problem).values, known) < bound


@pytest.mark.parametrize("layers", ["all", "last"])
def test_captum_s_arnoldi_directions_approximate(layers: Literal["all", "last"]) -> None:
    """It drops one direction of those that it finds, so that it never gets quite there."""
    problem = net_problem()
    known = exact(problem, 0.01 + 0.5, layers)
    few, more = (off(CaptumInfluence("arnoldi", layers, 0.5, directions=count).scores(problem).values, known) for count in (5, 200))
    assert more < few < 1 and more < 0.05


def test_lissa_converges_to_the_exact_formula() -> None:
    problem = convex_problem()
    known = exact(problem, 0.1)
    errors = [off(InfluenceFunction(Lissa(depth, batch=1000)).scores(problem).values, known) for depth in (10, 40, 160, 240)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1e-2 and errors[-1] < 1e-6


def test_lissa_on_batches_is_noisy_and_repeats_help() -> None:
    problem = convex_problem()
    known = exact(problem, 0.1)
    once, often = (off(InfluenceFunction(Lissa(80, batch=8, repeats=repeats)).scores(problem).values, known) for repeats in (1, 8))
    assert often < once < 0.5 and often < 0.15
    one, same, other = (InfluenceFunction(Lissa(50, batch=8, seed=seed)).scores(problem).values for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_it_predicts_retraining_on_a_convex_problem() -> None:
    problem = convex_problem(rows=60)
    estimate, truth = InfluenceFunction().scores(problem).values, Retraining().scores(problem).values
    for row in range(len(truth)):
        assert torch.corrcoef(torch.stack((estimate[row], truth[row])))[0, 1] > 0.98
    assert off(estimate, truth) < 0.15, "nats, not only the order"


def test_damping_is_chosen_from_the_spectrum() -> None:
    assert choose_damping(least=0.001, greatest=2.0, penalty=0.1) == 0
    assert choose_damping(least=0.0, greatest=2.0, penalty=0.0) == pytest.approx(0.002)
    assert choose_damping(least=-0.3, greatest=2.0, penalty=0.0) == pytest.approx(0.6)
    assert choose_damping(least=-0.3, greatest=2.0, penalty=0.1) == pytest.approx(0.5)


def test_the_ends_of_the_spectrum() -> None:
    for stated in (net_problem(), convex_problem()):
        full, _, _ = written_out(stated)
        known = torch.linalg.eigvalsh(full)
        least, greatest = ends(Curvature(RowLosses(stated.model, stated.loss), stated.train))
        assert greatest == pytest.approx(float(known[-1]), rel=1e-3)
        assert least == pytest.approx(float(known[0]), abs=0.02 * greatest)


def test_a_saddle_is_damped_by_default_and_refused_without() -> None:
    problem = net_problem()
    full, _, _ = written_out(problem)
    least, greatest = (float(torch.linalg.eigvalsh(full)[place]) for place in (0, -1))
    assert least + problem.schedule.penalty < 0, "this net stands at a saddle"
    penalty = problem.schedule.penalty
    known = exact(problem, penalty + choose_damping(least, greatest, penalty))
    assert off(InfluenceFunction(TIGHT).scores(problem).values, known) < 0.1
    assert off(CaptumInfluence().scores(problem).values, known) < 0.1
    with pytest.raises(TurnoverError, match="not positive definite"):
        InfluenceFunction(damping=0.0).scores(problem)
    with pytest.raises(TurnoverError, match=r"diverged with scale 0\.01"):
        InfluenceFunction(Lissa(50, batch=1000, scale=0.01)).scores(problem)


def test_much_damping_leaves_gradient_dot_products() -> None:
    problem = net_problem()
    _, train, targets = written_out(problem)
    scores = InfluenceFunction(damping=1e6).scores(problem).values
    assert off(scores * 1e6 * len(train), targets @ train.T) < 1e-4


def test_too_few_steps_are_said() -> None:
    with pytest.raises(TurnoverError, match="2 steps left a residual"):
        InfluenceFunction(ConjugateGradient(steps=2)).scores(net_problem())


def test_a_target_without_a_gradient_is_solved() -> None:
    """Its side is 0, and it does not disturb the others."""
    problem = convex_problem()
    curvature = Curvature(RowLosses(problem.model, problem.loss), problem.train, 0.1)
    right = torch.stack((torch.zeros(15, dtype=torch.float64), randn(15)))
    solved = TIGHT.solve(curvature, right, 1.0)
    assert (solved[0] == 0).all()
    torch.testing.assert_close(curvature(solved), right, rtol=0, atol=1e-10)


def test_too_many_second_derivatives_are_refused() -> None:
    with pytest.raises(TurnoverError, match="4803 parameters"):
        CaptumInfluence().scores(net_problem(model=net(hidden=600)))
