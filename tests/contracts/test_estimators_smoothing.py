"""The estimator: ridge smoothing as its formula says, and a choice that follows held-out members."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.estimators.smoothing import PENALTIES, Smoother, kernel_factor, smoothing


def some_items(count: int, width: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate((np.arange(classes), rng.integers(0, classes, count - classes)))
    return rng.normal(size=(count, width)), labels


def kernel(features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """K as the module writes it, pair by pair."""
    shares = np.array([(labels == number).mean() for number in range(classes)])
    codes = np.stack([(np.arange(classes) == label) - shares for label in labels])
    return np.array([[(one @ other) * (mine @ yours) for other, yours in zip(features, codes, strict=True)] for one, mine in zip(features, codes, strict=True)])


def planted(members: int, targets: int, features: np.ndarray, labels: np.ndarray, *, smooth: float, local: float, noise: float) -> np.ndarray:
    """Member values: a part that like items share, a part of each item's own, and each member's own noise."""
    rng = np.random.default_rng(5)
    signed = features * (2 * labels - 1)[:, None]
    shared = rng.normal(size=(targets, features.shape[1])) @ signed.T / features.shape[1] ** 0.5
    own = rng.normal(size=(targets, len(labels)))
    return smooth * shared + local * own + noise * rng.normal(size=(members, targets, len(labels)))


@pytest.mark.parametrize(("count", "width", "classes"), [(60, 5, 2), (60, 80, 2), (60, 4, 5), (60, 30, 5), (24, 24, 2)])
def test_the_factor_is_the_kernel_s_eigenvectors_in_either_form(count: int, width: int, classes: int) -> None:
    """Few features go through the design, many through the kernel; both decompose the same K."""
    features, labels = some_items(count, width, classes)
    vectors, values = kernel_factor(features, labels, classes)
    np.testing.assert_allclose((vectors * values) @ vectors.T, kernel(features, labels, classes), atol=1e-6 * values[0])
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(values)), atol=1e-8)
    assert (np.diff(values) <= 1e-9 * values[0]).all()


def ridge(raw: np.ndarray, exact: np.ndarray, penalty: float) -> np.ndarray:
    """K (K + λI)⁻¹ r for each row r by a direct solve; λ is a share of the sum of K's eigenvalues."""
    count = len(exact)
    fitted: np.ndarray = np.linalg.solve(exact + penalty * np.trace(exact) * np.eye(count), exact @ raw.T).T
    return fitted


@given(seed=st.integers(0, 1000), width=st.sampled_from([3, 40]), classes=st.integers(2, 4), members=st.sampled_from([2, 6]))
def test_smoothing_is_kernel_ridge_regression_with_half_the_best_penalty(seed: int, width: int, classes: int, members: int) -> None:
    """Against direct solves: the fitted values, and the penalty whose fit to one half of the members predicts the other best."""
    features, labels = some_items(30, width, classes, seed)
    pilot = planted(members, 8, features, labels % 2, smooth=2, local=0, noise=1)
    exact, halves = kernel(features, labels, classes), (pilot[0::2].mean(0), pilot[1::2].mean(0))
    smoother = smoothing(pilot, features, labels, classes)
    missed = [sum(((ridge(half, exact, penalty) - other) ** 2).sum() for half, other in (halves, halves[::-1])) for penalty in PENALTIES]
    assert smoother.penalty == PENALTIES[int(np.argmin(missed))] / 2
    np.testing.assert_allclose(smoother.apply(pilot)[0], ridge(pilot.mean(0), exact, smoother.penalty), atol=1e-4 * np.abs(pilot).max())


def test_smoothing_of_two_classes_is_regression_on_features_times_signed_labels() -> None:
    """The form in FINDINGS: ridge of r on φ·(±1), for classes of equal size."""
    features, labels = some_items(50, 4, 2)[0], np.arange(50) % 2
    pilot = planted(8, 20, features, labels, smooth=1, local=0, noise=0.5)
    estimator = smoothing(pilot, features, labels, 2)
    design, raw = features * (2 * labels - 1)[:, None], pilot.mean(0)
    weights = np.linalg.solve(design.T @ design + estimator.penalty * (design**2).sum() * np.eye(4), design.T @ raw.T)
    np.testing.assert_allclose(estimator.apply(pilot)[0], (design @ weights).T, atol=1e-4)


def test_what_like_items_share_is_smoothed() -> None:
    features, labels = some_items(200, 8, 2)
    pilot = planted(8, 30, features, labels, smooth=0.3, local=0, noise=1)
    estimator = smoothing(pilot, features, labels, 2)
    truth = planted(1, 30, features, labels, smooth=0.3, local=0, noise=0)[0]
    raw_error, error = (np.abs(made - truth).mean() for made in (pilot.mean(0), estimator.apply(pilot)[0]))
    assert error < raw_error / 2


@given(seed=st.integers(0, 1000), factor=st.floats(-5, 5))
def test_estimates_are_linear_in_the_members_values(seed: int, factor: float) -> None:
    """So members may be smoothed before or after their mean, and slices of targets one by one."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, 4, 3, 9))
    estimator = Smoother(rng.normal(size=(9, 5)), 0.0)
    whole = estimator.apply(first + factor * second)[0]
    np.testing.assert_allclose(whole, estimator.apply(first)[0] + factor * estimator.apply(second)[0], atol=1e-9)
    np.testing.assert_allclose(estimator.apply(first)[0], estimator.apply(first.mean(0, keepdims=True).repeat(2, 0))[0], atol=1e-9)
    np.testing.assert_allclose(estimator.apply(first)[0][1:2], estimator.apply(first[:, 1:2])[0], atol=1e-9)


def test_the_error_of_a_smoothed_estimate_is_the_spread_of_smoothed_members() -> None:
    rng = np.random.default_rng(0)
    values, smoother = rng.normal(size=(4, 3, 9)), rng.normal(size=(9, 5))
    _, error = Smoother(smoother, 0.0).apply(values)
    np.testing.assert_allclose(error, (values @ smoother @ smoother.T).std(0, ddof=1) / 2)
