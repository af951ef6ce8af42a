"""`best` on influences whose truth is known: no signal, all signal, and errors that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.estimators.estimator import Described, choose_estimator
from core.estimators.shrinkage import fit_shrinkage, noise_shares, other_shares
from tests.helpers.planted_influences import Planted, planted

SEEDS = range(3)
MIXTURES = [
    {"smooth": 1.0},
    {"smooth": 0.3},
    {"smooth": 0.5, "local": 0.3},
    {"smooth": 0.2, "local": 0.1},
    {"smooth": 0.5, "deviation": 2.0, "local": 0.2},
    {"smooth": 0.5, "local": 0.3, "uneven": True},
    {"local": 0.3},
    {"local": 1.0, "noise": 0.3},
    {"smooth": -1.0, "local": 0.3},
]


# Estimates


@pytest.mark.parametrize("members", [2, 3, 8])
@pytest.mark.parametrize("uneven", [False, True])
def test_noise_alone_shrinks_to_nothing_whatever_the_features_say(members: int, uneven: bool) -> None:
    for seed in SEEDS:
        case = planted(seed, members=members, uneven=uneven)
        estimator, estimate, _ = case.chosen()
        assert estimator.name == "best"
        assert np.square(estimate).mean() < 0.02 * np.square(case.median()).mean()


def test_what_noise_alone_shows_is_zero_on_average_even_for_few_targets() -> None:
    """τ² before it is cut off at zero: about half of the seeds come out below, and the rest small."""
    found = []
    for seed in range(40):
        shrinkage = planted(seed, targets=6, count=200, members=2, uneven=True).chosen()[0].shrinkage
        assert shrinkage
        found.append(shrinkage.own)
    assert 8 <= np.count_nonzero(found) <= 32
    assert np.mean(found) < 0.03  # of a variance of 1 / 2


def test_a_weight_no_larger_than_its_error_is_zero() -> None:
    """Without signal a normal z-value exceeds 1 in 16 % of all bins, and only these keep a weight."""
    weights = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        vectors = np.linalg.qr(rng.normal(size=(100, 12)))[0]
        weights.append(fit_shrinkage(rng.normal(size=(4, 20, 100)), vectors, rng.normal(size=(20, 12))).weight)
    assert 0.05 < np.mean(np.array(weights) > 0) < 0.3


@pytest.mark.parametrize("smooth", [0.3, 1.0])
def test_smooth_signal_is_found_in_far_more_noise(smooth: float) -> None:
    for seed in SEEDS:
        case = planted(seed, smooth=smooth)
        assert case.missed(case.chosen()[1]) < 0.05 * case.missed(case.median())


def test_signal_in_the_basis_that_is_not_the_shape_s_is_kept() -> None:
    """A filter of the shape alone loses it, and the median keeps all the noise."""
    for seed in SEEDS:
        case = planted(seed, smooth=0.5, deviation=2.0, local=0.1)
        assert case.missed(case.chosen()[1]) < 0.5 * min(case.missed(case.median()), case.missed(case.filtered()))


def test_local_signal_with_little_noise_is_the_median_but_for_its_mean() -> None:
    for seed in SEEDS:
        case = planted(seed, local=1.0, noise=0.1)
        middle = case.median()
        difference = case.chosen()[1] - (middle - middle.mean(1, keepdims=True))
        assert np.square(difference).mean() < 1e-3 * np.square(middle).mean()


def cases(mixture: dict[str, float]) -> list[Planted]:
    return [planted(seed, **mixture) for seed in SEEDS]


@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_estimate_is_no_worse_than_the_median_and_the_filter(mixture: dict[str, float]) -> None:
    """But for a few per cent of the better one, and of what the median's noise amounts to."""
    missed = [[case.missed(one) for one in (case.chosen()[1], case.median(), case.filtered())] for case in cases(mixture)]
    made, middle, filtered = np.mean(missed, 0)
    assert made < 1.03 * min(middle, filtered) + 0.005 * middle


@pytest.mark.parametrize("members", [2, 3, 4, 8])
@pytest.mark.parametrize("mixture", [{"local": 0.3}, {"smooth": 0.5, "local": 0.3}, {"smooth": 0.5, "deviation": 2.0, "local": 0.3, "uneven": True}])
def test_errors_are_those_of_the_estimates(mixture: dict[str, float], members: int) -> None:
    """Squared distance from the truth, in units of the error: 1 on average."""
    ratios = []
    for seed in SEEDS:
        case = planted(seed, members=members, **mixture)
        _, estimate, error = case.chosen()
        ratios.append(np.square((estimate - case.truth) / error).mean())
    assert 0.7 < np.mean(ratios) < 1.4


# Noise of items


def test_the_share_of_noise_of_each_item_is_found_up_to_scale() -> None:
    case = planted(0, targets=96, uneven=True, smooth=0.5)
    found = noise_shares(case.members)
    assert np.corrcoef(np.log(found), np.log(case.noise))[0, 1] > 0.95
    loud = case.noise > np.median(case.noise)
    ratios = found[loud] / case.noise[loud]
    assert np.std(ratios) / np.mean(ratios) < 0.15
    assert np.square(found).mean() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("targets", [2, 4, 96])
def test_equal_noise_is_seen_as_equal_though_chance_makes_it_look_uneven(targets: int) -> None:
    assert noise_shares(planted(0, targets=targets).members).std() < 0.2


def test_the_shares_for_a_target_come_from_all_others() -> None:
    members = planted(0, targets=5, uneven=True).members
    changed = members.copy()
    changed[:, 2] *= np.random.default_rng(1).normal(size=changed[:, 2].shape)
    np.testing.assert_allclose(other_shares(members)[2], noise_shares(np.delete(members, 2, 1)), rtol=0.05)
    assert np.abs(other_shares(members)[2] / other_shares(changed)[2] - 1).max() < 0.05 < np.abs(other_shares(members)[0] / other_shares(changed)[0] - 1).max()
    assert (other_shares(members[:, :1]) == 1).all()


# Symmetries


@given(seed=st.integers(0, 100), members=st.integers(2, 5), factor=st.sampled_from([1e-6, 0.01, 7.0, 1e4]))
def test_estimates_and_errors_have_the_influences_unit(seed: int, members: int, factor: float) -> None:
    case = planted(seed, smooth=0.5, local=0.3, targets=6, count=80, members=members)
    estimator, *made = case.chosen()
    other = choose_estimator(factor * case.members, case.train, case.targets)
    assert other.name == estimator.name
    for one, scaled in zip(made, other.apply(factor * case.members, other.shape_of(case.targets)), strict=True):
        np.testing.assert_allclose(scaled, factor * one, rtol=1e-3, atol=1e-4 * factor)


@given(seed=st.integers(0, 100))
def test_another_order_of_the_training_items_orders_the_estimates_so(seed: int) -> None:
    case = planted(seed, smooth=0.5, local=0.3, targets=6, count=80, uneven=True)
    order = np.random.default_rng(seed).permutation(80)
    train = Described(case.train.features[order], case.train.residuals[order])
    _, *made = case.chosen()
    other = choose_estimator(case.members[..., order], train, case.targets)
    for one, moved in zip(made, other.apply(case.members[..., order], other.shape_of(case.targets)), strict=True):
        np.testing.assert_allclose(moved, one[:, order], rtol=1e-3, atol=1e-4)


def test_a_target_alone_is_estimated_as_in_company() -> None:
    case = planted(0, smooth=0.5, local=0.3)
    estimator, *together = case.chosen()
    shape = estimator.shape_of(case.targets)
    for one, alone in zip(together, estimator.apply(case.members[:, 7:8], shape[7:8]), strict=True):
        np.testing.assert_allclose(alone[0], one[7], rtol=1e-6)
