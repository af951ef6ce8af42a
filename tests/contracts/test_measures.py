"""The figures of all measures: against naive re-implementations, and where the answer is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from turnover.attribution.estimators.estimator import row_pearson
from turnover.data.base import CONFIRMED_ERROR, WRONG_LABEL
from turnover.errors import TurnoverError
from turnover.research.baselines.simple import signed_similarity
from turnover.research.evaluate import labels, lds, loo
from turnover.research.evaluate import statistics as rows_of
from turnover.research.evaluate.lds import LDS, PLACEBO
from turnover.research.evaluate.results import Figure
from turnover.research.evaluate.scores import Options, Scored
from turnover.research.evaluate.task import EvaluationTask
from turnover.runs.ranking import clearest_first, clearness, known_answers
from turnover.runs.run import Ranked, Run
from turnover.workflows.subsets import draw_halves

CUE, TRAIN = "cue-x", 100
TARGETS, ITEMS, HALVES = 40, 80, 30
seeds = st.integers(0, 2**31)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers, the same for the same seed."""
    return np.random.default_rng(seed).normal(size=shape)


def bounds(figure: Figure) -> tuple[float, float]:
    """The interval, which there is, and which holds the value."""
    assert figure.low is not None and figure.high is not None
    assert figure.low <= figure.value <= figure.high
    return figure.low, figure.high


def values(figures: dict[str, Figure]) -> dict[str, float]:
    """Figures as numbers."""
    return {name: figure.value for name, figure in figures.items()}


# Correlations of rows


def test_rows_correlate_as_numpy_and_scipy_say() -> None:
    first, second = noise(4, 30), noise(4, 30, seed=1).round(1) + noise(4, 30)
    pairs = list(zip(first, second, strict=True))
    known = [np.corrcoef(*pair)[0, 1] for pair in pairs]
    np.testing.assert_allclose(row_pearson(first, second), known)
    tied = second.round()
    known = [spearmanr(*pair).statistic for pair in zip(first, tied, strict=True)]
    np.testing.assert_allclose(rows_of.row_spearman(first, tied), known)
    pooled = rows_of.pooled_spearman(first, second).value
    assert pooled == pytest.approx(spearmanr(first.ravel(), second.ravel()).statistic)
    second[1] = 7.25
    for correlate in (row_pearson, rows_of.row_spearman):
        made = correlate(first, second)
        assert made[1] == 0 and made[[0, 2, 3]].all(), "a row without spread counts as nothing"


def test_intervals_hold_their_values_and_narrow() -> None:
    truth = noise(40, 200)
    seen = truth + noise(40, 200, seed=1)
    pairs = (truth[:5, :20], seen[:5, :20]), (truth, seen)
    few, many = (np.ptp(bounds(rows_of.mean_spearman(*pair))) for pair in pairs)
    assert many < 0.5 * few
    assert bounds(rows_of.mean_spearman(truth, truth)) == pytest.approx((1, 1))
    numbers = noise(400)
    mean = rows_of.mean_over_rows(numbers)
    assert mean.value == pytest.approx(numbers.mean())
    assert np.ptp(bounds(mean)) == pytest.approx(2 * 1.96 * numbers.std() / 20, rel=0.15)
    first, second = noise(30, 4), noise(30, 4) + noise(30, 4, seed=1)
    tiled = ((np.tile(first, times), np.tile(second, times)) for times in (1, 5))
    once, again = (bounds(rows_of.pooled_spearman(*pair)) for pair in tiled)
    assert again == pytest.approx(once, abs=0.01), "a row's entries are one observation"


def test_the_interval_of_a_median_holds_the_true_one() -> None:
    samples = (np.random.default_rng(seed).exponential(size=60) for seed in range(100))
    found = [bounds(rows_of.median_over_rows(sample)) for sample in samples]
    held = sum(low <= np.log(2) <= high for low, high in found)
    assert held / 100 == pytest.approx(0.95, abs=0.06)


@pytest.mark.parametrize("repeats", [2, 5])
def test_reliability_is_the_share_of_true_variance(repeats: int) -> None:
    """Of the mean of S repeats with true variance 1 and noise variance 4: 1 / (1 + 4/S)."""
    seen = noise(60, 300)[None] + 2 * noise(repeats, 60, 300, seed=1)
    assert rows_of.reliability(seen) == pytest.approx(1 / (1 + 4 / repeats), abs=0.03)
    assert rows_of.reliability(seen[:1]) is None
    assert rows_of.spearman_brown(0.5, 2) == pytest.approx(2 / 3)
    assert rows_of.spearman_brown(0.3, 1) == pytest.approx(0.3)
    there = rows_of.spearman_brown(0.3, 4)
    assert rows_of.spearman_brown(there, 1 / 4) == pytest.approx(0.3)


# Linear datamodeling score


INSIDE = lds.membership(draw_halves(ITEMS, HALVES, seed=1), ITEMS)


def linear_losses(scores: np.ndarray, inside: np.ndarray = INSIDE) -> np.ndarray:
    """Losses that fall by an item's score whenever the item is in; every seed is the same."""
    return np.stack([np.linspace(1, 5, TARGETS) - inside @ scores.T] * 3)


def test_halves_are_halves_without_repeats_and_follow_the_seed() -> None:
    halves = draw_halves(61, 2000, seed=5)
    assert halves.shape == (2000, 30) and (np.diff(halves) > 0).all()
    assert halves.min() == 0 and halves.max() == 60
    assert np.array_equal(draw_halves(61, 7, seed=5), halves[:7]), "more change none of the first"
    assert not np.array_equal(draw_halves(61, 7, seed=6), halves[:7])
    counts = np.bincount(halves.ravel(), minlength=61) / 2000
    assert counts == pytest.approx(np.full(61, 30 / 61), abs=0.06)
    for row, half in zip(INSIDE, draw_halves(ITEMS, HALVES, seed=1), strict=True):
        assert np.array_equal(np.flatnonzero(row), half) and set(row) == {0, 1}


def test_the_true_linear_model_has_a_score_of_one_and_one_dealt_out_anew_none() -> None:
    scores = noise(TARGETS, ITEMS)
    losses = linear_losses(scores)
    figure = lds.lds(scores, INSIDE, losses)
    assert (figure.value, *bounds(figure)) == pytest.approx((1, 1, 1))
    assert lds.lds(-scores, INSIDE, losses).value == pytest.approx(-1), "positive helps"
    summed = scores[3, np.flatnonzero(INSIDE[4])].sum()
    assert lds.predicted(scores, INSIDE)[3, 4] == pytest.approx(summed)
    dealt, alike = lds.placebo(scores, INSIDE, losses), np.tile(scores[:1], (TARGETS, 1))
    assert abs(dealt.value) < 0.05 and dealt.low is None
    assert abs(lds.placebo(alike, INSIDE, linear_losses(alike)).value) < 0.05
    assert abs(lds.lds(noise(TARGETS, ITEMS, seed=1), INSIDE, losses).value) < 0.1


def test_a_target_s_scale_does_not_matter() -> None:
    rng, scores = np.random.default_rng(3), noise(TARGETS, ITEMS)
    losses = linear_losses(scores + rng.normal(size=scores.shape))
    value = lds.lds(scores, INSIDE, losses).value
    assert 0.5 < value < 0.95
    scales, shifts = rng.uniform(0.1, 10, (TARGETS, 1)), rng.normal(size=(TARGETS, 1))
    assert lds.lds(scores * scales + shifts, INSIDE, losses).value == pytest.approx(value)
    moved = losses * scales[:, 0] + shifts[:, 0]
    assert lds.lds(scores, INSIDE, moved).value == pytest.approx(value)


def test_a_row_has_score_placebo_and_costs_and_a_refusal_has_none() -> None:
    """Of influences that are all the same nothing can be dealt out: the placebo is not 0."""
    scores, uneven = noise(TARGETS, ITEMS), np.tril(np.ones((HALVES, ITEMS)))
    losses, equal = linear_losses(scores), np.ones((TARGETS, ITEMS))
    row = lds.row_of(Scored("a method", scores, 2.0, 3.0, "fine"), INSIDE, losses)
    told = (row.method, row.train_seconds, row.estimate_seconds, row.note)
    assert told == ("a method", 2.0, 3.0, "fine")
    known = {LDS: lds.lds(scores, INSIDE, losses), PLACEBO: lds.placebo(scores, INSIDE, losses)}
    assert row.figures == known
    refused = lds.row_of(Scored("a method", np.empty(0), 0, 0, "refused: deep"), INSIDE, losses)
    assert (refused.figures, refused.note) == ({}, "refused: deep")
    bad = lds.row_of(Scored("all", equal, 0, 0, "best"), uneven, linear_losses(equal, uneven))
    assert bad.figures[PLACEBO].value == pytest.approx(1)
    assert bad.note == "best; the placebo is not 0: take more halves or targets"


# Leaving one out


def test_left_out_items_are_drawn_once_and_a_perfect_method_agrees_perfectly() -> None:
    drawn = loo.draw_instances(50, 8, seed=1)
    assert len(drawn) == 8 and (np.diff(drawn) > 0).all()
    assert np.array_equal(loo.draw_instances(50, 8, seed=1), drawn)
    assert not np.array_equal(loo.draw_instances(50, 8, seed=2), drawn)
    assert loo.draw_instances(5, 8, seed=1).tolist() == [0, 1, 2, 3, 4]
    truth, seen = noise(50, 40), noise(50, 40) + noise(50, 40, seed=1)
    perfect, partly = loo.target_figures(3 * truth, truth), loo.target_figures(seen, truth)
    assert perfect[loo.TARGETS].value == pytest.approx(1) and abs(perfect[PLACEBO].value) < 0.1
    assert partly[loo.TARGETS].value == pytest.approx(rows_of.row_spearman(seen, truth).mean())
    on_itself = values(loo.self_figures(np.exp(truth[0]), truth[0]))
    assert on_itself[loo.SELF] == pytest.approx(1) and 0 < on_itself[loo.SELF_PEARSON] < 1


# Ranks of duplicates


@given(seeds)
def test_a_rank_is_the_place_in_the_sorted_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, rows = rng.normal(size=(6, 50)), rng.integers(6, size=9)
    columns = rng.integers(50, size=9)
    orders, pairs = np.argsort(-scores, axis=1), zip(rows, columns, strict=True)
    places = [orders[row].tolist().index(column) + 1 for row, column in pairs]
    shares = labels.rank_shares(scores, rows, columns)
    np.testing.assert_allclose(shares, np.array(places) / 50)


def test_equals_share_their_middle_place() -> None:
    scores, rows = np.array([[3.0, 1, 1, 1, 0]]), np.array([0, 0, 0])
    assert (5 * labels.rank_shares(scores, rows, np.array([0, 2, 4]))).tolist() == [1, 3, 5]
    everyone = labels.rank_shares(np.zeros((1, 9)), np.zeros(9, int), np.arange(9))
    assert (9 * everyone).tolist() == [5] * 9, "who says nothing ranks nobody first"


def test_the_oracle_ranks_its_duplicate_first_and_chance_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.arange(300), rng.integers(1000, size=300)
    chance = rng.normal(size=(300, 1000))
    oracle = chance.copy()
    oracle[rows, columns] += 20
    shares = [labels.rank_shares(one, rows, columns) for one in (oracle, chance, -oracle)]
    made, blind, contrary = (values(labels.figures_of(own)) for own in shares)
    assert made == pytest.approx({labels.RANK: 1 / 1000, labels.TOP_SHARE: 1})
    assert blind[labels.RANK] == pytest.approx(0.5, abs=0.06)
    assert blind[labels.TOP_SHARE] == pytest.approx(0.01, abs=0.015)
    assert contrary == {labels.RANK: 1, labels.TOP_SHARE: 0}


# Planted answers


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40))
def test_the_area_is_scikit_learn_s_with_ties_too(items: list[tuple[bool, int]]) -> None:
    marked = np.array([own for own, _ in items])
    suspicion = np.array([float(value) for _, value in items])
    if 0 < marked.sum() < len(marked):
        figure = labels.auc(marked, suspicion)
        assert figure.value == pytest.approx(roc_auc_score(marked, suspicion))
        assert bounds(figure)[0] >= 0 and bounds(figure)[1] <= 1


def test_the_area_s_interval_is_that_of_repeated_samples() -> None:
    """Of 400 samples of unit normal numbers one apart, 95 % hold the true area, Φ(1/√2)."""
    rng, marked = np.random.default_rng(0), np.arange(200) < 40
    found = [bounds(labels.auc(marked, rng.normal(size=200) + marked)) for _ in range(400)]
    assert np.mean([low <= 0.7602 <= high for low, high in found]) == pytest.approx(0.95, abs=0.03)


def test_precision_counts_the_most_suspicious() -> None:
    marked, suspicion = np.array([1, 0, 1, 0, 1], bool), np.array([5.0, 4.0, 3.0, 3.0, 1.0])
    shares = [labels.precision(marked, suspicion, count).value for count in range(1, 6)]
    assert shares == pytest.approx([1, 0.5, 2 / 3, 0.5, 0.6])


def test_the_confirmed_errors_are_found_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = [CONFIRMED_ERROR] * 5 + [WRONG_LABEL] * 5 + [""] * 90
    run = SimpleNamespace(folder=Path("a-run"), train=pd.DataFrame({"planted": marks}))
    oracle = np.array([[mark == CONFIRMED_ERROR for mark in marks]], float)
    ways = [Scored("oracle", oracle, 1.0, 2.0), Scored("contrary", -oracle, 0, 0)]
    ways.append(Scored("none", np.empty(0), 0, 0, "refused: too deep"))
    monkeypatch.setattr(labels, "suspicions", lambda task, options: iter(ways))
    made = labels.measure_real_errors(cast(EvaluationTask, SimpleNamespace(run=run)), Options())
    first, second, refused = made["rows"]
    assert (first.figures["AUC"].value, first.figures["precision@5"].value) == (1, 1)
    assert (first.train_seconds, first.estimate_seconds) == (1, 2)
    assert second.figures["AUC"].value == 0
    assert (refused.figures, refused.note) == ({}, "refused: too deep")


MARKS = [CUE] * 10 + [WRONG_LABEL] * 5 + [""] * 85


@dataclass
class Planted:
    """The parts of a run that the measures read: items with a cue or a wrong label."""

    values: dict[int, np.ndarray]
    marks: list[str]
    folder: Path = Path("planted")
    train: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"planted": MARKS}))

    def item(self, split: str, position: int) -> dict[str, Any]:
        assert split == "validation"
        return {"planted": self.marks[position]}

    @property
    def influence(self) -> SimpleNamespace:
        def ranked(position: int, meaning: str) -> Ranked:
            assert meaning == "prediction"
            return Ranked(np.arange(TRAIN), self.values[position], np.full(TRAIN, 0.5))

        own = np.zeros(TRAIN)
        own[10:15] = [5, 4, 3, 2, 0]
        return SimpleNamespace(misclassified=list(self.values), ranked=ranked, self_influence=own)


def a_run(values: dict[int, np.ndarray], *marks: str) -> Run:
    """A run with these influences on errors that carry these marks."""
    return cast(Run, Planted(values, list(marks)))


def ranking(first: range) -> np.ndarray:
    """Influences that put the items of `first` on top."""
    made = np.linspace(-1, 0, TRAIN)
    made[list(first)] = 2
    return made


def test_self_influence_finds_wrong_labels_a_tie_counting_half() -> None:
    run = a_run({})
    assert labels.wrong_label_auc(run) == pytest.approx((4 + 0.5) / 5)
    run.train["planted"] = ""
    with pytest.raises(TurnoverError, match="label-noise"):
        labels.wrong_label_auc(run)


def test_lift_is_the_share_of_the_top_ten_over_chance() -> None:
    found = {error: ranking(range(start, start + 10)) for error, start in enumerate((0, 5, 50))}
    run = a_run(found, CUE, CUE, "")
    marked, lift = labels.cue_lift(run, CUE, labels.influence_scores(run))
    assert (marked, lift.value, lift.low, lift.high) == (
        2,
        *map(pytest.approx, (7.5, 5, 10)),
    )
    blind = a_run({error: noise(TRAIN, seed=error) for error in range(400)}, *[CUE] * 400)
    _, lift = labels.cue_lift(blind, CUE, labels.influence_scores(blind))
    low, high = bounds(lift)
    assert 0.8 < low < 1 < high < 1.2
    nobody = a_run({0: ranking(range(10))}, "")
    with pytest.raises(TurnoverError, match=CUE):
        labels.cue_lift(nobody, CUE, labels.influence_scores(nobody))


def test_errors_with_a_known_answer_come_first_then_the_clearest() -> None:
    far = ranking(range(50, 60))
    found = {0: far, 1: ranking(range(4)), 2: ranking(range(10)), 3: far * 3}
    run = a_run(found, "", CUE, CUE, "")
    assert [known_answers(run, error) for error in found] == [0, 4, 10, 0]
    assert clearness(run, 3) == pytest.approx(12) and clearest_first(run) == [2, 1, 3, 0]


def test_signed_similarity_is_the_cosine_with_the_labels_sign() -> None:
    features = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.0, 0.0]])
    target, labels = np.array([[1.0, 1.0]]), np.array([1, 0, 0, 1])
    (scores,) = signed_similarity(target, np.array([1]), features, labels)
    assert scores == pytest.approx([np.sqrt(0.5), -np.sqrt(0.5), -1, 0])
