"""Two halves of an ensemble: they agree fully if they are the same, and strong items are counted from both sides."""

from __future__ import annotations

import numpy as np
import pytest

from core.estimators.trust import strong, wrong_sign
from core.fidelity.agreement import PEARSON, SAME_SIGN, SPEARMAN, STRONG, STRONG_SPEARMAN, all_figures, strong_figures
from core.fidelity.estimators import Estimated

TARGETS, ITEMS = 30, 200


def noisy(truth: np.ndarray, error: float, seed: int) -> Estimated:
    """An estimate with normal noise, which says so."""
    return Estimated(truth + error * np.random.default_rng(seed).normal(size=truth.shape), np.full(truth.shape, error))


def some_truth() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(TARGETS, ITEMS))


def test_the_same_estimates_agree_fully() -> None:
    first = noisy(some_truth(), 0.2, 1)
    figures = all_figures(first.values, first.values) | strong_figures(first, first)
    assert {name: figure.value for name, figure in figures.items() if name != STRONG} == pytest.approx(
        {SPEARMAN: 1, PEARSON: 1, STRONG_SPEARMAN: 1, SAME_SIGN: 1}
    )
    assert figures[STRONG].value == pytest.approx(strong(wrong_sign(first.values, first.errors)).mean())


def test_halves_of_pure_noise_do_not_agree() -> None:
    halves = [np.random.default_rng(seed).normal(size=(TARGETS, ITEMS)) for seed in (1, 2)]
    for figure in all_figures(*halves).values():
        assert abs(figure.value) < 0.05
    called = strong_figures(*(Estimated(half, np.ones(half.shape)) for half in halves))
    assert called[STRONG].value < 0.005, "errors that are true call hardly anything strong"


def test_agreement_is_the_signal_s_share_of_variance() -> None:
    """Truth of variance 1 and noise of variance ¼ in each half: 1 / (1 + ¼)."""
    first, second = (noisy(some_truth(), 0.5, seed) for seed in (1, 2))
    assert all_figures(first.values, second.values)[PEARSON].value == pytest.approx(0.8, abs=0.02)
    figures = strong_figures(first, second)
    assert figures[SAME_SIGN].value > 0.95
    assert figures[STRONG_SPEARMAN].value > 0.8


def test_strong_items_are_judged_from_both_sides() -> None:
    values = np.array([[5.0, -5.0, 5.0, 0.0, 0.0]])
    sure, unsure = np.full((1, 5), 0.1), np.full((1, 5), 100.0)
    first, second = Estimated(values, sure), Estimated(values * [1, -1, 1, 1, 1], unsure)
    figures = strong_figures(first, second)  # three of five from the first side, none from the second
    assert figures[STRONG].value == pytest.approx(0.3)
    assert figures[SAME_SIGN].value == pytest.approx(2 / 3)
    assert strong_figures(Estimated(values, unsure), second).keys() == {STRONG}
