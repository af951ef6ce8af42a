"""Groups of training items: sums of what is known of the items, with errors that hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.estimators.estimator import Estimator
from tests.helpers.planted_influences import Planted, planted

COUNT = 400
MIXTURES = [{"smooth": 0.5, "local": 0.3}, {"smooth": 0.3}, {"smooth": 0.2, "local": 0.1}, {"smooth": 0.5, "deviation": 2.0, "local": 0.3, "uneven": True}]


def random_groups(seed: int, sizes: tuple[int, ...] = (1, 2, 10, 60), count: int = 80) -> np.ndarray:
    """Membership `(G, count)` of groups drawn at random."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(count) < size for size in sizes])


def small(seed: int, members: int = 5) -> Planted:
    return planted(seed, smooth=0.5, local=0.3, deviation=0.5, uneven=True, targets=6, count=80, members=members)


def estimators(case: Planted) -> list[tuple[Estimator, np.ndarray]]:
    """`best` and `median`, each with what it asks of the targets."""
    best = case.chosen()[0]
    assert best.name == "best"
    return [(best, best.shape_of(case.targets)), (Estimator("median", {}), np.zeros((6, 0)))]


@given(seed=st.integers(0, 100))
def test_a_group_is_the_sum_of_its_items_and_a_group_of_one_is_that_item(seed: int) -> None:
    case, inside = small(seed), random_groups(seed)
    for estimator, shape in estimators(case):
        items, errors = estimator.apply(case.members, shape)
        sums, _ = estimator.group(case.members, shape, inside)
        np.testing.assert_allclose(sums, items @ inside.T, rtol=1e-5, atol=1e-5)
        alone, alone_errors = estimator.group(case.members, shape, np.eye(80, dtype=bool))
        np.testing.assert_allclose(alone, items, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(alone_errors, errors, rtol=1e-4)


@given(seed=st.integers(0, 100))
def test_the_error_of_a_sum_is_that_of_the_items_joint_distribution(seed: int) -> None:
    """Against the covariance of all pairs of items, written down entry by entry as the chapter on it says."""
    case, inside = small(seed), random_groups(seed)
    estimator, shape = estimators(case)[0]
    assert estimator.noise is not None and estimator.shrinkage is not None and estimator.basis is not None
    known = estimator.shrinkage.posterior(case.members / estimator.noise, estimator.basis.vectors, shape)
    vectors, noise = known.vectors.astype(np.float64), estimator.noise.astype(np.float64)
    _, errors = estimator.group(case.members, shape, inside)
    for target in range(6):
        covariance = (vectors * known.independent[target]) @ vectors.T
        shared = [vectors @ known.reaction[target], *(vectors[:, place] @ known.weight[target, place] for place in known.bins)]
        covariance += sum(np.outer(one, one) for one in shared)
        covariance += known.outside_variance[target] * (np.eye(80) - vectors @ vectors.T)
        covariance += known.shift[target] * (1 - np.eye(80))
        covariance *= np.outer(noise, noise)
        for group, error in zip(inside, errors[target], strict=True):
            np.testing.assert_allclose(error**2, covariance[np.ix_(group, group)].sum(), rtol=1e-6)


def coherent_groups(case: Planted, size: int) -> np.ndarray:
    """Groups of items that are alike: the first ones along a feature, for a residual."""
    ways = [case.train.features[:, feature] * case.train.residuals[:, label] for feature in range(8) for label in range(3)]
    return np.stack([np.argsort(np.argsort(-way)) < size for way in ways])


@pytest.mark.parametrize("size", [10, 40])
def test_errors_of_sums_are_those_of_the_sums(size: int) -> None:
    """The truth lies within 1.96 errors in about 95 % of cases, for random groups and for groups of like items."""
    covered = []
    for seed in range(2):
        for mixture in MIXTURES:
            case = planted(seed, **mixture)
            estimator = case.chosen()[0]
            for inside in (random_groups(seed, (size,) * 24, COUNT), coherent_groups(case, size)):
                sums, errors = estimator.group(case.members, estimator.shape_of(case.targets), inside)
                covered.append((np.abs(sums - case.truth @ inside.T) < 1.96 * errors).mean())
    assert 0.92 < np.mean(covered) < 0.99
    assert np.min(covered) > 0.8


def test_what_like_items_share_does_not_average_out() -> None:
    """How strongly a target reacts is one number: the error of its proponents' sum is far above the root of the summed squares."""
    case = planted(0, smooth=0.3)
    estimator, estimates, errors = case.chosen()
    shape, ratios = estimator.shape_of(case.targets), []
    for target in range(len(estimates)):
        inside = np.argsort(np.argsort(-estimates[target]))[None] < 40
        _, error = estimator.group(case.members[:, [target]], shape[[target]], inside)
        ratios.append(error[0, 0] / np.sqrt(np.square(errors[target, inside[0]]).sum()))
    assert np.median(ratios) > 1.5


def test_a_mean_that_the_estimates_miss_counts_in_a_sum() -> None:
    """All influences shifted alike: single estimates leave that out, and the error of a large group covers it."""
    case, inside = planted(0, smooth=0.3), random_groups(0, (100,) * 20, COUNT)
    estimator = case.chosen()[0]
    shape, shifted = estimator.shape_of(case.targets), case.members + 0.2
    sums, errors = estimator.group(shifted, shape, inside)
    assert (np.abs(sums - (case.truth + 0.2) @ inside.T) < 1.96 * errors).mean() > 0.95
    _, before = estimator.group(case.members, shape, inside)
    assert np.median(errors / before) > 2
    np.testing.assert_allclose(estimator.apply(shifted, shape)[1], estimator.apply(case.members, shape)[1], rtol=1e-3)


def test_the_error_of_a_sum_of_medians_comes_from_the_members_own_sums() -> None:
    case, inside = small(0), random_groups(0)
    _, errors = Estimator("median", {}).group(case.members, np.zeros((6, 0)), inside)
    sums = np.array([[[member[target, group].sum() for group in inside] for target in range(6)] for member in case.members])
    np.testing.assert_allclose(errors, np.sqrt(np.pi / 2) * sums.std(0, ddof=1) / np.sqrt(5))


def test_one_member_has_sums_and_no_errors() -> None:
    case, inside = small(0, members=1), random_groups(0)
    estimator = case.chosen()[0]
    sums, errors = estimator.group(case.members, estimator.shape_of(case.targets), inside)
    np.testing.assert_allclose(sums, case.members[0] @ inside.T)
    assert np.isnan(errors).all()
