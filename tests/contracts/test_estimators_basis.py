"""The basis: orthonormal, exact where nothing is cut off, and nearly so where it is approximated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import core.estimators.basis as basis_module
from core.estimators.basis import Basis, make_basis
from core.estimators.estimator import Described
from tests.helpers.planted_influences import some_items


def products(items: Described) -> np.ndarray:
    """Ψ as the module writes it, one item at a time."""
    return np.stack([np.outer(own, residual).ravel() for own, residual in zip(items.features, items.residuals, strict=True)])


def orthonormal(basis: Basis) -> bool:
    return bool(np.allclose(basis.vectors.T @ basis.vectors, np.eye(basis.vectors.shape[1]), atol=1e-5))


@given(seed=st.integers(0, 1000), count=st.integers(5, 60), width=st.integers(1, 8), classes=st.integers(2, 4))
def test_the_basis_is_orthonormal_and_gives_the_training_items_shapes_back(seed: int, count: int, width: int, classes: int) -> None:
    items = some_items(np.random.default_rng(seed), count, width, classes)
    basis, psi = make_basis(items.features, items.residuals), products(items)
    assert orthonormal(basis)
    shape = basis.shape_of(items.features, items.residuals)
    np.testing.assert_allclose(shape, psi @ psi.T @ basis.vectors, atol=1e-4 * np.abs(shape).max())
    np.testing.assert_allclose(shape @ basis.vectors.T, psi @ psi.T, atol=1e-4 * np.abs(psi @ psi.T).max())
    assert basis.vectors.shape[1] <= min(count, width * (classes - 1))  # residuals sum to zero


def test_the_basis_is_numpy_s_left_singular_vectors_largest_first() -> None:
    items = some_items(np.random.default_rng(0), 50, 6)
    expected = np.linalg.svd(products(items), full_matrices=False)[0]
    vectors = make_basis(items.features, items.residuals).vectors
    np.testing.assert_allclose(np.abs(np.diag(expected.T[: vectors.shape[1]] @ vectors)), 1, atol=1e-4)


@pytest.mark.parametrize("offset", [0, 30])
@pytest.mark.parametrize(("count", "width", "classes"), [(300, 10, 10), (2000, 40, 3)])
def test_rounding_makes_no_directions(count: int, width: int, classes: int, offset: float) -> None:
    """Residuals sum to zero, so a class's share of the products is empty but for rounding."""
    items = some_items(np.random.default_rng(1), count, width, classes)
    features = items.features + offset * (np.arange(width) == 0)
    assert make_basis(features, items.residuals).vectors.shape[1] == width * (classes - 1)


def low_rank(count: int, width: int, rank: int) -> Described:
    """Items whose features lie near a few directions."""
    rng = np.random.default_rng(3)
    items = some_items(rng, count, width, 2)
    codes = rng.normal(size=(count, rank)) * np.geomspace(4, 1, rank)
    return Described(codes @ rng.normal(size=(rank, width)) + 0.01 * items.features, items.residuals)


@pytest.mark.parametrize(("limit", "value"), [("_MOST_FEATURES", 60), ("_MOST_COLUMNS", 100), ("_MOST_COLUMNS", 500)])
def test_projections_and_samples_keep_the_leading_directions(limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random projection, a sample of the items (Nyström), and all of the items instead of too many columns."""
    items = low_rank(300, 400, 5)
    exact = make_basis(items.features, items.residuals)
    monkeypatch.setattr(basis_module, "_MOST_FEATURES", 1000)
    monkeypatch.setattr(basis_module, limit, value)
    near = make_basis(items.features, items.residuals)
    assert orthonormal(near)
    assert (near.random is not None) == (limit == "_MOST_FEATURES")
    cosines = np.linalg.svd(exact.vectors[:, :5].T @ near.vectors[:, :5])[1]
    assert cosines.min() > 0.98
    shapes = [own.shape_of(items.features, items.residuals) @ own.vectors.T for own in (exact, near)]
    assert np.corrcoef(shapes[0].ravel(), shapes[1].ravel())[0, 1] > 0.98


def test_no_more_directions_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basis_module, "_MOST_VECTORS", 4)
    items = some_items(np.random.default_rng(0), 50, 6)
    basis = make_basis(items.features, items.residuals)
    assert basis.vectors.shape == (50, 4)
    assert basis.shape_of(items.features[:7], items.residuals[:7]).shape == (7, 4)
