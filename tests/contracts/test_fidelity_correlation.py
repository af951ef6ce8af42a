"""Row correlations against numpy and scipy, and reliabilities against variances that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from core.fidelity.correlation import mean_over_rows, mean_spearman, pooled_spearman, reliability, row_pearson, row_spearman, spearman_brown


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_rows_correlate_as_numpy_and_scipy_say() -> None:
    first, second = noise(4, 30), noise(4, 30, seed=1).round(1)  # rounded: ties
    second += first
    np.testing.assert_allclose(row_pearson(first, second), [np.corrcoef(*pair)[0, 1] for pair in zip(first, second, strict=True)])
    second = second.round()
    np.testing.assert_allclose(row_spearman(first, second), [spearmanr(*pair).statistic for pair in zip(first, second, strict=True)])


def test_a_row_without_spread_counts_as_nothing() -> None:
    first, second = noise(3, 10), noise(3, 10, seed=1)
    second[1] = 7.25
    assert row_spearman(first, second)[1] == row_pearson(first, second)[1] == 0
    assert row_spearman(first, second)[[0, 2]].all()


def test_an_interval_holds_its_value_and_narrows() -> None:
    truth = noise(40, 200)
    seen = truth + noise(40, 200, seed=1)
    many, few = mean_spearman(truth, seen), mean_spearman(truth[:5, :20], seen[:5, :20])
    for figure in (many, few):
        assert figure.low is not None and figure.high is not None and figure.low < figure.value < figure.high
    assert (many.high or 0) - (many.low or 0) < 0.5 * ((few.high or 0) - (few.low or 0))
    same = mean_spearman(truth, truth)
    assert (same.value, same.low, same.high) == pytest.approx((1, 1, 1))


def test_pooled_entries_of_a_row_stand_or_fall_together() -> None:
    """Repeating every column changes no interval: a row's entries are one observation."""
    first, second = noise(30, 4), noise(30, 4, seed=1)
    figure = pooled_spearman(first, first + second)
    assert figure.value == pytest.approx(spearmanr(first.ravel(), (first + second).ravel()).statistic)
    again = pooled_spearman(np.tile(first, 5), np.tile(first + second, 5))
    assert (again.low, again.high) == pytest.approx((figure.low, figure.high), abs=0.01)
    assert figure.low is not None and figure.high is not None and figure.low < figure.value < figure.high


def test_the_interval_of_a_mean_is_about_two_standard_errors() -> None:
    values = noise(400)
    figure = mean_over_rows(values)
    assert figure.value == pytest.approx(values.mean())
    assert (figure.high or 0) - (figure.low or 0) == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)


@pytest.mark.parametrize("repeats", [2, 5, 8])
def test_reliability_is_the_share_of_true_variance(repeats: int) -> None:
    """Of the mean of S repeats with true variance 1 and noise variance 4: 1 / (1 + 4/S); ranks of normal numbers say nearly the same."""
    seen = noise(60, 300)[None] + 2 * noise(repeats, 60, 300, seed=1)
    assert reliability(seen) == pytest.approx(1 / (1 + 4 / repeats), abs=0.03)
    assert reliability(seen[:1]) is None


def test_spearman_brown() -> None:
    assert spearman_brown(0.5, 2) == pytest.approx(2 / 3)
    assert spearman_brown(0.3, 1) == pytest.approx(0.3)
    assert spearman_brown(spearman_brown(0.3, 4), 1 / 4) == pytest.approx(0.3)
