"""Figures of two halves of an ensemble, and of errors whose proponents were removed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import turnover.research.evaluate.removal as removal_module
from turnover.attribution.estimators.significance import strong, wrong_sign
from turnover.research.evaluate.agreement import (
    PEARSON,
    STRONG_SPEARMAN,
    all_figures,
    coverage_figures,
    strong_figures,
)
from turnover.research.evaluate.removal import (
    SAME_SIZE,
    Outcome,
    alike,
    figures_of,
    measure_added,
    proponents,
    retrained_without,
)
from turnover.research.evaluate.results import (
    COVERAGE,
    COVERAGE_TOP,
    SAME_SIGN,
    SAME_SIGN_CLAIMED,
    SAME_SIGN_TOP,
    SPEARMAN,
    STRONG,
    Figure,
)
from turnover.research.evaluate.scores import Estimated, Options, Scored
from turnover.research.evaluate.task import EvaluationTask

TARGETS, ITEMS = 30, 200
TRUTH = np.random.default_rng(0).normal(size=(TARGETS, ITEMS))
KNOWLEDGE = ("truth", "partly", "chance", "contrary")


def noisy(truth: np.ndarray, error: float, seed: int) -> Estimated:
    """An estimate with normal noise, which says so."""
    noise = np.random.default_rng(seed).normal(size=truth.shape)
    return Estimated(truth + error * noise, np.full(truth.shape, error))


def halves(truth: np.ndarray, error: float, claimed: float | None = None) -> list[Estimated]:
    """Two estimates with normal noise, who claim so much of it."""
    made = [noisy(truth, error, seed) for seed in (1, 2)]
    if claimed is None:
        return made
    return [half._replace(std_errors=np.full(truth.shape, claimed)) for half in made]


def values(figures: Mapping[str, Figure]) -> dict[str, float]:
    """Figures as numbers."""
    return {name: figure.value for name, figure in figures.items()}


# Agreement


def test_the_same_estimates_agree_fully_and_pure_noise_does_not() -> None:
    first = noisy(TRUTH, 0.2, 1)
    figures = values(all_figures(first.values, first.values) | strong_figures(first, first))
    share = strong(wrong_sign(first.values, first.std_errors)).mean()
    assert figures.pop(STRONG) == pytest.approx(share)
    assert figures.pop(SAME_SIGN_CLAIMED) < 1
    names = (SPEARMAN, PEARSON, STRONG_SPEARMAN, SAME_SIGN, SAME_SIGN_TOP)
    assert figures == pytest.approx(dict.fromkeys(names, 1))
    one, other = halves(np.zeros((TARGETS, ITEMS)), 1.0)
    blind = values(all_figures(one.values, other.values))
    assert max(map(abs, blind.values())) < 0.05
    strong_ones = strong_figures(one, other)[STRONG].value
    assert strong_ones < 0.005, "errors that are true call hardly anything strong"


def test_agreement_is_the_signal_s_share_of_variance_and_bold_errors_claim_more() -> None:
    """Truth of variance 1 and noise of variance ¼ in each half: 1 / (1 + ¼)."""
    first, second = halves(TRUTH, 0.5)
    assert all_figures(first.values, second.values)[PEARSON].value == pytest.approx(0.8, abs=0.02)
    figures = values(strong_figures(first, second))
    assert figures[SAME_SIGN] > 0.95 and figures[STRONG_SPEARMAN] > 0.8
    assert figures[SAME_SIGN_CLAIMED] == pytest.approx(figures[SAME_SIGN], abs=0.03)
    bold = values(strong_figures(*halves(TRUTH, 2.0, claimed=2 / 3)))
    assert bold[SAME_SIGN_CLAIMED] > bold[SAME_SIGN] + 0.1


def test_strong_items_are_judged_from_both_sides() -> None:
    found = np.array([[5.0, -5.0, 5.0, 0.0, 0.0]])
    sure, unsure = np.full((1, 5), 0.1), np.full((1, 5), 100.0)
    first, second = Estimated(found, sure), Estimated(found * [1, -1, 1, 1, 1], unsure)
    figures = values(strong_figures(first, second))  # three of five from one side, else none
    assert figures[STRONG] == pytest.approx(0.3) and figures[SAME_SIGN] == pytest.approx(2 / 3)
    assert strong_figures(Estimated(found, unsure), second).keys() == {STRONG}


@pytest.mark.parametrize(("claimed", "covered"), [(0.5, 0.95), (0.25, 0.673), (1.0, 0.9999)])
def test_coverage_is_that_of_the_normal_law(claimed: float, covered: float) -> None:
    """Halves whose noise is ½: P(|N(0, 1)| < 1.96 · claimed / ½)."""
    figures = coverage_figures(*halves(TRUTH, 0.5, claimed))
    assert figures[COVERAGE].value == pytest.approx(covered, abs=0.01)


def test_the_largest_of_many_are_covered_less_and_of_few_all_are_taken() -> None:
    """All is noise, so the ten largest of 200 are those with the largest noise."""
    figures = values(coverage_figures(*halves(np.zeros((TARGETS, ITEMS)), 1.0)))
    assert figures[COVERAGE] == pytest.approx(0.95, abs=0.01) and figures[COVERAGE_TOP] < 0.8
    pair = [Estimated(np.array([row]), np.ones((1, 2))) for row in ([1.0, 5.0], [1.5, 9.0])]
    assert values(coverage_figures(*pair)) == {COVERAGE: 0.5, COVERAGE_TOP: 0.5}


# Whose items are removed


def test_proponents_are_the_highest_scores_the_first_of_equals_first() -> None:
    scores = np.array([[0.5, 2, -1, 2, 0], [-3, -2, -5, -4, -1.0]])
    assert proponents(scores, 3).tolist() == [[1, 3, 0], [4, 1, 0]]


@given(st.integers(0, 2**31), st.integers(1, 10))
def test_the_control_has_the_same_labels_and_more_holds_fewer(seed: int, count: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, 60)
    scores = np.random.default_rng(seed + 1).normal(size=(5, 60))
    few, many = (alike(proponents(scores, size), labels, seed) for size in (count, 2 * count))
    for row, drawn in enumerate(many):
        assert len(set(drawn)) == 2 * count and set(few[row]) <= set(drawn)
        assert sorted(labels[drawn]) == sorted(labels[proponents(scores, 2 * count)[row]])


def test_the_control_is_random() -> None:
    labels, removed = np.zeros(1000, int), np.tile(np.arange(500), (2, 1))
    drawn = alike(removed, labels, 0)
    assert len(np.intersect1d(drawn[0], removed[0])) == pytest.approx(250, abs=40)
    assert not np.array_equal(np.sort(drawn[0]), np.sort(drawn[1]))
    assert not np.array_equal(alike(removed, labels, 1), drawn)


# What comes out


def test_only_models_that_made_the_error_can_lose_it() -> None:
    stood = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1], [1, 0, 0]], bool)
    stands = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 1]], bool)
    before, after = Outcome(np.zeros((4, 3)), stood), Outcome(np.zeros((4, 3)), stands)
    assert after.flipped(before).tolist() == [0.25, 1.0]
    chances = np.log(np.array([[[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]]))
    made = Outcome.of(chances, np.array([1, 2]))
    np.testing.assert_allclose(made.losses, [[-np.log(0.5), -np.log(0.1)]])
    assert made.stands.tolist() == [[True, False]]


def additive(truth: np.ndarray, margin: float) -> Any:
    """Retraining where an item's removal adds so much to a loss; two classes."""

    def retrained(_: EvaluationTask, sets: Mapping[str, np.ndarray], seeds: int, *__: Any) -> Any:
        made = {}
        for name, rows in sets.items():
            lost = truth.sum(1) - np.stack([truth[:, own].sum(1) for own in rows])
            loss = np.logaddexp(0, -margin) + lost
            other = np.log(-np.expm1(-np.maximum(loss, 1e-9)))
            made[name] = np.stack([np.stack([-loss, other], 2)] * seeds)
        return made

    return retrained


Figures = dict[str, dict[str, Figure]]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Figures, np.ndarray]:
    """Figures of methods that know the truth, part of it, and nothing of it, for 40 errors."""
    rng = np.random.default_rng(0)
    truth = 0.02 * rng.normal(size=(40, ITEMS))
    partly, chance = truth + 0.02 * rng.normal(size=truth.shape), rng.normal(size=truth.shape)
    run = SimpleNamespace(folder=tmp_path, train=range(ITEMS))
    targets = SimpleNamespace(labels=torch.zeros(40, dtype=torch.int64), inputs=None)
    facts = {"run": run, "asked": {}, "epochs": lambda: 1, "positions": list(range(40))}
    facts["store"] = lambda *_: None
    task = cast(EvaluationTask, SimpleNamespace(**facts, targets=targets))
    monkeypatch.setattr(removal_module, "retrained", additive(truth, 0.4))
    made = {}
    for name, scores in zip(KNOWLEDGE, (truth, partly, chance, -truth), strict=True):
        removed = {count: proponents(scores, count) for count in (5, 20, 60)}
        before, after = retrained_without(task, list(removed.values()), 3)
        sums = [np.take_along_axis(scores, own, 1).sum(1) for own in removed.values()]
        outcomes = dict(zip(removed, after, strict=True))
        made[name] = figures_of(np.stack(sums, 1), before, outcomes)
    return made, truth


def test_the_truth_comes_out_best_and_chance_as_none(world: tuple[Figures, np.ndarray]) -> None:
    made, truth = world
    for count in (5, 20, 60):
        changes = [made[name][f"change@{count}"].value for name in KNOWLEDGE]
        assert changes == sorted(changes, reverse=True) and changes[1] > 2 * abs(changes[2])
        assert changes[0] == pytest.approx(np.sort(truth, 1)[:, -count:].sum(1).mean())
        gone = [made[name][f"flipped@{count}"].value for name in KNOWLEDGE]
        assert gone == sorted(gone, reverse=True) and gone[3] == 0
    assert made["truth"]["flipped@20"].value > 0.9 > 0.1 > made["chance"]["flipped@20"].value
    for name in (SPEARMAN, SAME_SIZE):
        assert made["truth"][name].value == pytest.approx(1)
        assert 0.3 < made["partly"][name].value < 1
        blind = made["chance"][name]
        assert abs(blind.value) < 0.25 and (blind.low or 0) < 0 < (blind.high or 0)


def test_loss_added_is_what_proponents_do_beyond_random_items_of_their_labels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    truth = 0.02 * rng.normal(size=(40, ITEMS))
    train = pd.DataFrame({"label": np.arange(ITEMS) % 4})
    facts = {"asked": {}, "epochs": lambda: 1, "positions": list(range(40)), "device": "cpu"}
    facts |= {"run": SimpleNamespace(folder=tmp_path, train=train), "cluster": None}
    targets = SimpleNamespace(labels=torch.zeros(40, dtype=torch.int64))
    settings = SimpleNamespace(seed=0)
    task = cast(EvaluationTask, SimpleNamespace(**facts, targets=targets, settings=settings))
    methods = {"truth": truth, "chance": rng.normal(size=truth.shape)}
    scored = [Scored(name, scores, 0.0, 0.0) for name, scores in methods.items()]
    monkeypatch.setattr(removal_module, "retrained", additive(truth, 0.4))
    monkeypatch.setattr(removal_module, "_methods", lambda *_: scored)
    monkeypatch.setattr(EvaluationTask, "of", lambda *_, **__: task)
    measured = measure_added(task, Options(seeds=2))
    assert measured["removed"] == [2, 10]
    for row, scores in zip(measured["rows"], methods.values(), strict=True):
        for name, count in (("1%", 2), ("5%", 10)):
            removed = proponents(scores, count)
            others = alike(removed, train["label"].to_numpy(), 0)
            each = [np.take_along_axis(truth, own, 1).sum(1).mean() for own in (removed, others)]
            assert row.figures[f"change@{name}"].value == pytest.approx(each[0])
            assert row.figures[f"added@{name}"].value == pytest.approx(each[0] - each[1])
    assert (measured["rows"][0].figures["added@5%"].low or 0) > 0.2


def test_a_method_that_predicts_nothing_and_few_errors_have_no_correlation() -> None:
    stood = np.ones((2, 3), bool)
    before, after = (Outcome(np.full((2, 3), loss), stood) for loss in (0.5, 0.75))
    for predicted in (None, np.ones((3, 1))):
        made = values(figures_of(predicted, before, {5: after}))
        assert made == {"change@5": 0.25, "flipped@5": 0}
    nobody = Outcome(before.losses, ~stood)
    assert set(figures_of(None, nobody, {5: after})) == {"change@5"}
