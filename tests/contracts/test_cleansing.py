"""Cleansing: what each condition removes, what is compared, and that retraining is plain training.

What is kept of a cleansing is in `test_kept_results`.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, ttest_rel

from tests.helpers.builders import run_python, train_digits
from tests.helpers.storage_testing import PLAIN_RECIPE, small_heads, small_splits
from turnover import Run, TurnoverError
from turnover.data.recipe import Recipe
from turnover.flags import Flag
from turnover.runs.model import run_settings, split_inputs
from turnover.training.fit import Split, accuracy, fit, item_losses
from turnover.workflows.cleansing import (
    CLEANSED,
    CONDITIONS,
    FLAGGED,
    NONE,
    RANDOM,
    WITH_FLAGS,
    Decisions,
    Retrained,
    chosen_share,
    count_removed,
    given_labels,
    halves,
    kept_rows,
    lowest,
    summarise,
)
from turnover.workflows.retraining import retrain

CPU = torch.device("cpu")
TRAIN, VALIDATION, MEASURED = small_splits()
SCORES = np.random.default_rng(0).standard_normal(30)
DECIDED = Decisions(np.array([3, 11]), np.array([0, 7]), (TRAIN.labels[[0, 7]].numpy() + 1) % 3)


# What goes


def test_a_fraction_is_rounded_to_the_nearest_count_and_halves_up() -> None:
    cases = [(100, 0.01, 1), (60, 0.01, 1), (40, 0.01, 0), (3, 0.5, 2), (5000, 0.05, 250)]
    for total, fraction, count in [*cases, (7, 0.0, 0), (7, 1.0, 7)]:
        assert count_removed(total, fraction) == count


IDS = st.lists(st.text(max_size=9), max_size=40, unique=True)


@given(ids=IDS, another=st.text(min_size=10))
def test_who_chooses_does_not_report_and_an_id_says_which(ids: list[str], another: str) -> None:
    """In any order; a new item moves one of the others at most."""
    choosing, reporting = halves(ids)
    assert sorted(choosing + reporting) == list(range(len(ids)))
    assert len(choosing) - len(reporting) in (0, 1)
    assert (choosing, reporting) == (sorted(choosing), sorted(reporting))
    named = {ids[position] for position in choosing}
    assert {ids[::-1][position] for position in halves(ids[::-1])[0]} == named
    more = {(*ids, another)[position] for position in halves([*ids, another])[0]} - {another}
    assert len(more ^ named) <= 1


TIED = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=30)


@given(scores=TIED, count=st.integers(0, 30))
def test_the_lowest_scores_come_in_order_and_ties_by_position(
    scores: list[float], count: int
) -> None:
    order = sorted(range(len(scores)), key=lambda position: (scores[position], position))
    assert lowest(np.array(scores), count).tolist() == order[:count]


@given(count=st.integers(0, 30), seed=st.integers(0, 2**31))
def test_conditions_keep_rising_positions_of_the_right_number(count: int, seed: int) -> None:
    kept = {name: kept_rows(name, SCORES, count, seed) for name in CONDITIONS}
    assert kept[NONE].tolist() == list(range(30))
    assert set(kept[CLEANSED]) == set(range(30)) - set(lowest(SCORES, count))
    for rows in (kept[RANDOM], kept[CLEANSED]):
        assert len(rows) == 30 - count and (np.diff(rows) > 0).all()


def test_random_removal_differs_by_seed_ignores_scores_and_is_even() -> None:
    everything = frozenset(range(30))
    gone = [everything - frozenset(kept_rows(RANDOM, SCORES, 6, seed)) for seed in range(600)]
    assert len(set(gone)) > 590 and gone[7] == everything - {*kept_rows(RANDOM, -SCORES, 6, 7)}
    counts = np.bincount([row for rows in gone for row in rows], minlength=30)
    assert abs(counts - 120).max() < 5 * np.sqrt(600 * 0.2 * 0.8)


def test_random_removal_is_the_same_in_another_process() -> None:
    code = """
import numpy as np
from turnover.workflows.cleansing import RANDOM, kept_rows
print([kept_rows(RANDOM, np.zeros(30), 6, seed).tolist() for seed in (0, 1, 2**40)])"""
    expected = [kept_rows(RANDOM, SCORES, 6, seed).tolist() for seed in (0, 1, 2**40)]
    assert json.loads(run_python(code)) == expected


def flag(instance: int, action: str = "drop", label: str = "") -> Flag:
    return Flag(instance, action, label, "", "me", "2026")


def test_flags_drop_and_relabel_and_a_flag_to_keep_changes_nothing() -> None:
    flags = {4: flag(4), 2: flag(2, "relabel", "b"), 9: flag(9, "keep")}
    found, labels = Decisions.of(flags, ["a", "b"], 10), np.zeros(10, np.int64)
    told = found.dropped.tolist(), found.relabelled.tolist(), found.labels.tolist()
    assert told == ([4], [2], [1])
    rows = kept_rows(FLAGGED, np.zeros(10), 3, 0, found)
    assert rows.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert given_labels(FLAGGED, labels, found).tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert given_labels(RANDOM, labels, found) is labels and labels.sum() == 0


NOTHING = "no training item is flagged to drop or to relabel"
UNUSABLE = [
    ({}, NOTHING),
    ({1: flag(1, "keep")}, NOTHING),
    ({10: flag(10)}, "flag on training item 10 does not fit"),
    ({1: flag(1, "relabel", "zebra")}, "flag on training item 1 does not fit"),
]


def test_flags_that_cannot_be_trained_on_are_refused() -> None:
    for flags, words in UNUSABLE:
        with pytest.raises(TurnoverError, match=words):
            Decisions.of(flags, ["a", "b"], 10)


# What is said


def retrained_with(condition: str, accuracies: list[float]) -> list[Retrained]:
    """Models whose losses are their accuracies plus 1 and 2."""
    made = enumerate(accuracies)
    return [Retrained(condition, seed, value, value + 1, value + 2) for seed, value in made]


def test_a_summary_is_numpy_s_in_whatever_order_models_come() -> None:
    base, own = [0.5, 0.625, 0.75, 0.5], [0.75, 0.625, 0.875, 0.625]
    both = retrained_with(NONE, base) + retrained_with(CLEANSED, own)
    none, cleansed = summarise([both[one] for one in np.random.default_rng(1).permutation(8)])
    assert (none.condition, none.against, cleansed.condition) == (NONE, (), CLEANSED)
    (against,) = cleansed.against
    mean, spread, p = np.mean(own), np.std(own, ddof=1), ttest_rel(own, base).pvalue
    assert (against.other, against.accuracy_p, against.loss_p) == (NONE, *[pytest.approx(p)] * 2)
    assert (against.accuracy, against.loss) == pytest.approx((mean - np.mean(base),) * 2)
    assert (cleansed.accuracy, cleansed.accuracy_sd) == pytest.approx((mean, spread))
    losses = cleansed.loss, cleansed.loss_sd, cleansed.validation_loss
    assert losses == pytest.approx((mean + 1, spread, mean + 2))


def test_a_share_is_compared_with_nothing_removed_and_cleansing_with_as_many_random_ones() -> None:
    """Accuracy and loss each with its own seeds' differences; flags come last."""
    rng = np.random.default_rng(0)
    which = [(NONE, 0.0), *((name, share) for share in (0.1, 0.2) for name in (RANDOM, CLEANSED))]
    which.append((FLAGGED, 0.0))
    models = [
        Retrained(name, seed, *rng.random(3), share) for seed in range(4) for name, share in which
    ]
    rows = summarise([models[place] for place in rng.permutation(len(models))])
    assert [(row.condition, row.share) for row in rows] == which

    def values(name: str, share: float, field: str) -> list[float]:
        return [getattr(m, field) for m in models if (m.condition, m.share) == (name, share)]

    for row in rows:
        others = {NONE: [], CLEANSED: [NONE, RANDOM]}.get(row.condition, [NONE])
        assert [one.other for one in row.against] == others
        for one in row.against:
            share = 0.0 if one.other == NONE else row.share
            for p, change, field in (
                (one.accuracy_p, one.accuracy, "accuracy"),
                (one.loss_p, one.loss, "loss"),
            ):
                pair = [
                    values(*which, field)
                    for which in ((row.condition, row.share), (one.other, share))
                ]
                assert p == pytest.approx(ttest_rel(*pair).pvalue)
                assert change == pytest.approx(np.subtract(*pair).mean())


def test_the_share_is_chosen_by_the_items_that_do_not_report() -> None:
    """Whatever the reported accuracy and loss are; of equal ones the smaller."""
    by_share = {0.01: (0.9, 0.1, 0.7), 0.1: (0.1, 0.9, 0.3), 0.2: (0.5, 0.5, 0.3)}
    models = [Retrained(CLEANSED, 0, *values, share) for share, values in by_share.items()]
    models += [Retrained(NONE, 0, 0.5, 0.5, 0.0), Retrained(RANDOM, 0, 0.5, 0.5, 0.1, 0.05)]
    assert chosen_share(summarise(models)) == 0.1
    assert chosen_share(summarise(models[3:])) is None


def test_seeds_of_only_one_condition_are_compared_with_nothing() -> None:
    rows = summarise(
        [Retrained(NONE, 0, 0.5, 0.5, 0.5), Retrained(CLEANSED, 1, 0.5, 0.5, 0.5, 0.1)]
    )
    assert [row.against for row in rows] == [(), ()]


EQUAL = [([0.5], [0.5]), ([0.5, 0.625, 0.75], [0.5, 0.625, 0.75])]
EQUAL += [([0.5, 0.625, 0.75], [0.625, 0.75, 0.875]), ([0.1, 0.0, 0.5], [0.3, 0.2, 0.7])]


@pytest.mark.parametrize(("base", "own"), EQUAL)
def test_without_a_spread_of_differences_there_is_no_p_value(
    base: list[float], own: list[float]
) -> None:
    """Also where they are equal but for rounding: in floats .3 - .1 is not .2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = retrained_with(NONE, base) + retrained_with(CLEANSED, own)
        none, cleansed = summarise(both)
    (against,) = cleansed.against
    assert (against.accuracy_p, against.loss_p, against.loss_interval) == (None, None, None)
    assert len(own) > 1 or (none.accuracy_sd, cleansed.loss_sd) == (0, 0)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9))
def test_an_interval_is_scipy_s_and_excludes_zero_where_p_is_below_a_twentieth(
    differences: list[float],
) -> None:
    none = [Retrained(NONE, seed, 0.5, 0.0, 0.0) for seed in range(len(differences))]
    own = [Retrained(RANDOM, seed, 0.5, value, 0.0, 0.1) for seed, value in enumerate(differences)]
    (found,) = summarise(none + own)[1].against
    assert (found.accuracy_p, found.accuracy_interval) == (None, None)
    if np.ptp(differences) <= 1e-9:
        assert (found.loss_p, found.loss_interval) == (None, None)
        return
    expected = ttest_1samp(differences, 0).confidence_interval()
    assert found.loss_interval == pytest.approx(tuple(expected), abs=1e-12)
    assert found.loss_interval is not None
    assert (found.loss_p is None) == (len(differences) < 4)
    if found.loss_p is None:
        return
    low, high = found.loss_interval
    assert low <= found.loss <= high and (low > 0 or high < 0) == (found.loss_p < 0.05)


# Retraining


def recipe(seed: int) -> Recipe:
    return replace(PLAIN_RECIPE, seed=seed)


def retrained(seeds: list[int], conditions: tuple[str, ...] = CONDITIONS) -> list[Retrained]:
    decided = DECIDED if FLAGGED in conditions else None
    data = TRAIN, VALIDATION, MEASURED, SCORES, 6
    return [
        retrain(small_heads(seed), recipe(seed), *data, name, decided)
        for seed in seeds
        for name in conditions
    ]


def test_the_same_seed_and_condition_give_the_same_bits_in_any_company() -> None:
    company = retrained([0, 1])
    order = [(seed, name) for seed in (0, 1) for name in CONDITIONS]
    assert [(one.seed, one.condition) for one in company] == order
    torch.randn(7)
    (alone,) = retrained([1], (CLEANSED,))
    assert alone == company[order.index((1, CLEANSED))]
    assert len({one.loss for one in company}) == 6
    assert [one for one in retrained([0, 1], WITH_FLAGS) if one.condition != FLAGGED] == company


@pytest.mark.parametrize("condition", WITH_FLAGS)
def test_retraining_is_plain_training_on_what_is_kept(condition: str) -> None:
    rows, labels = torch.from_numpy(kept_rows(condition, SCORES, 6, 3, DECIDED)), TRAIN.labels
    if condition == FLAGGED:
        assert rows.tolist() == [row for row in range(30) if row not in (3, 11)]
        labels = labels.clone()
        labels[[0, 7]] = (labels[[0, 7]] + 1) % 3
    model, kept = small_heads(3), Split(TRAIN.inputs[rows], labels[rows])
    fit(model, TRAIN if condition == NONE else kept, VALIDATION, recipe(3))
    losses = [float(item_losses(model, split).mean()) for split in (MEASURED, VALIDATION)]
    expected = Retrained(condition, 3, accuracy(model, MEASURED), *losses)
    assert retrained([3], (condition,)) == [expected]


def test_removing_planted_labels_beats_random_removal(tmp_path: Path) -> None:
    run = Run(train_digits(tmp_path / "run", limit=100, members=1, label_noise=0.3))
    planted = (run.train["label"] != run.train["true_label"]).to_numpy()
    assert planted.sum() == 30
    train, held = (
        Split(
            split_inputs(run, name, list(range(100)), CPU),
            torch.tensor(run.split(name)["label"].tolist()[:100]),
        )
        for name in ("train", "validation")
    )
    settings = replace(run_settings(run), members=1)
    made = [
        retrain(
            replace(settings, seed=seed).build(10, (1, 8, 8)),
            replace(settings.recipe, masked=False, seed=seed),
            *(train, held, held),
            np.where(planted, -1.0, 0.0),
            *(30, condition),
        )
        for seed in (0, 1)
        for condition in (RANDOM, CLEANSED)
    ]
    own, random = (
        np.mean([one.accuracy for one in made if one.condition == name])
        for name in (CLEANSED, RANDOM)
    )
    assert own >= random
