"""Words of trust: SciPy's procedure on chances of wrong signs, and the rate that it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import false_discovery_control, norm, t

from core.estimators.trust import NOISE, RATE, STRONG, WEAK, freedom_of, strong, trust_words, wrong_sign
from tests.helpers.planted_influences import planted

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


@given(ratios=arrays(np.float64, 12, elements=st.floats(-50, 50)), freedom=st.integers(1, 200))
def test_of_errors_guessed_from_a_few_members_it_is_student_s_tail(ratios: np.ndarray, freedom: int) -> None:
    np.testing.assert_allclose(wrong_sign(3 * ratios, np.full(12, 3.0), freedom), t.sf(np.abs(ratios), freedom), rtol=1e-8, atol=1e-14)


def test_only_the_median_s_errors_are_guessed_item_by_item() -> None:
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


def rates(members: int, freedom: int | None, top: int | None) -> tuple[float, int]:
    """Mean share of wrong signs among the strong ones of 300 targets' medians over members, and their number; of the `top` largest alone if given.

    Nineteen items of twenty have a tiny influence, the others one as large as a member's noise.
    """
    wrong, count = [], 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=400) * np.where(rng.random(400) < 0.05, 1, 0.01)
        values = truth + rng.normal(size=(members, 400))
        seen, errors = np.median(values, 0), values.std(0, ddof=1) * (np.pi / 2 / members) ** 0.5
        found = strong(wrong_sign(seen, errors, freedom))
        if top:
            found &= np.abs(seen) >= np.sort(np.abs(seen))[-top]
        wrong.append((np.sign(seen) != np.sign(truth))[found].mean() if found.any() else 0.0)
        count += int(found.sum())
    return float(np.mean(wrong)), count


@pytest.mark.parametrize("members", [4, 8, 16])
@pytest.mark.parametrize("top", [None, 10])
def test_medians_of_few_members_keep_the_rate(members: int, top: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors guessed from a few members are too small for some of many items; the normal law takes those for strong."""
    (student, found), (normal, _) = rates(members, members - 1, top), rates(members, None, top)
    with capsys.disabled():
        print(
            f"\n{members} members, {f'top {top}' if top else 'all items'}: wrong signs {student:.3f} of {found} strong; by the normal law {normal:.3f}", end=""
        )
    assert student <= RATE
    assert student < normal


def test_strong_estimates_of_best_keep_their_sign_among_the_largest(capsys: pytest.CaptureFixture[str]) -> None:
    """The ten largest estimates of each of many targets, chosen by the members that call them strong; truth is known."""
    wrong, count, inside, items = 0, 0, 0.0, 0
    for seed in range(4):
        case = planted(seed, smooth=0.5, local=0.5, members=4)
        _, estimate, error = case.chosen()
        largest = np.argsort(-np.abs(estimate), 1)[:, :10]
        found, miss = np.take_along_axis(strong(wrong_sign(estimate, error)), largest, 1), np.take_along_axis(np.abs(estimate - case.truth) / error, largest, 1)
        flipped = np.take_along_axis(np.sign(estimate) != np.sign(case.truth), largest, 1)
        wrong, count, inside, items = wrong + int(flipped[found].sum()), count + int(found.sum()), inside + (miss <= 1.96).sum(), items + miss.size
    with capsys.disabled():
        print(f"\nbest, top 10: {count / items:.1%} strong, wrong signs {wrong / count:.3f}, coverage {inside / items:.3f}", end="")
    assert count > 500
    assert wrong / count <= RATE
    assert inside / items > 0.85
