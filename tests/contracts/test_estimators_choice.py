"""Which estimator a run shows, and what it makes of few members or of wrong arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import core.estimators.estimator as estimator_module
from core import TurnoverError
from core.estimators.estimator import Estimator, choose_estimator, row_correlation
from core.estimators.shrinkage import Shrinkage
from tests.helpers.planted_influences import planted


def test_one_member_is_shown_as_it_is_without_an_error() -> None:
    case = planted(0, smooth=0.5, members=1)
    estimator, estimate, error = case.chosen()
    assert (estimator.name, estimator.agreement, estimator.noise) == ("raw", {}, None)
    assert np.array_equal(estimate, case.members[0])
    assert np.isnan(error).all()
    assert estimator.shape_of(case.targets).shape == (40, 0)


@pytest.mark.parametrize("members", [2, 3])
@pytest.mark.parametrize("targets", [1, 4])
def test_few_members_and_few_targets_are_no_obstacle(members: int, targets: int) -> None:
    case = planted(0, smooth=0.5, local=0.3, members=members, targets=targets)
    estimator, estimate, error = case.chosen()
    assert (estimator.name, estimator.agreement) == ("best", {})
    assert estimate.shape == error.shape == (targets, 400)
    assert np.isfinite(estimate).all() and (error > 0).all()
    assert case.missed(estimate) < case.missed(case.median())


@pytest.mark.parametrize("mixture", [{}, {"local": 0.3}, {"smooth": 1.0}, {"smooth": 0.5, "local": 0.3}])
def test_where_the_model_holds_best_is_chosen(mixture: dict[str, float]) -> None:
    assert {planted(seed, **mixture).chosen()[0].name for seed in range(5)} == {"best"}


def test_a_candidate_that_predicts_worse_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were all that an item does by itself thrown away, the median would be better for local signal."""
    real = estimator_module.fit_shrinkage

    def filtered(*arguments: np.ndarray) -> Shrinkage:
        return replace(real(*arguments), own=0.0)

    monkeypatch.setattr(estimator_module, "fit_shrinkage", filtered)
    case = planted(0, local=1.0, noise=0.3)
    estimator, estimate, error = case.chosen()
    assert (estimator.name, estimator.basis, estimator.shrinkage) == ("median", None, None)
    assert estimator.agreement["median"] > estimator.agreement["best"]
    assert np.array_equal(estimate, case.median())
    np.testing.assert_allclose(error, case.members.std(0, ddof=1) * np.sqrt(np.pi / 2 / 8))


def test_agreement_is_between_one_half_of_the_members_and_the_other() -> None:
    case = planted(0, smooth=0.5, members=6)
    halves = np.median(case.members[0::2], 0), np.median(case.members[1::2], 0)
    expected = np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(*halves, strict=True)])
    agreement = case.chosen()[0].agreement
    assert agreement["median"] == pytest.approx(expected, abs=0.02)  # these items are equally noisy, so κ changes little
    assert agreement["best"] > agreement["median"]


@pytest.mark.parametrize(("members", "width"), [(1, 29), (2, 31)])
def test_another_number_of_items_is_one_line(members: int, width: int) -> None:
    case = planted(0, count=30, targets=3)
    with pytest.raises(TurnoverError, match=f"^{width} influences a target for 30 training items; compute one for each$"):
        choose_estimator(np.zeros((members, 3, width)), case.train, case.targets)


def test_influences_that_are_all_zero_stay_zero() -> None:
    case = planted(0, count=30, targets=3)
    for members in (2, 4):
        estimator = choose_estimator(np.zeros((members, 3, 30)), case.train, case.targets)
        estimate, error = estimator.apply(np.zeros((members, 3, 30)), estimator.shape_of(case.targets))
        assert (estimate == 0).all() and np.isfinite(error).all()


@given(seed=st.integers(0, 1000), targets=st.integers(1, 5))
def test_row_correlation_is_numpy_s_mean_over_rows(seed: int, targets: int) -> None:
    first, second = np.random.default_rng(seed).normal(size=(2, targets, 8))
    expected = np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(first, second, strict=True)])
    assert row_correlation(first, second) == pytest.approx(expected)
    assert row_correlation(np.ones((2, 4)), np.arange(8.0).reshape(2, 4)) == 0


def test_the_median_is_for_any_target_without_a_description() -> None:
    members = np.random.default_rng(0).normal(size=(5, 3, 7))
    estimate, _ = Estimator("median", {}).apply(members, np.zeros((3, 0)))
    assert np.array_equal(estimate, np.sort(members, 0)[2])
