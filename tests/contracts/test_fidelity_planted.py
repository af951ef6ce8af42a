"""Planted wrong labels: the area against scikit-learn's, its interval against resampling, and every way to suspect on a real run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from core.fidelity.planted import auc, precision


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40))
def test_the_area_is_scikit_learn_s_with_ties_too(items: list[tuple[bool, int]]) -> None:
    planted, suspicion = np.array([own for own, _ in items]), np.array([float(value) for _, value in items])
    if 0 < planted.sum() < len(planted):
        figure = auc(planted, suspicion)
        assert figure.value == pytest.approx(roc_auc_score(planted, suspicion))
        assert figure.low is not None and figure.high is not None and 0 <= figure.low <= figure.value <= figure.high <= 1


def test_the_interval_is_that_of_repeated_samples() -> None:
    """Of 400 samples of the same kind, 95 % have the true area in their interval."""
    rng = np.random.default_rng(0)
    planted = np.arange(200) < 40
    truth = 0.7602  # Φ(1/√2) for unit normal numbers one apart
    held = 0
    for _ in range(400):
        figure = auc(planted, rng.normal(size=200) + planted)
        held += (figure.low or 0) <= truth <= (figure.high or 0)
    assert held / 400 == pytest.approx(0.95, abs=0.03)


def test_precision_counts_the_most_suspicious() -> None:
    planted = np.array([True, False, True, False, True])
    suspicion = np.array([5.0, 4.0, 3.0, 3.0, 1.0])
    assert [precision(planted, suspicion, count).value for count in (1, 2, 3, 4, 5)] == [1, 0.5, pytest.approx(2 / 3), 0.5, 0.6]
