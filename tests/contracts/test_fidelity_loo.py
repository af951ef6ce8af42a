"""Leave-one-out: equal to the closed form of a ridge regression, kept seed by seed, and a perfect method agrees with it perfectly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from core.fidelity.correlation import row_spearman
from core.fidelity.loo import PLACEBO, SELF, SELF_PEARSON, TARGETS, draw_instances, left_out_losses, self_figures, target_figures
from core.fidelity.subject import Subject
from core.rivals.base import Problem, take
from core.rivals.hessian import InfluenceFunction
from core.rivals.repeat import train_problem
from core.training import Split
from tests.contracts.test_rivals_problems import CONVEX, linear, squared_error
from tests.contracts.test_rivals_retraining import ridge
from tests.helpers.builders import failing_after, names, randn

ROWS, POSITIONS, PENALTY = 20, [3, 5, 8, 9], 0.1


def ridge_problem(member: int = 0) -> Problem:
    train, targets = (Split(randn(rows, 4, seed=seed), randn(rows, seed=seed + 9)) for rows, seed in ((ROWS, 0), (len(POSITIONS), 1)))
    return train_problem(linear(4, 1, bias=False, seed=member), train, targets, replace(CONVEX, weight_decay=PENALTY), squared_error)


def a_subject(folder: Path, problem: Callable[[int], Problem] = ridge_problem) -> Subject:
    """What the measure reads of a subject, around a ridge regression."""
    run = SimpleNamespace(folder=folder, name="ridge", manifest={"files": {"weights.safetensors": {"sha256": "abc"}}})
    return cast(
        Subject,
        SimpleNamespace(run=run, positions=POSITIONS, asked={"targets": POSITIONS}, train=ridge_problem().train, problem=problem, epochs=lambda: CONVEX.epochs),
    )


def closed_form(instances: np.ndarray, asked: Split) -> Tensor:
    """Losses of some items without each instance, minus those with all, from the normal equations: `(items, n)`."""
    train = ridge_problem().train

    def losses(keep: Tensor) -> Tensor:
        weights = ridge(train.inputs[keep], train.labels[keep], ROWS, PENALTY)
        return squared_error(asked.inputs @ weights[:, None], asked.labels)

    everyone = losses(torch.arange(ROWS))
    return torch.stack([losses(torch.arange(ROWS) != item) - everyone for item in instances], 1)


def test_left_out_losses_of_a_ridge_regression_are_those_of_its_normal_equations(tmp_path: Path) -> None:
    instances = draw_instances(ROWS, 6, seed=0)
    losses = torch.from_numpy(left_out_losses(a_subject(tmp_path), instances, 2))
    assert losses.shape == (2, len(POSITIONS) + 6, 6)
    problem = ridge_problem()
    expected = torch.cat([closed_form(instances, asked) for asked in (problem.targets, take(problem.train, torch.from_numpy(instances)))])
    for seed in range(2):  # one minimum, wherever training starts
        torch.testing.assert_close(losses[seed], expected, rtol=0, atol=1e-9)
    assert (losses[:, len(POSITIONS) :].diagonal(dim1=1, dim2=2) > 0).all(), "an item always helps itself"


def test_koh_and_liang_agree_with_leaving_out_where_their_formula_holds(tmp_path: Path) -> None:
    instances = draw_instances(ROWS, ROWS, seed=0)
    truth = left_out_losses(a_subject(tmp_path), instances, 1)[0, : len(POSITIONS)]
    scores = InfluenceFunction().scores(ridge_problem()).values.numpy()
    assert target_figures(scores, truth)[TARGETS].value > 0.95


def test_instances_are_drawn_once_each_and_all_if_there_are_no_more() -> None:
    drawn = draw_instances(50, 8, seed=1)
    assert len(set(drawn.tolist())) == 8 and (np.diff(drawn) > 0).all()
    assert np.array_equal(draw_instances(50, 8, seed=1), drawn) and not np.array_equal(draw_instances(50, 8, seed=2), drawn)
    assert draw_instances(5, 8, seed=1).tolist() == [0, 1, 2, 3, 4]


def test_a_perfect_method_agrees_perfectly_and_one_dealt_out_at_random_does_not() -> None:
    truth = np.random.default_rng(0).normal(size=(50, 40))
    perfect = target_figures(3 * truth, truth)
    assert perfect[TARGETS].value == pytest.approx(1) and abs(perfect[PLACEBO].value) < 0.1
    on_itself = self_figures(np.exp(truth[0]), truth[0])
    assert on_itself[SELF].value == pytest.approx(1) and 0 < on_itself[SELF_PEARSON].value < 1
    noisy = target_figures(truth + np.random.default_rng(1).normal(size=truth.shape), truth)
    assert noisy[TARGETS].value == pytest.approx(row_spearman(truth + np.random.default_rng(1).normal(size=truth.shape), truth).mean())


def test_seeds_are_kept_one_by_one(tmp_path: Path) -> None:
    instances, calls = draw_instances(ROWS, 4, seed=0), []

    def counted(member: int) -> Problem:
        calls.append(member)
        return ridge_problem(member)

    with pytest.raises(KeyboardInterrupt):
        left_out_losses(a_subject(tmp_path, failing_after(2, counted, KeyboardInterrupt())), instances, 3)
    (folder,) = (tmp_path / "fidelity").iterdir()
    assert (calls, names(folder)) == ([0], ["manifest.json", "member-000.npy"])
    losses = left_out_losses(a_subject(tmp_path, counted), instances, 3)
    assert calls == [0, 1, 2]
    others = draw_instances(ROWS, 4, seed=1)
    assert not np.allclose(left_out_losses(a_subject(tmp_path), others, 1)[0], losses[0]), "other items are left out again"
    assert np.array_equal(left_out_losses(a_subject(tmp_path, counted), instances, 3), losses)
    assert np.array_equal(left_out_losses(a_subject(tmp_path, counted), instances, 2), losses[:2]), "fewer seeds are the first of more"
    assert calls == [0, 1, 2]
