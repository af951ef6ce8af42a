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
from turnover.errors import TurnoverError
from turnover.research.baselines.base import Baseline, Problem, Schedule
from turnover.research.baselines.hessian import (
    Curvature,
    InfluenceFunction,
    choose_damping,
    conjugate_gradients,
    damped,
    ends,
    lissa,
)
from turnover.research.baselines.losses import RowLosses, parameter_names

Layers = Literal["all", "last"]
HESSIAN = "turnover.research.baselines.hessian"


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conjugate gradients to the last digits."""
    monkeypatch.setattr(f"{HESSIAN}._CG_TOLERANCE", 1e-12)


def exact(problem: Problem, shift: float, layers: Layers = "all") -> Tensor:
    """Koh and Liang's formula with the inverse written out."""
    full, train, targets = written_out(problem, layers)
    damped = full + shift * torch.eye(len(full), dtype=full.dtype)
    return targets @ torch.linalg.solve(damped, train.T) / len(train)


def written_out(problem: Problem, layers: Layers = "all") -> tuple[Tensor, Tensor, Tensor]:
    """Hessian of the mean training loss, gradients of the training items and of the targets."""
    losses = RowLosses(problem.model, parameter_names(problem.model, layers))
    full = hessian(lambda vector: losses(vector, problem.train).mean())(losses.vector)
    train = jacrev(lambda vector: losses(vector, problem.train))(losses.vector)
    return full, train, jacrev(lambda vector: losses(vector, problem.targets))(losses.vector)


def off(baseline: Baseline, problem: Problem, known: Tensor) -> float:
    """Relative error of a baseline's scores."""
    return float((baseline.scores(problem).values - known).norm() / known.norm())


def test_the_exact_formula_on_a_convex_model(tight: None) -> None:
    """No damping is added to the penalty."""
    problem = convex_problem()
    assert off(InfluenceFunction(), problem, exact(problem, 0.1)) < 1e-10


@pytest.mark.parametrize("layers", ["all", "last"])
@pytest.mark.parametrize(("schedule", "targets"), [(SHORT_SGD, 5), (SHORT_ADAMW, 20)])
def test_the_damped_formula_on_a_net(
    schedule: Schedule, targets: int, layers: Layers, tight: None
) -> None:
    problem = net_problem(schedule, targets=targets)
    losses = RowLosses(problem.model, parameter_names(problem.model, layers))
    known = exact(problem, damped(losses, problem)[0].shift, layers)
    assert off(InfluenceFunction(layers=layers), problem, known) < 1e-8


def test_damping_is_chosen_from_the_spectrum() -> None:
    assert choose_damping(least=0.001, greatest=2.0, penalty=0.1) == 0
    assert choose_damping(least=0.0, greatest=2.0, penalty=0.0) == pytest.approx(0.002)
    assert choose_damping(least=-0.3, greatest=2.0, penalty=0.0) == pytest.approx(0.6)
    assert choose_damping(least=-0.3, greatest=2.0, penalty=0.1) == pytest.approx(0.5)


def test_a_saddle_is_damped_and_its_spectrum_s_ends_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for problem in (convex_problem(), net_problem()):
        full, train, targets = written_out(problem)
        known = torch.linalg.eigvalsh(full)
        least, greatest = ends(Curvature(RowLosses(problem.model), problem.train))
        assert greatest == pytest.approx(float(known[-1]), rel=1e-3)
        assert least == pytest.approx(float(known[0]), abs=0.02 * greatest)
    penalty = problem.schedule.penalty
    assert known[0] + penalty < 0, "this net stands at a saddle"
    damping = choose_damping(float(known[0]), float(known[-1]), penalty)
    assert off(InfluenceFunction(), problem, exact(problem, penalty + damping)) < 0.1
    products = targets @ train.T / (1e6 * len(train))
    monkeypatch.setattr(f"{HESSIAN}.choose_damping", lambda *_: 1e6)
    assert off(InfluenceFunction(), problem, products) < 1e-4


def test_a_target_without_a_gradient_is_solved(tight: None) -> None:
    """Its side is 0, and it does not disturb the others."""
    problem = convex_problem()
    curvature = Curvature(RowLosses(problem.model), problem.train, 0.1)
    right = torch.stack((torch.zeros(15, dtype=torch.float64), randn(15)))
    solved = conjugate_gradients(curvature, right)
    assert (solved[0] == 0).all()
    check_close(curvature(solved), right, 1e-10)


def test_lissa_converges_to_the_exact_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """On all items at once, and noisily on batches."""
    problem = convex_problem()
    known = exact(problem, 0.1)
    monkeypatch.setattr(f"{HESSIAN}._LISSA_BATCH", 1000)
    errors = []
    for terms in (10, 40, 160, 240):
        monkeypatch.setattr(f"{HESSIAN}._LISSA_TERMS", terms)
        errors.append(off(InfluenceFunction("LiSSA"), problem, known))
    assert errors == sorted(errors, reverse=True) and errors[0] > 1e-2 and errors[-1] < 1e-6
    monkeypatch.setattr(f"{HESSIAN}._LISSA_BATCH", 8)
    assert 1e-6 < off(InfluenceFunction("LiSSA"), problem, known) < 0.5


def test_what_a_solver_cannot_solve_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = net_problem()
    right, saddle = randn(1, 51), Curvature(RowLosses(problem.model), problem.train)
    with pytest.raises(TurnoverError, match="not positive definite"):
        conjugate_gradients(saddle, right)
    with pytest.raises(TurnoverError, match=r"diverged with scale 0\.01"):
        lissa(saddle, right, 0.005)
    monkeypatch.setattr(f"{HESSIAN}._CG_STEPS", 2)
    with pytest.raises(TurnoverError, match="2 steps of conjugate gradients left a residual"):
        InfluenceFunction().scores(problem)
