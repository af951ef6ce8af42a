"""Influence functions: every solver against the Hessian written out."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.func import hessian, jacrev

from tests.contracts.test_baselines_problems import (
    SHORT_ADAMW,
    SHORT_SGD,
    check_close,
    convex_problem,
    net_problem,
)
from tests.helpers.builders import randn
from turnover.research.baselines.base import Baseline, Problem, Schedule
from turnover.research.baselines.hessian import CaptumInfluence, InfluenceFunction, choose_damping
from turnover.research.baselines.losses import (
    ConjugateGradient,
    Curvature,
    Lissa,
    RowLosses,
    ends,
    parameter_names,
)

Layers = Literal["all", "last"]
TIGHT = ConjugateGradient(1e-12)


def exact(problem: Problem, shift: float, layers: Layers = "all") -> Tensor:
    """Koh and Liang's formula with the inverse written out."""
    full, train, targets = written_out(problem, layers)
    damped = full + shift * torch.eye(len(full), dtype=full.dtype)
    return targets @ torch.linalg.solve(damped, train.T) / len(train)


def written_out(problem: Problem, layers: Layers = "all") -> tuple[Tensor, Tensor, Tensor]:
    """Hessian of the mean training loss, gradients of the training items and of the targets."""
    losses = RowLosses(problem.model, problem.loss, parameter_names(problem.model, layers))
    full = hessian(lambda vector: losses(vector, problem.train).mean())(losses.vector)
    train = jacrev(lambda vector: losses(vector, problem.train))(losses.vector)
    return full, train, jacrev(lambda vector: losses(vector, problem.targets))(losses.vector)


def off(baseline: Baseline, problem: Problem, known: Tensor) -> float:
    """Relative error of a baseline's scores."""
    return float((baseline.scores(problem).values - known).norm() / known.norm())


def test_the_exact_formula_on_a_convex_model() -> None:
    """No damping is added to the penalty; captum rounds its own to float32."""
    problem = convex_problem()
    known = exact(problem, 0.1)
    assert off(InfluenceFunction(TIGHT), problem, known) < 1e-10
    assert off(CaptumInfluence(), problem, known) < 1e-7


@pytest.mark.parametrize("layers", ["all", "last"])
@pytest.mark.parametrize(("schedule", "targets"), [(SHORT_SGD, 5), (SHORT_ADAMW, 20)])
def test_the_damped_formula_on_a_net(schedule: Schedule, targets: int, layers: Layers) -> None:
    """Captum's Arnoldi drops one direction of those that it finds, so it never gets quite there."""
    problem = net_problem(schedule, targets=targets)
    known = exact(problem, schedule.penalty + 0.5, layers)
    assert off(InfluenceFunction(TIGHT, layers, 0.5), problem, known) < 1e-10
    assert off(CaptumInfluence("exact", layers, 0.5), problem, known) < 1e-7
    arnoldi = (CaptumInfluence("arnoldi", layers, 0.5, directions=count) for count in (5, 200))
    few, more = (off(baseline, problem, known) for baseline in arnoldi)
    assert more < few < 1 and more < 0.05


def test_damping_is_chosen_from_the_spectrum() -> None:
    assert choose_damping(least=0.001, greatest=2.0, penalty=0.1) == 0
    assert choose_damping(least=0.0, greatest=2.0, penalty=0.0) == pytest.approx(0.002)
    assert choose_damping(least=-0.3, greatest=2.0, penalty=0.0) == pytest.approx(0.6)
    assert choose_damping(least=-0.3, greatest=2.0, penalty=0.1) == pytest.approx(0.5)


def test_a_saddle_is_damped_by_default_and_its_spectrum_s_ends_are_found() -> None:
    for problem in (convex_problem(), net_problem()):
        full, train, targets = written_out(problem)
        known = torch.linalg.eigvalsh(full)
        least, greatest = ends(Curvature(RowLosses(problem.model, problem.loss), problem.train))
        assert greatest == pytest.approx(float(known[-1]), rel=1e-3)
        assert least == pytest.approx(float(known[0]), abs=0.02 * greatest)
    penalty = problem.schedule.penalty
    assert known[0] + penalty < 0, "this net stands at a saddle"
    damping = choose_damping(float(known[0]), float(known[-1]), penalty)
    for baseline in (InfluenceFunction(TIGHT), CaptumInfluence()):
        assert off(baseline, problem, exact(problem, penalty + damping)) < 0.1
    products = targets @ train.T / (1e6 * len(train))
    assert off(InfluenceFunction(damping=1e6), problem, products) < 1e-4


def test_a_target_without_a_gradient_is_solved() -> None:
    """Its side is 0, and it does not disturb the others."""
    problem = convex_problem()
    curvature = Curvature(RowLosses(problem.model, problem.loss), problem.train, 0.1)
    right = torch.stack((torch.zeros(15, dtype=torch.float64), randn(15)))
    solved = TIGHT.solve(curvature, right, 1.0)
    assert (solved[0] == 0).all()
    check_close(curvature(solved), right, 1e-10)


def test_lissa_converges_to_the_exact_formula() -> None:
    """On all items at once; batches and repeats are in `tests/nightly/test_retraining.py`."""
    problem = convex_problem()
    known = exact(problem, 0.1)
    solvers = (Lissa(depth, batch=1000) for depth in (10, 240))
    errors = [off(InfluenceFunction(solver), problem, known) for solver in solvers]
    assert errors[0] > 1e-2 and errors[-1] < 1e-6
