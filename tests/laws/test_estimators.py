"""Laws of estimators: which is chosen, what it misses of injected influences, scale, order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnover.attribution.estimators.estimator as estimator_module
from tests.helpers.injected_influences import Injected, injected
from turnover import TurnoverError
from turnover.attribution.estimators.estimator import (
    Described,
    Estimator,
    choose_estimator,
    row_pearson,
)
from turnover.attribution.estimators.shrinkage import (
    Shrinkage,
    noise_shares,
)
from turnover.attribution.estimators.significance import freedom_of, wrong_sign

SEEDS = range(3)
Drawn = tuple[Injected, Estimator, np.ndarray, np.ndarray]
MIXTURES: list[dict[str, Any]] = [
    *({"smooth": 1.0}, {"smooth": 0.3}, {"smooth": 0.5, "local": 0.3}),
    *({"smooth": 0.2, "local": 0.1}, {"smooth": 0.5, "deviation": 2.0, "local": 0.2}),
    *({"smooth": 0.5, "local": 0.3, "uneven": True}, {"local": 0.3}),
    *({"local": 1.0, "noise": 0.3}, {"smooth": -1.0, "local": 0.3}),
]
UNEVEN = {"smooth": 0.5, "deviation": 2.0, "local": 0.3, "uneven": True}
seeds = st.integers(0, 100)


@lru_cache
def _drawn(seed: int, mixture: frozenset[tuple[str, Any]]) -> Drawn:
    case = injected(seed, **dict(mixture))
    return case, *case.chosen()


def drawn(seed: int, mixture: Mapping[str, Any]) -> Drawn:
    """Influences whose truth is known, the estimator that is chosen, its estimates and errors."""
    return _drawn(seed, frozenset(mixture.items()))


def small(seed: int, members: int = 5) -> Injected:
    mixture = {"smooth": 0.5, "local": 0.3, "deviation": 0.5, "uneven": True}
    return injected(seed, **mixture, targets=6, count=80, members=members)


def groups(seed: int, sizes: tuple[int, ...] = (1, 2, 10, 60), count: int = 80) -> np.ndarray:
    """Membership `(G, count)` of groups drawn at random."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(count) < size for size in sizes])


# Which estimator is chosen


def test_one_member_is_shown_as_it_is_without_an_error() -> None:
    case, estimator, estimate, error = drawn(0, {"smooth": 0.5, "members": 1})
    assert (estimator.name, estimator.agreement, estimator.noise) == ("raw", {}, None)
    assert np.array_equal(estimate, case.members[0]) and np.isnan(error).all()
    coefficients, inside = estimator.coefficients_of(case.targets), groups(0, count=400)
    assert coefficients.shape == (40, 0)
    sums, errors = estimator.group(case.members, coefficients, inside)
    np.testing.assert_allclose(sums, case.members[0] @ inside.T)
    assert np.isnan(errors).all()


@pytest.mark.parametrize("members", [2, 3])
@pytest.mark.parametrize("targets", [1, 4])
def test_few_members_and_few_targets_are_no_obstacle(members: int, targets: int) -> None:
    mixture = {"smooth": 0.5, "local": 0.3, "members": members, "targets": targets}
    case, estimator, estimate, error = drawn(0, mixture)
    assert (estimator.name, estimator.agreement) == ("best", {})
    assert estimate.shape == error.shape == (targets, 400)
    assert np.isfinite(estimate).all() and (error > 0).all()
    assert case.missed(estimate) < case.missed(case.median())


def test_a_candidate_that_predicts_worse_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were an item's own part thrown away, the median would be better for local signal."""
    real = estimator_module.fit_shrinkage

    def filtered(*arguments: np.ndarray) -> Shrinkage:
        return replace(real(*arguments), own=0.0)

    monkeypatch.setattr(estimator_module, "fit_shrinkage", filtered)
    case = injected(0, local=1.0, noise=0.3)
    estimator, estimate, error = case.chosen()
    assert (estimator.name, estimator.basis, estimator.shrinkage) == ("median", None, None)
    assert estimator.agreement["median"] > estimator.agreement["best"]
    assert np.array_equal(estimate, case.median())
    np.testing.assert_allclose(error, case.members.std(0, ddof=1) * np.sqrt(np.pi / 2 / 8))


def test_agreement_is_between_one_half_of_the_members_and_the_other() -> None:
    case, estimator, _, _ = drawn(0, {"smooth": 0.5, "members": 6})
    halves = zip(*(np.median(case.members[half::2], 0) for half in (0, 1)), strict=True)
    expected = np.mean([np.corrcoef(one, other)[0, 1] for one, other in halves])
    agreement = estimator.agreement
    assert agreement["median"] == pytest.approx(expected, abs=0.02)  # κ changes little here
    assert agreement["best"] > agreement["median"]


@given(seed=st.integers(0, 1000), targets=st.integers(1, 5))
def test_rows_correlate_as_numpy_says(seed: int, targets: int) -> None:
    first, second = np.random.default_rng(seed).normal(size=(2, targets, 8))
    rows = zip(first, second, strict=True)
    expected = [np.corrcoef(one, other)[0, 1] for one, other in rows]
    assert row_pearson(first, second) == pytest.approx(expected)
    assert not row_pearson(np.ones((2, 4)), np.arange(8.0).reshape(2, 4)).any()


@pytest.mark.parametrize(("members", "width"), [(1, 29), (2, 31)])
def test_another_number_of_items_is_one_line(members: int, width: int) -> None:
    case = injected(0, count=30, targets=3)
    said = f"^{width} influences a target for 30 training items; compute one for each$"
    with pytest.raises(TurnoverError, match=said):
        choose_estimator(np.zeros((members, 3, width)), case.train, case.targets)


@pytest.mark.parametrize("members", [2, 4])
def test_influences_that_are_all_zero_stay_zero(members: int) -> None:
    case, nothing = injected(0, count=30, targets=3), np.zeros((members, 3, 30))
    estimator = choose_estimator(nothing, case.train, case.targets)
    estimate, error = estimator.apply(nothing, estimator.coefficients_of(case.targets))
    assert (estimate == 0).all() and np.isfinite(error).all()


# What estimates miss


@pytest.mark.parametrize("members", [2, 3, 8])
@pytest.mark.parametrize("uneven", [False, True])
def test_noise_alone_shrinks_to_nothing_whatever_the_features_say(
    members: int, uneven: bool
) -> None:
    for seed in SEEDS:
        case, estimator, estimate, _ = drawn(seed, {"members": members, "uneven": uneven})
        assert estimator.name == "best"
        assert np.square(estimate).mean() < 0.02 * np.square(case.median()).mean()


def test_what_noise_alone_shows_is_zero_on_average_even_for_few_targets() -> None:
    """τ² before it is cut off at zero: about half of the seeds are below, and the rest small."""
    found = []
    for seed in range(40):
        estimator = injected(seed, targets=6, count=200, members=2, uneven=True).chosen()[0]
        assert estimator.shrinkage
        found.append(estimator.shrinkage.own)
    assert 8 <= np.count_nonzero(found) <= 32
    assert np.mean(found) < 0.08  # of a variance of 1


@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_estimate_is_no_worse_than_the_median_and_the_filter(mixture: dict[str, Any]) -> None:
    """But for a few per cent of the better one, and of what the median's noise amounts to.

    Smooth signal alone is found in far more noise.
    """
    cases = [drawn(seed, mixture) for seed in SEEDS]
    assert {estimator.name for _, estimator, _, _ in cases} == {"best"}
    missed = [
        [case.missed(one) for one in (estimate, case.median(), case.filtered())]
        for case, _, estimate, _ in cases
    ]
    made, middle, filtered = np.mean(missed, 0)
    assert made < 1.03 * min(middle, filtered) + 0.005 * middle
    if set(mixture) == {"smooth"}:
        assert all(own < 0.05 * median for own, median, _ in missed)


@pytest.mark.parametrize("seed", SEEDS)
def test_signal_of_every_kind_is_kept(seed: int) -> None:
    """In the basis beside the shape, which a filter of the shape loses; and of single items."""
    case, _, estimate, _ = drawn(seed, {"smooth": 0.5, "deviation": 2.0, "local": 0.1})
    others = case.missed(case.median()), case.missed(case.filtered())
    assert case.missed(estimate) < 0.5 * min(others)
    case, _, estimate, _ = drawn(seed, {"local": 1.0, "noise": 0.1})
    middle = case.median()
    difference = estimate - (middle - middle.mean(1, keepdims=True))
    assert np.square(difference).mean() < 1e-3 * np.square(middle).mean()


@pytest.mark.parametrize("members", [2, 3, 4, 8])
@pytest.mark.parametrize(
    "mixture",
    [{"local": 0.3}, {"smooth": 0.5, "local": 0.3}, {"smooth": 1.0, "deviation": 2.0}, UNEVEN],
)
def test_errors_are_those_of_the_estimates(mixture: dict[str, Any], members: int) -> None:
    """Squared distance from the truth, in units of the error: 1 on average."""
    cases = [drawn(seed, {**mixture, "members": members}) for seed in SEEDS]
    ratios = [np.square((made - case.truth) / error).mean() for case, _, made, error in cases]
    assert 0.7 < np.mean(ratios) < 1.4


@pytest.mark.parametrize("masks", [8, None])
def test_groups_in_pure_noise_are_seldom_called_sure(masks: int | None) -> None:
    """Of 1,000 random groups at most 6 % at a rate of 5 %, with four members and whoever shares."""
    called = []
    for seed in range(10):
        case, rng = injected(seed, members=4), np.random.default_rng(seed)
        members = case.members
        if masks:
            pairs = rng.normal(size=(4, 40, masks // 2))
            by_mask = np.stack([pairs, -pairs], 3).reshape(4, 40, masks)
            shared = zip(by_mask, rng.integers(0, masks, (4, 400)), strict=True)
            members = np.stack([values[:, cohorts] for values, cohorts in shared])
        estimator = choose_estimator(members, case.train, case.targets)
        inside = groups(seed, tuple(rng.integers(1, 100, 100)), 400)
        sums, errors = estimator.group(members, estimator.coefficients_of(case.targets), inside)
        freedom = freedom_of(estimator.name, 4, masks)
        called.append((wrong_sign(sums, errors, freedom) <= 0.05).mean())
    assert np.mean(called) <= 0.06


# Noise of items


def test_the_share_of_noise_of_each_item_is_found_up_to_scale() -> None:
    case = injected(0, targets=96, uneven=True, smooth=0.5)
    found = noise_shares(case.members)
    assert np.corrcoef(np.log(found), np.log(case.noise))[0, 1] > 0.95
    loud = case.noise > np.median(case.noise)
    ratios = found[loud] / case.noise[loud]
    assert np.std(ratios) / np.mean(ratios) < 0.15
    assert np.square(found).mean() == pytest.approx(1, rel=1e-4)
    for targets in (2, 4, 96):  # equal noise, though chance makes it look uneven
        assert noise_shares(injected(0, targets=targets).members).std() < 0.2


# Symmetries


@given(seed=seeds, members=st.integers(2, 5), factor=st.sampled_from([1e-6, 0.01, 7.0, 1e4]))
def test_scale_and_order_of_the_influences_are_those_of_the_estimates(
    seed: int, members: int, factor: float
) -> None:
    case = small(seed, members)
    estimator, *made = case.chosen()
    order = np.random.default_rng(seed).permutation(80)
    train = Described(case.train.features[order], case.train.residuals[order])
    for values, items, scale, places in (
        (factor * case.members, case.train, factor, np.arange(80)),
        (case.members[..., order], train, 1.0, order),
    ):
        other = choose_estimator(values, items, case.targets)
        assert other.name == estimator.name
        again = other.apply(values, other.coefficients_of(case.targets))
        for one, moved in zip(made, again, strict=True):
            near = {"rtol": 1e-3, "atol": 1e-4 * scale}
            np.testing.assert_allclose(moved, scale * one[:, places], **near)


def test_a_target_alone_is_estimated_as_in_company() -> None:
    case, estimator, *together = drawn(0, {"smooth": 0.5, "local": 0.3})
    coefficients = estimator.coefficients_of(case.targets)
    apart = estimator.apply(case.members[:, 7:8], coefficients[7:8])
    for one, alone in zip(together, apart, strict=True):
        np.testing.assert_allclose(alone[0], one[7], rtol=1e-6)


@given(seed=seeds)
def test_what_the_prior_foresees_is_the_estimate_without_what_items_do_otherwise(seed: int) -> None:
    case = small(seed)
    estimator, *_ = case.chosen()
    coefficients = estimator.coefficients_of(case.targets)
    np.testing.assert_allclose(
        estimator.foreseen(case.members, coefficients), case.filtered(), rtol=1e-5, atol=1e-6
    )
    assert replace(estimator, basis=None).foreseen(case.members, coefficients) is None


# Sums over groups of items


def both(case: Injected) -> list[tuple[Estimator, np.ndarray]]:
    """`best` and `median`, each with what it asks of the targets."""
    best = case.chosen()[0]
    assert best.name == "best"
    return [(best, best.coefficients_of(case.targets)), (Estimator("median", {}), np.zeros((6, 0)))]


@given(seed=seeds)
def test_a_group_is_the_sum_of_its_items_and_a_group_of_one_is_that_item(seed: int) -> None:
    case, inside = small(seed), groups(seed)
    for estimator, coefficients in both(case):
        items, errors = estimator.apply(case.members, coefficients)
        sums, own = estimator.group(case.members, coefficients, inside)
        np.testing.assert_allclose(sums, items @ inside.T, rtol=1e-5, atol=1e-5)
        alone, alone_errors = estimator.group(case.members, coefficients, np.eye(80, dtype=bool))
        np.testing.assert_allclose(alone, items, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(alone_errors, errors, rtol=1e-4)
    np.testing.assert_allclose(items, np.sort(case.members, 0)[2])  # the median, of five
    spread = (case.members @ inside.T).std(0, ddof=1)
    np.testing.assert_allclose(own, np.sqrt(np.pi / 2) * spread / np.sqrt(5))


@given(seed=seeds)
def test_the_error_of_a_sum_is_that_of_the_items_joint_distribution(seed: int) -> None:
    """Against the covariance of all pairs of items, written down entry by entry."""
    case, inside = small(seed), groups(seed)
    estimator, coefficients = both(case)[0]
    assert estimator.noise is not None and estimator.shrinkage and estimator.basis
    known = estimator.shrinkage.posterior(
        case.members, estimator.noise, estimator.basis, coefficients
    )
    vectors = known.vectors.astype(np.float64)
    _, errors = estimator.group(case.members, coefficients, inside)
    for target in range(6):
        covariance = (vectors * known.independent[target]) @ vectors.T
        covariance += sum(
            np.outer(one, one) for one in (vectors @ part[target] for part in known.shared)
        )
        covariance += known.shift[target] * (1 - np.eye(80))
        outside = known.outside_variance[target]
        variances = [
            covariance[np.ix_(group, group)].sum()
            + outside[group].sum() * (1 - np.square(vectors[group].sum(0)).sum() / group.sum())
            for group in inside
        ]
        np.testing.assert_allclose(errors[target] ** 2, variances, rtol=1e-6)


def alike(case: Injected, size: int) -> np.ndarray:
    """Groups of items that are alike: the first ones along a feature, for a residual."""
    features, residuals = case.train.features.T, case.train.residuals.T
    ways = [feature * residual for feature in features[:8] for residual in residuals]
    return np.stack([np.argsort(np.argsort(-way)) < size for way in ways])


@pytest.mark.parametrize("size", [10, 40])
def test_errors_of_sums_are_those_of_the_sums(size: int) -> None:
    """The truth lies within 1.96 errors in about 95 %, for random groups and for like items."""
    covered = []
    for mixture in (MIXTURES[2], MIXTURES[1], MIXTURES[3], UNEVEN):
        for seed in range(2):
            case, estimator, _, _ = drawn(seed, mixture)
            for inside in (groups(seed, (size,) * 24, 400), alike(case, size)):
                coefficients = estimator.coefficients_of(case.targets)
                sums, errors = estimator.group(case.members, coefficients, inside)
                covered.append((np.abs(sums - case.truth @ inside.T) < 1.96 * errors).mean())
    assert 0.92 < np.mean(covered) < 0.99
    assert np.min(covered) > 0.8


def test_what_like_items_share_does_not_average_out() -> None:
    """How a target reacts is one number: its proponents' sum errs by far more than apart."""
    case, estimator, estimates, errors = drawn(0, {"smooth": 0.3})
    coefficients, ratios = estimator.coefficients_of(case.targets), []
    for target in range(len(estimates)):
        inside = np.argsort(np.argsort(-estimates[target]))[None] < 40
        _, error = estimator.group(case.members[:, [target]], coefficients[[target]], inside)
        ratios.append(error[0, 0] / np.sqrt(np.square(errors[target, inside[0]]).sum()))
    assert np.median(ratios) > 1.5


def test_a_mean_that_the_estimates_miss_counts_in_a_sum() -> None:
    """All influences shifted alike: the error of a large group covers what estimates leave out."""
    case, estimator, _, alone = drawn(0, {"smooth": 0.3})
    inside = groups(0, (100,) * 20, 400)
    coefficients, shifted = estimator.coefficients_of(case.targets), case.members + 0.2
    sums, errors = estimator.group(shifted, coefficients, inside)
    assert (np.abs(sums - (case.truth + 0.2) @ inside.T) < 1.96 * errors).mean() > 0.95
    _, before = estimator.group(case.members, coefficients, inside)
    assert np.median(errors / before) > 2
    np.testing.assert_allclose(estimator.apply(shifted, coefficients)[1], alone, rtol=1e-3)
