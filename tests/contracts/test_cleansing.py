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
    count_removed,
    given_labels,
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


def test_every_condition_is_compared_with_those_before_it() -> None:
    """Accuracy and loss each with its own seeds' differences."""
    accuracies = {NONE: [0.5, 0.75, 0.625], RANDOM: [0.5, 0.5, 0.75], CLEANSED: [0.75, 0.875, 0.75]}
    losses = {NONE: [0.3, 0.5, 0.4], RANDOM: [0.5, 0.25, 0.75], CLEANSED: [0.1, 0.125, 0.3]}
    made = [
        Retrained(name, seed, accuracies[name][seed], losses[name][seed], 0.0)
        for seed in range(3)
        for name in CONDITIONS
    ]
    found = {
        one.condition: {other.other: other for other in one.against} for one in summarise(made)
    }
    others = {name: list(against) for name, against in found.items()}
    assert others == {NONE: [], RANDOM: [NONE], CLEANSED: [NONE, RANDOM]}
    for name, against in found.items():
        for other, one in against.items():
            for p, values in ((one.accuracy_p, accuracies), (one.loss_p, losses)):
                assert p == pytest.approx(ttest_rel(values[name], values[other]).pvalue)
            assert one.loss == pytest.approx(np.mean(losses[name]) - np.mean(losses[other]))


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
    own = [Retrained(RANDOM, seed, 0.5, value, 0.0) for seed, value in enumerate(differences)]
    (found,) = summarise(none + own)[1].against
    assert (found.accuracy_p, found.accuracy_interval) == (None, None)
    if np.ptp(differences) <= 1e-9:
        assert (found.loss_p, found.loss_interval) == (None, None)
        return
    expected = ttest_1samp(differences, 0).confidence_interval()
    assert found.loss_interval == pytest.approx(tuple(expected), abs=1e-12)
    assert found.loss_interval is not None and found.loss_p is not None
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
