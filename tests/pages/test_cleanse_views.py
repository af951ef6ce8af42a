"""What the Cleanse page says, as pure functions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.fake_runs import FakeRun
from turnover.attribution.estimators.estimator import Estimator
from turnover.dashboard.cleanse.cleanse_view import (
    LISTED,
    adoption_note,
    build_adoption,
    build_plan,
    build_retrained,
)
from turnover.errors import TurnoverError
from turnover.explain.explanation import rounded
from turnover.flags import Flag
from turnover.runs.run import Run
from turnover.workflows.cleansing import (
    CLEANSED,
    CONDITIONS,
    FLAGGED,
    NONE,
    RANDOM,
    Comparison,
    Summary,
)
from turnover.workflows.cleansing_results import Cleansed, Scores, run_scores


def flag(instance: int, action: str) -> Flag:
    return Flag(instance, action, "positive" if action == "relabel" else "", "", "me", "2026")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(FakeRun(train=60).write(tmp_path))


# The removal


def test_what_goes_are_the_lowest_scores_and_their_sum_is_the_effect(run: Run) -> None:
    scores = run_scores(run)
    values, errors = scores.estimates
    plan = build_plan(run, scores, 0.1, {})
    assert plan.positions.tolist() == np.argsort(values, kind="stable")[:6].tolist()
    assert plan.threshold == pytest.approx(np.sort(values)[5])
    total, error = scores.total(plan.positions)
    assert total < 0 and error is not None
    assert (
        f"changes the mean loss on 24 items by −{rounded(-total)} nats (± {rounded(error)})"
        in plan.effect
    )
    assert list(plan.table["Id"]) == [f"t{position:03d}" for position in plan.positions]
    assert plan.table["Influence"].to_numpy() == pytest.approx(values[plan.positions])
    assert plan.table["±"].to_numpy() == pytest.approx(errors[plan.positions])
    assert plan.classes["Go"].sum() == 6 and plan.classes["Training items"].sum() == 60


def test_a_fall_below_zero_loss_is_called_impossible(run: Run) -> None:
    members = np.full((4, 60), 0.001) + np.random.default_rng(0).normal(0, 1e-5, (4, 60))
    members[:, :6] -= 0.01
    small = Scores(members, None, Estimator("median", {}), 24)
    assert "cannot come true" not in build_plan(run, small, 0.1, {}).caution
    assert (
        "more than the whole loss on the validation items"
        in build_plan(run, Scores(100 * members, None, small.estimator, 24), 0.1, {}).caution
    )


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.5, 0.9])
def test_bins_hold_every_item_once_and_meet_at_the_threshold(run: Run, fraction: float) -> None:
    scores = run_scores(run)
    values, _ = scores.estimates
    plan = build_plan(run, scores, fraction, {})
    gone = sum(one.count for one in plan.bins if one.removed)
    assert gone == len(plan.positions) == int(60 * fraction + 0.5)
    assert sum(one.count for one in plan.bins) == 60
    assert all(
        one.high <= plan.threshold + 1e-9 if one.removed else one.low >= plan.threshold - 1e-9
        for one in plan.bins
    )
    for one in plan.bins:
        inside = (values > one.low - 1e-6) & (values < one.high + 1e-6)
        assert inside.sum() >= one.count


def test_equal_scores_are_no_trouble(run: Run) -> None:
    plan = build_plan(run, Scores(np.zeros((3, 60)), None, Estimator("median", {}), 24), 0.1, {})
    assert plan.positions.tolist() == list(range(6)) and sum(one.count for one in plan.bins) == 60


@pytest.mark.parametrize(
    ("fraction", "words"),
    [
        (0.001, "is not one item"),
        (0.999, "takes away every training item of class|is not one item"),
    ],
)
def test_a_removal_of_nothing_or_of_a_class_is_refused(
    run: Run, fraction: float, words: str
) -> None:
    with pytest.raises(TurnoverError, match=words):
        build_plan(run, run_scores(run), fraction, {})


def test_one_member_knows_no_error(tmp_path: Path) -> None:
    run = Run(FakeRun(members=1).write(tmp_path))
    plan = build_plan(run, run_scores(run), 0.1, {})
    assert "error not known" in plan.effect and "nan" not in plan.effect


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    run = Run(FakeRun(train=2000, members=2, validation=6).write(tmp_path))
    plan = build_plan(run, run_scores(run), 0.2, {})
    assert len(plan.positions) == 400 and len(plan.table) == LISTED


# Flags


def test_adopting_leaves_what_people_decided(run: Run) -> None:
    scores = run_scores(run)
    positions = [int(one) for one in build_plan(run, scores, 0.1, {}).positions]
    flags = {
        positions[0]: flag(positions[0], "keep"),
        positions[2]: flag(positions[2], "relabel"),
        positions[3]: flag(positions[3], "drop"),
        59: flag(59, "keep"),
    }
    adoption = build_adoption(build_plan(run, scores, 0.1, flags), flags)
    assert set(adoption.positions) == set(positions) - set(flags)
    assert adoption.sentence.startswith(
        f"{len(adoption.positions)} of the 6 items will be flagged to drop"
    )
    assert (
        "1 flagged to keep, 1 flagged to relabel and 1 flagged to drop already: what was decided on"
        " them stays." in adoption.sentence
    )


def test_a_note_says_where_a_flag_comes_from() -> None:
    assert (
        adoption_note(0.01, "validation")
        == "Cleansing: among the lowest 1.0% by mean influence on the validation items."
    )


# Retraining


def cleansed(
    loss: dict[tuple[str, str], tuple[float, tuple[float, float] | None]],
    seeds: int = 4,
    **changes: Any,
) -> Cleansed:
    """A result in which conditions differ in loss as said; accuracies are all the same."""
    names = (*CONDITIONS, FLAGGED) if any(FLAGGED in pair for pair in loss) else CONDITIONS
    conditions = []
    for place, name in enumerate(names):
        against = [
            Comparison(
                other, 0.0, None, None, *_difference(loss.get((name, other), (0.0, (-1.0, 1.0))))
            )
            for other in names[:place]
        ]
        conditions.append(Summary(name, 0.9, 0.01, 0.3, 0.02, 0.3, tuple(against)))
    facts = {
        "validation": "validation",
        "fraction": 0.01,
        "flags": None,
        "removed": 6,
        "repeats": seeds,
        "targets": 9,
        "measured_on": 9,
    }
    return Cleansed(
        "validation-0.01",
        facts | changes,
        tuple(conditions),
        Counter(dict.fromkeys(names, seeds)),
        True,
        "",
    )


def _difference(
    known: tuple[float, tuple[float, float] | None],
) -> tuple[float, float | None, tuple[float, float] | None]:
    value, interval = known
    return value, None if interval is None else 0.01, interval


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        ((-0.03, -0.01), "improved"),
        ((0.01, 0.03), "worsened"),
        ((-0.03, 0.0), ""),
        ((-0.05, 0.01), ""),
        (None, ""),
    ],
)
def test_nothing_is_called_improved_unless_its_interval_excludes_zero(
    interval: tuple[float, float] | None, word: str
) -> None:
    value = -0.02 if interval is None else sum(interval) / 2
    sentences = build_retrained(cleansed({(CLEANSED, RANDOM): (value, interval)})).sentences
    about = next(one for one in sentences if "random removal" in one and "loss" in one)
    assert [name for name in ("improved", "worsened") if any(name in one for one in sentences)] == (
        [word] if word else []
    )
    assert (word in about) if word else ("no difference" in about or "nothing can be said" in about)


def test_flags_are_compared_where_they_were_trained() -> None:
    view = build_retrained(
        cleansed({(FLAGGED, NONE): (-0.1, (-0.2, -0.05))}, flags={"dropped": 2, "relabelled": 1})
    )
    assert (
        "Your flags improved the loss by 0.100 nats against no cleansing (95 % interval of the "
        "difference −0.200 to −0.050)." in view.sentences
    )
    assert "Your flags drop 2 and relabel 1." in view.setting
    assert list(view.table["Condition"]) == [*CONDITIONS, FLAGGED]


def test_one_seed_says_nothing_and_a_part_claims_nothing() -> None:
    one = cleansed({(CLEANSED, RANDOM): (-0.1, None)}, seeds=1)
    assert all(
        "nothing can be said" in text
        for text in build_retrained(one).sentences
        if "against random" in text
    )
    assert "±" not in build_retrained(one).table["Accuracy"][0]
    part = replace(one, finished=False)
    assert build_retrained(part).sentences == () and len(build_retrained(part).table) == 3


def test_a_file_that_leaves_a_comparison_out_is_no_trouble() -> None:
    """As somebody else's may, whose checks hold."""
    whole = cleansed({(CLEANSED, RANDOM): (-0.1, (-0.2, -0.05))})
    alone = build_retrained(
        replace(whole, conditions=tuple(replace(one, against=()) for one in whole.conditions))
    )
    assert alone.sentences == () and list(alone.table["Loss against"]) == [""] * 3
