"""The linear datamodeling score: 1 for what is linear, about 0 for what is dealt out anew, blind to scale."""

from __future__ import annotations

import numpy as np
import pytest

from core.fidelity.halves import draw_halves
from core.fidelity.lds import LDS, PLACEBO, lds, membership, placebo, predicted, row_of
from core.fidelity.methods import Scored

TARGETS, ITEMS, HALVES, SEEDS = 40, 80, 30, 3


@pytest.fixture(scope="module")
def inside() -> np.ndarray:
    return membership(draw_halves(ITEMS, HALVES, seed=1), ITEMS)


def some_scores(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(TARGETS, ITEMS))


def linear_losses(scores: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Losses that fall by an item's score whenever the item is in, each target from its own level; every seed is the same."""
    losses = np.linspace(1, 5, TARGETS) - inside @ scores.T
    return np.stack([losses] * SEEDS)


def test_halves_are_halves_without_repeats_and_follow_the_seed() -> None:
    halves = draw_halves(61, 20, seed=5)
    assert halves.shape == (20, 30) and (np.diff(halves) > 0).all() and halves.min() >= 0 and halves.max() < 61
    assert np.array_equal(draw_halves(61, 20, seed=5), halves)
    assert not np.array_equal(draw_halves(61, 20, seed=6), halves)
    assert np.array_equal(draw_halves(61, 7, seed=5), halves[:7]), "more halves change none of the first"
    counts = np.bincount(draw_halves(61, 2000, seed=5).ravel(), minlength=61) / 2000
    assert counts == pytest.approx(np.full(61, 30 / 61), abs=0.06)


def test_membership_says_who_is_in(inside: np.ndarray) -> None:
    halves = draw_halves(ITEMS, HALVES, seed=1)
    assert set(np.unique(inside)) == {0, 1} and (inside.sum(1) == ITEMS // 2).all()
    for row, half in zip(inside, halves, strict=True):
        assert np.array_equal(np.flatnonzero(row), half)


def test_the_true_linear_model_has_a_score_of_one(inside: np.ndarray) -> None:
    scores = some_scores()
    losses = linear_losses(scores, inside)
    figure = lds(scores, inside, losses)
    assert (figure.value, figure.low, figure.high) == pytest.approx((1, 1, 1))
    assert lds(-scores, inside, losses).value == pytest.approx(-1), "positive means that an item helps"
    np.testing.assert_allclose(predicted(scores, inside)[3, 4], scores[3, np.flatnonzero(inside[4])].sum())


def test_dealt_out_anew_the_score_is_about_nothing(inside: np.ndarray) -> None:
    scores = some_scores()
    losses = linear_losses(scores, inside)
    assert abs(placebo(scores, inside, losses).value) < 0.05
    assert placebo(scores, inside, losses).low is None
    alike = np.tile(scores[:1], (TARGETS, 1))  # all targets ranked alike, and losses that move together
    assert abs(placebo(alike, inside, linear_losses(alike, inside)).value) < 0.05
    assert abs(lds(some_scores(1), inside, losses).value) < 0.1


def test_a_target_s_scale_does_not_matter(inside: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    scores = some_scores()
    losses = linear_losses(scores + rng.normal(size=scores.shape), inside)
    figure = lds(scores, inside, losses)
    assert 0.5 < figure.value < 0.95
    scaled = scores * rng.uniform(0.1, 10, (TARGETS, 1)) + rng.normal(size=(TARGETS, 1))  # halves have one size, so a constant adds one constant
    assert lds(scaled, inside, losses).value == pytest.approx(figure.value)
    moved = losses * rng.uniform(0.1, 10, TARGETS) + rng.normal(size=TARGETS)
    assert lds(scores, inside, moved).value == pytest.approx(figure.value)


def test_a_row_has_score_placebo_and_costs_and_a_refusal_has_none(inside: np.ndarray) -> None:
    scores = some_scores()
    losses = linear_losses(scores, inside)
    row = row_of(Scored("a method", scores, 2.0, 3.0, "fine"), inside, losses)
    assert (row.method, row.train_seconds, row.estimate_seconds, row.note) == ("a method", 2.0, 3.0, "fine")
    assert row.figures == {LDS: lds(scores, inside, losses), PLACEBO: placebo(scores, inside, losses)}
    refused = row_of(Scored("a method", np.empty(0), 0, 0, "refused: too deep"), inside, losses)
    assert (refused.figures, refused.note) == ({}, "refused: too deep")


def test_a_placebo_that_is_not_nothing_is_said(inside: np.ndarray) -> None:
    """Of influences that are all the same nothing can be dealt out: a half's sum is then its size."""
    uneven = np.tril(np.ones((HALVES, ITEMS)))
    scores = np.ones((TARGETS, ITEMS))
    row = row_of(Scored("a method", scores, 0, 0, "best"), uneven, linear_losses(scores, uneven))
    assert row.figures[PLACEBO].value == pytest.approx(1)
    assert row.note == "best; the placebo is not 0: take more halves or targets"
