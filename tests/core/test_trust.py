"""Words of trust: SciPy's procedure on chances of wrong signs, and the rate that it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import false_discovery_control, norm

from core.estimators.trust import NOISE, RATE, STRONG, WEAK, strong, trust_words, wrong_sign
from tests.core.planted_influences import planted

CHANCES = arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 0.5) | st.sampled_from([0.0, 1e-9, 0.01, 0.02, 0.04]))


@given(chances=CHANCES)
def test_strong_items_are_scipy_s_discoveries(chances: np.ndarray) -> None:
    adjusted = false_discovery_control(chances)
    clear = np.abs(adjusted - RATE) > 1e-12  # rounding decides on the edge itself
    assert (strong(chances) == (adjusted <= RATE))[clear].all()


def test_targets_are_judged_one_by_one() -> None:
    chances = np.random.default_rng(0).beta(0.2, 2, size=(6, 30)) / 2
    np.testing.assert_array_equal(strong(chances), np.stack([strong(row) for row in chances]))
    assert 0 < strong(chances).sum() < chances.size


@given(chances=CHANCES, top=st.integers(1, 20))
def test_the_ends_of_a_ranking_never_show_more_strong_items_than_all_of_it(chances: np.ndarray, top: int) -> None:
    known = np.random.default_rng(0).permutation(len(chances))[:top]
    assert (strong(chances[known], len(chances)) <= strong(chances)[known]).all()
    ends = np.argsort(chances, kind="stable")[:top]
    if strong(chances).sum() <= len(ends):  # nothing strong is missing, so nothing is lost
        np.testing.assert_array_equal(strong(chances[ends], len(chances)), strong(chances)[ends])


@given(values=arrays(np.float64, 12, elements=st.floats(-5, 5)), errors=arrays(np.float64, 12, elements=st.floats(0.1, 3)))
def test_the_chance_of_a_wrong_sign_is_the_normal_tail(values: np.ndarray, errors: np.ndarray) -> None:
    np.testing.assert_allclose(wrong_sign(values, errors), norm.sf(np.abs(values), scale=errors))


@pytest.mark.parametrize("error", [np.nan, np.inf, 0.0])
def test_without_an_error_nothing_is_told_from_noise(error: float) -> None:
    values, errors = np.array([-3.0, 0.0, 100.0]), np.full(3, error)
    assert (wrong_sign(values, errors) == 0.5).all()
    assert (trust_words(values, errors) == NOISE).all()


def test_words_are_strong_weak_or_noise() -> None:
    values = np.array([-9.0, 1.7, 1.0, 0.0] + [0.1] * 20)
    assert trust_words(values, np.ones(24)).tolist() == [STRONG, WEAK] + [NOISE] * 22
    assert trust_words(values[:1], np.ones(1), 10**20).tolist() == [WEAK]


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_at_most_one_strong_sign_in_twenty_is_wrong(spread: float) -> None:
    """Signals of known sign seen through normal noise."""
    shares = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        truth = spread * rng.standard_t(3, size=400)
        seen = truth + rng.normal(size=400)
        found = trust_words(seen, np.ones(400)) == STRONG
        shares.append((np.sign(seen) != np.sign(truth))[found].mean() if found.any() else 0)
    assert np.mean(shares) <= RATE


@pytest.mark.parametrize("mixture", [{"smooth": 0.5, "local": 0.3}, {"local": 1.0}, {"smooth": 0.5, "local": 0.5, "uneven": True, "members": 4}])
def test_strong_estimates_of_best_have_the_right_sign(mixture: dict[str, float]) -> None:
    wrong, count = 0.0, 0
    for seed in range(4):
        case = planted(seed, **mixture)
        _, estimate, error = case.chosen()
        found = strong(wrong_sign(estimate, error))
        wrong, count = wrong + (np.sign(estimate) != np.sign(case.truth))[found].sum(), count + int(found.sum())
    assert count > 1000
    assert wrong / count <= RATE
