"""Laws of the damping: which one influences show, and what overlapping masks hide of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnover.attribution.estimators.basis import make_basis
from turnover.attribution.estimators.damping import (
    GRID,
    Overlap,
    damping_of,
    prior,
    without_overlap,
)

Ridge = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
PENALTY = -2.5
"""Decimal logarithm of the ridge penalty, as a share of the largest eigenvalue."""


def directions(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients `(60, 40)` of targets, and eigenvalues `(40,)` over four decades."""
    rng = np.random.default_rng(seed)
    eigenvalues = np.geomspace(1, 1e-4, 40)
    return rng.normal(size=(60, 40)) * np.sqrt(eigenvalues), eigenvalues


@given(seed=st.integers(0, 100), damping=st.sampled_from([-3.0, -2.1, -1.0]))
def test_influences_show_the_damping_that_made_them(seed: int, damping: float) -> None:
    """Beside noise, and whatever the scale of a target: one that all get right counts as any."""
    coefficients, eigenvalues = directions(seed)
    rng = np.random.default_rng(seed + 1)
    influences = prior(coefficients, eigenvalues, damping)
    influences = influences + 0.3 / 40**0.5 * rng.normal(size=influences.shape)
    for scales in (np.ones((60, 1)), 10.0 ** rng.uniform(-12, 3, (60, 1))):
        projections = scales * influences
        lengths = np.linalg.norm(projections, axis=1)
        shown, error = damping_of(projections, lengths, coefficients, eigenvalues)
        assert abs(shown - damping) < 0.3 and error < 0.3


def test_without_influences_any_damping_will_do() -> None:
    coefficients, eigenvalues = directions(0)
    shown, error = damping_of(np.zeros((60, 40)), np.zeros(60), coefficients, eigenvalues)
    assert shown in GRID and error == 0
    assert not prior(np.zeros((2, 40)), eigenvalues, shown).any()


def ridge(seed: int, count: int = 300, width: int = 48) -> Ridge:
    """Features and labels of training items and of 80 targets; leading directions are strong."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count + 80, width)) * np.geomspace(3, 0.1, width)
    features = np.maximum(features @ rng.normal(size=(width, width)), 0)
    scores = features @ rng.normal(size=(width, 4)) / features.std()
    labels = np.eye(4)[(scores + rng.normal(size=scores.shape)).argmax(1)]
    return features[:count], labels[:count], features[count:], labels[count:]


def solved(features: np.ndarray, labels: np.ndarray, penalty: float) -> np.ndarray:
    weights: np.ndarray = np.linalg.solve(
        features.T @ features + penalty * np.eye(features.shape[1]), features.T @ labels
    )
    return weights


def masked_ridge(
    items: Ridge, units: int, masks: int | None, members: int = 12
) -> list[np.ndarray]:
    """Turn-over influences `(T, N)` by two plain predictions for each mask, and the residuals of
    items that were never seen and of targets; means over members.
    """
    features, labels, ahead, truth = items
    rng, count, width = np.random.default_rng(1), len(features), features.shape[1]
    penalty = np.linalg.eigvalsh(features.T @ features)[-1] * 10**PENALTY
    results = [np.zeros((len(ahead), count)), np.zeros_like(labels), np.zeros_like(truth)]
    for _ in range(members):
        on = np.zeros(((masks or 2 * count) // 2, units))
        for row in on:
            row[rng.permutation(units)[: units // 2]] = 1
        on = on.repeat(width // units, 1)
        if masks:
            on = np.stack([on, 1 - on], 1).reshape(masks, width)
        cohorts = rng.integers(0, masks, count) if masks else np.arange(count)
        weights = solved(2 * on[cohorts] * features, labels, penalty)
        sub = [
            np.stack(
                [np.square(truth - ahead @ (2 * mask[:, None] * weights)).sum(1) for mask in part]
            )
            for part in (1 - on, on)
        ]
        results[0] += (sub[0] - sub[1]).T[:, cohorts] / 2
        results[1] += (labels - 2 * (1 - on[cohorts]) * features @ weights) / members
        results[2] += (truth - ahead @ weights) / members
    return results


def shown_by(items: Ridge, units: int, masks: int | None) -> tuple[float, list[np.ndarray]]:
    """The damping that turn-over influences of a ridge regression show, and these."""
    influences, unseen, left = masked_ridge(items, units, masks)
    basis = make_basis(items[0], unseen)
    centred = influences - influences.mean(1, keepdims=True)
    coefficients = basis.coefficients_of(items[2], left)
    found = damping_of(
        centred @ basis.vectors, np.linalg.norm(centred, axis=1), coefficients, basis.eigenvalues
    )
    return found[0], [influences, unseen, left]


@pytest.mark.parametrize(("units", "masks"), [(8, None), (16, 32), (48, 64)])
def test_overlapping_masks_hide_a_damping_that_is_found_without_training_again(
    units: int, masks: int | None
) -> None:
    """The damping that predicts ridge regressions on random halves best is smaller than the one
    that turn-over influences show, and the corrected one predicts them nearly as
    well.
    """
    items = ridge(0)
    shown, (_, unseen, left) = shown_by(items, units, masks)
    corrected = without_overlap(shown, Overlap(units, masks), (items[0], unseen), (items[2], left))
    basis, rng, count = make_basis(items[0], unseen), np.random.default_rng(2), len(items[0])
    coefficients = basis.coefficients_of(items[2], left)
    penalty = np.linalg.eigvalsh(items[0].T @ items[0])[-1] * 10**PENALTY
    inside = np.stack([rng.permutation(count) < count // 2 for _ in range(60)])
    losses = np.stack(
        [
            np.square(items[3] - items[2] @ solved(items[0][half], items[1][half], penalty)).sum(1)
            for half in inside
        ],
        1,
    )

    def agreement(damping: float) -> float:
        summed = prior(coefficients, basis.eigenvalues, damping) @ basis.vectors.T @ inside.T
        rows = zip(summed, -losses, strict=True)
        return float(np.mean([np.corrcoef(one, other)[0, 1] for one, other in rows]))

    best = GRID[np.argmax([agreement(damping) for damping in GRID])]
    assert shown - best > 0.4
    assert abs(corrected - best) < 0.6 * (shown - best)
    worst = agreement(shown)
    assert agreement(corrected) - worst > 0.6 * (agreement(best) - worst)


def test_two_masks_do_not_overlap_so_nothing_is_hidden() -> None:
    items = ridge(0)
    shown, (_, unseen, left) = shown_by(items, 16, 2)
    assert without_overlap(shown, Overlap(16, 2), (items[0], unseen), (items[2], left)) == shown
    overlapping, _ = shown_by(items, 16, None)
    assert shown < overlapping


def test_many_classes_and_few_items_are_no_obstacle() -> None:
    rng = np.random.default_rng(0)
    items = [
        (rng.normal(size=(count, 12)), np.eye(200)[rng.integers(0, 200, count)] - 1 / 200)
        for count in (30, 5)
    ]
    corrected = without_overlap(-1.0, Overlap(4, None), *items)
    assert GRID[0] <= corrected <= -1.0
    for factors in ((0, 1), (1, 0)):  # nothing to tell items by, or nothing left to learn
        blank = [tuple(part * by for part, by in zip(one, factors, strict=True)) for one in items]
        assert without_overlap(-1.0, Overlap(4, None), *blank) == -1.0
