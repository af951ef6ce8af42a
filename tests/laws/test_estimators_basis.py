"""Closed forms behind estimators: the basis of `best` and ridge smoothing, by dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnover.attribution.estimators.basis as basis_module
from tests.helpers.injected_influences import some_items
from turnover.attribution.estimators.basis import Basis, make_basis
from turnover.attribution.estimators.estimator import PENALTIES, Described, Smoother, smoothing

# The basis


def products(items: Described) -> np.ndarray:
    """Ψ as the module writes it, one item at a time."""
    pairs = zip(items.features, items.residuals, strict=True)
    return np.stack([np.outer(own, residual).ravel() for own, residual in pairs])


def orthonormal(basis: Basis) -> bool:
    identity = np.eye(basis.vectors.shape[1])
    return bool(np.allclose(basis.vectors.T @ basis.vectors, identity, atol=1e-5))


@given(st.integers(0, 1000), st.integers(5, 60), st.integers(1, 8), st.integers(2, 4))
def test_the_basis_is_orthonormal_and_gives_the_training_items_shapes_back(
    seed: int, count: int, width: int, classes: int
) -> None:
    items = some_items(np.random.default_rng(seed), count, width, classes)
    basis, psi = make_basis(items.features, items.residuals), products(items)
    assert orthonormal(basis)
    coefficients, whole = basis.coefficients_of(items.features, items.residuals), psi @ psi.T
    near = {"atol": 1e-4 * np.abs(coefficients).max()}
    np.testing.assert_allclose(coefficients, whole @ basis.vectors, **near)
    np.testing.assert_allclose(
        coefficients @ basis.vectors.T, whole, atol=1e-4 * np.abs(whole).max()
    )
    assert basis.vectors.shape[1] <= min(count, width * (classes - 1))  # residuals sum to zero


def test_the_basis_is_numpy_s_left_singular_vectors_largest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items = some_items(np.random.default_rng(0), 50, 6)
    expected = np.linalg.svd(products(items), full_matrices=False)[0]
    for most in (1000, 4):
        monkeypatch.setattr(basis_module, "_MOST_VECTORS", most)
        basis = make_basis(items.features, items.residuals)
        assert basis.vectors.shape == (50, min(12, most))
        cosines = np.diag(expected.T[: basis.vectors.shape[1]] @ basis.vectors)
        np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-4)
    assert basis.coefficients_of(items.features[:7], items.residuals[:7]).shape == (7, 4)


@pytest.mark.parametrize("offset", [0, 30])
@pytest.mark.parametrize(("count", "width", "classes"), [(300, 10, 10), (2000, 40, 3)])
def test_rounding_makes_no_directions(count: int, width: int, classes: int, offset: float) -> None:
    """Residuals sum to zero, so a class's share of the products is empty but for rounding."""
    items = some_items(np.random.default_rng(1), count, width, classes)
    features = items.features + offset * (np.arange(width) == 0)
    assert make_basis(features, items.residuals).vectors.shape[1] == width * (classes - 1)


@pytest.mark.parametrize(
    ("limit", "value"), [("_MOST_FEATURES", 60), ("_MOST_COLUMNS", 100), ("_MOST_COLUMNS", 500)]
)
def test_projections_and_samples_keep_the_leading_directions(
    limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random projection, a sample of the items, and all items instead of too many columns."""
    rng = np.random.default_rng(3)
    items = some_items(rng, 300, 400, 2)
    codes = rng.normal(size=(300, 5)) * np.geomspace(4, 1, 5)
    features = codes @ rng.normal(size=(5, 400)) + 0.01 * items.features
    exact = make_basis(features, items.residuals)
    monkeypatch.setattr(basis_module, "_MOST_FEATURES", 1000)
    monkeypatch.setattr(basis_module, limit, value)
    near = make_basis(features, items.residuals)
    assert orthonormal(near)
    assert (near.random is not None) == (limit == "_MOST_FEATURES")
    assert np.linalg.svd(exact.vectors[:, :5].T @ near.vectors[:, :5])[1].min() > 0.98
    shapes = [
        own.coefficients_of(features, items.residuals) @ own.vectors.T for own in (exact, near)
    ]
    assert np.corrcoef(shapes[0].ravel(), shapes[1].ravel())[0, 1] > 0.98


def test_of_many_classes_the_smaller_form_is_kept_and_both_give_the_same_coefficients() -> None:
    """Bases of earlier versions have a projector for any number of classes."""
    items = some_items(np.random.default_rng(3), 60, 30, 300)
    basis = make_basis(items.features, items.residuals)
    assert orthonormal(basis) and basis.projector.shape == (60, 30 + 300)
    psi = products(items)
    earlier = Basis(basis.vectors, basis.eigenvalues, (psi.T @ basis.vectors).astype(np.float32))
    shapes = [own.coefficients_of(items.features, items.residuals) for own in (basis, earlier)]
    np.testing.assert_allclose(*shapes, atol=1e-4 * np.abs(shapes[1]).max())
    few = make_basis(items.features[:, :2], items.residuals[:, :2])
    assert few.projector.shape == (4, few.vectors.shape[1])


# Ridge smoothing, an estimator to compare with


def kernel(features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """K as the module writes it, pair by pair."""
    shares = np.array([(labels == number).mean() for number in range(classes)])
    items = [
        (own, (np.arange(classes) == label) - shares)
        for own, label in zip(features, labels, strict=True)
    ]
    return np.array([[(one @ two) * (mine @ its) for two, its in items] for one, mine in items])


def ridge(raw: np.ndarray, exact: np.ndarray, penalty: float) -> np.ndarray:
    """K (K + λI)⁻¹ r for each row r by a direct solve; λ is a share of K's eigenvalues' sum."""
    shifted = exact + penalty * np.trace(exact) * np.eye(len(exact))
    fitted: np.ndarray = np.linalg.solve(shifted, exact @ raw.T).T
    return fitted


def labelled(count: int, width: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features, and labels of which every class has one."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate((np.arange(classes), rng.integers(0, classes, count - classes)))
    return rng.normal(size=(count, width)), labels


@given(
    st.integers(0, 1000), st.sampled_from([3, 30, 40]), st.integers(2, 4), st.sampled_from([2, 6])
)
def test_smoothing_is_kernel_ridge_regression_with_half_the_best_penalty(
    seed: int, width: int, classes: int, members: int
) -> None:
    """By direct solves: the values, and the penalty whose fit to one half predicts the other.

    Few features go through the design, many through the kernel.
    """
    features, labels = labelled(30, width, classes, seed)
    rng, signed = np.random.default_rng(5), features * (2 * (labels % 2) - 1)[:, None]
    shared = rng.normal(size=(8, width)) @ signed.T / width**0.5
    pilot = 2 * shared + rng.normal(size=(members, 8, 30))
    exact, halves = kernel(features, labels, classes), (pilot[0::2].mean(0), pilot[1::2].mean(0))
    smoother = smoothing(pilot, features, labels, classes)
    missed = [
        sum(((ridge(one, exact, penalty) - two) ** 2).sum() for one, two in (halves, halves[::-1]))
        for penalty in PENALTIES
    ]
    assert smoother.penalty == PENALTIES[int(np.argmin(missed))] / 2
    expected = ridge(pilot.mean(0), exact, smoother.penalty)
    near = 1e-4 * np.abs(pilot).max()
    np.testing.assert_allclose(smoother.apply(pilot)[0], expected, atol=near)


@given(seed=st.integers(0, 100))
def test_smoothed_estimates_are_linear_in_members_and_apart_for_each_target(seed: int) -> None:
    """And their error is the spread of smoothed members."""
    rng = np.random.default_rng(seed)
    values, factor = rng.normal(size=(4, 3, 9)), rng.normal(size=(9, 5))
    made, error = Smoother(factor, 0.0).apply(values)
    smoothed = values @ factor @ factor.T
    np.testing.assert_allclose(made, smoothed.mean(0), atol=1e-9)
    np.testing.assert_allclose(error, smoothed.std(0, ddof=1) / 2)
    alone = Smoother(factor, 0.0).apply(values[:, 1:2])[0]
    np.testing.assert_allclose(made[1:2], alone, atol=1e-9)
