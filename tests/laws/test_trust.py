"""Words of trust: SciPy's procedure on chances of wrong signs, and the rate that it promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import false_discovery_control, norm, t

from tests.helpers.injected_influences import injected
from turnover.attribution.estimators.significance import (
    NOISE,
    RATE,
    STRONG,
    WEAK,
    freedom_of,
    strong,
    trust_words,
    wrong_sign,
)

CHANCE = st.floats(0, 0.5) | st.sampled_from([0.0, 1e-9, 0.01, 0.02, 0.04])
CHANCES = arrays(np.float64, st.integers(1, 40), elements=CHANCE)


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
def test_the_ends_of_a_ranking_never_show_more_strong_items_than_all_of_it(
    chances: np.ndarray, top: int
) -> None:
    known = np.random.default_rng(0).permutation(len(chances))[:top]
    assert (strong(chances[known], len(chances)) <= strong(chances)[known]).all()
    ends = np.argsort(chances, kind="stable")[:top]
    if strong(chances).sum() <= len(ends):  # nothing strong is missing, so nothing is lost
        np.testing.assert_array_equal(strong(chances[ends], len(chances)), strong(chances)[ends])


@given(
    ratios=arrays(np.float64, 12, elements=st.floats(-50, 50)),
    error=st.floats(0.1, 3),
    freedom=st.integers(1, 200),
)
def test_the_chance_of_a_wrong_sign_is_the_tail_of_the_normal_or_of_student_s_law(
    ratios: np.ndarray, error: float, freedom: int
) -> None:
    """Student's for errors that are guessed from a few members, which only the median's are."""
    values, errors, near = error * ratios, np.full(12, error), {"rtol": 1e-8, "atol": 1e-14}
    np.testing.assert_allclose(wrong_sign(values, errors), norm.sf(np.abs(ratios)), **near)
    expected = t.sf(np.abs(ratios), freedom)
    np.testing.assert_allclose(wrong_sign(values, errors, freedom), expected, **near)
    assert [freedom_of(name, 8) for name in ("median", "best", "raw")] == [7, None, None]


@pytest.mark.parametrize("freedom", [None, 1, 2, 7])
@pytest.mark.parametrize("error", [np.nan, np.inf, 0.0])
def test_without_an_error_nothing_is_told_from_noise(error: float, freedom: int | None) -> None:
    values, errors = np.array([-3.0, 0.0, 100.0]), np.full(3, error)
    assert (wrong_sign(values, errors, freedom) == 0.5).all()
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
        wrong = (np.sign(seen) != np.sign(truth))[found]
        shares.append(wrong.mean() if found.any() else 0)
    assert np.mean(shares) <= RATE


@pytest.mark.parametrize(
    "mixture",
    [
        {"smooth": 0.5, "local": 0.3},
        {"local": 1.0},
        {"smooth": 0.5, "local": 0.5, "uneven": True, "members": 4},
        {"smooth": 0.5, "local": 0.5, "members": 4},
    ],
)
def test_strong_estimates_of_best_have_the_right_sign(
    mixture: dict[str, Any],
) -> None:
    """Also the ten largest of each target, chosen by the members that call them strong."""
    wrong, first, inside = [], [], []
    for seed in range(4):
        case = injected(seed, **mixture)
        _, estimate, error = case.chosen()
        found = strong(wrong_sign(estimate, error))
        flipped = np.sign(estimate) != np.sign(case.truth)
        wrong += flipped[found].tolist()
        largest = np.abs(estimate) >= np.sort(np.abs(estimate), 1)[:, [-10]]
        first += flipped[found & largest].tolist()
        inside += (np.abs(estimate - case.truth) / error <= 1.96)[largest].tolist()
    assert len(wrong) > 1000 and np.mean(wrong) <= RATE
    assert len(first) > 400 and np.mean(first) <= RATE
    assert np.mean(inside) > 0.85


def rates(members: int, top: int | None) -> dict[int | None, float]:
    """Mean share of wrong signs among strong medians of 300 targets.

    By Student's law and by the normal one; of the `top` largest alone if given. Nineteen items of
    twenty have a tiny influence, the others one as large as a member's noise.
    """
    wrong: dict[int | None, list[float]] = {members - 1: [], None: []}
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=400) * np.where(rng.random(400) < 0.05, 1, 0.01)
        values = truth + rng.normal(size=(members, 400))
        seen, spread = np.median(values, 0), values.std(0, ddof=1)
        for freedom in wrong:
            found = strong(wrong_sign(seen, spread * (np.pi / 2 / members) ** 0.5, freedom))
            if top:
                found &= np.abs(seen) >= np.sort(np.abs(seen))[-top]
            flipped = (np.sign(seen) != np.sign(truth))[found]
            wrong[freedom].append(flipped.mean() if found.any() else 0.0)
    return {freedom: float(np.mean(shares)) for freedom, shares in wrong.items()}


@pytest.mark.parametrize("members", [4, 8, 16])
@pytest.mark.parametrize("top", [None, 10])
def test_medians_of_few_members_keep_the_rate(members: int, top: int | None) -> None:
    """Errors guessed from few members are too small for some, which the normal law calls strong."""
    made = rates(members, top)
    assert made[members - 1] <= RATE
    assert made[members - 1] < made[None]
