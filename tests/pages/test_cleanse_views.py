"""What the Cleanse page and `turnover cleanse` say of a cleansing, as pure functions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.fake_runs import FakeRun
from tests.pages.app_testing import a_curve
from turnover.attribution.estimators.estimator import Estimator
from turnover.dashboard.cleanse.cleanse_view import (
    LISTED,
    build_curve,
    build_offer,
    build_preview,
    decided_of,
    is_new,
    most_harmful,
    so_far,
    waiting,
)
from turnover.errors import TurnoverError
from turnover.flags import Flag
from turnover.runs.run import Run
from turnover.workflows.cleansing import CLEANSED, NONE, RANDOM, Retrained, summarise
from turnover.workflows.cleansing_results import (
    Cleansed,
    Scores,
    curve_of,
    keep_cleansing,
    run_scores,
)
from turnover.workflows.cleansing_words import NO, PERHAPS, UNCLEAR, UNTOLD, YES, points, verdict


def flag(instance: int, action: str) -> Flag:
    return Flag(instance, action, "positive" if action == "relabel" else "", "", "me", "2026")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(FakeRun(train=60).write(tmp_path))


def kept(run: Run, **facts: object) -> Cleansed:
    keep_cleansing(run, json.loads(json.dumps(a_curve(**facts))))
    curve = curve_of(run, "validation")
    assert curve
    return curve


# What would go


def test_what_would_go_are_the_lowest_scores_until_others_were_tried(run: Run) -> None:
    scores = run_scores(run)
    lowest = np.argsort(scores.estimates[0], kind="stable")
    assert most_harmful(run, 0.1, None, scores).tolist() == lowest[:6].tolist()
    curve = kept(run, removed_ids=[f"t{place:03d}" for place in range(12)])
    assert most_harmful(run, 0.1, curve, scores).tolist() == list(range(6))
    assert most_harmful(run, 0.2, curve, scores).tolist() == list(range(12))
    assert most_harmful(run, 0.3, curve, scores).tolist() == lowest[:18].tolist()
    for other in (replace(curve, stale="since"), kept(run, removed_ids=["gone"] * 12)):
        assert most_harmful(run, 0.1, other, scores).tolist() == lowest[:6].tolist()


def test_a_preview_counts_classes_and_marks_what_people_decided_otherwise(run: Run) -> None:
    flags = {4: flag(4, "keep"), 8: flag(8, "drop"), 5: flag(5, "relabel"), 50: flag(50, "keep")}
    preview = build_preview(run, np.array([8, 4, 5, 1]), flags)
    words = "4 of 60 training texts would go. On 2 of them somebody decided otherwise."
    assert preview.sentence == words and preview.undecided == (1,)
    assert preview.classes == (("negative", 2, 30), ("positive", 2, 30))
    assert [(one.id, one.otherwise) for one in preview.items] == [
        ("t008", False),
        ("t004", True),
        ("t005", True),
        ("t001", False),
    ]
    assert preview.items[1].decided == "me: keep" and preview.items[3].decided == ""
    assert preview.items[0].text.startswith(str(run.item("train", 8)["text"])[:40])


def test_a_long_preview_is_cut_and_one_of_nothing_or_of_a_class_is_refused(tmp_path: Path) -> None:
    run = Run(FakeRun(kind="image", train=2000, members=2, validation=6).write(tmp_path))
    preview = build_preview(run, np.arange(400), {})
    assert len(preview.positions) == 400 and len(preview.items) == LISTED
    assert preview.items[0].image and preview.sentence.startswith("400 of 2,000 training images")
    for gone, words in ((np.array([], int), "is not one item"), (np.arange(0, 2000, 2), "class")):
        with pytest.raises(TurnoverError, match=words):
            build_preview(run, gone, {})


def test_equal_scores_are_no_trouble(run: Run) -> None:
    scores = Scores(np.zeros((3, 60)), None, Estimator("median", {}), 24)
    assert most_harmful(run, 0.1, None, scores).tolist() == list(range(6))


# Does it help?


def models(
    changes: tuple[float, float], losses: tuple[float, float] = (0.0, 0.0), spread: float = 0.01
) -> list[Retrained]:
    """Of four seeds: cleansing at 10 % is so much more accurate than nothing removed and than
    random removal, and its loss differs so, up to a spread.
    """
    made = []
    for seed in range(4):
        noise = spread * (seed % 2 - 0.5) * (1 + seed)
        made += [
            Retrained(NONE, seed, 0.7, 0.5, 0.4),
            Retrained(CLEANSED, seed, 0.7 + changes[0] + noise, 0.5 + losses[0] + noise, 0.3, 0.1),
            Retrained(
                RANDOM,
                seed,
                0.7 + changes[0] - changes[1] - noise,
                0.5 + losses[0] - losses[1] - noise,
                0.5,
                0.1,
            ),
        ]
    return made


@pytest.mark.parametrize(
    ("changes", "losses", "word"),
    [
        ((0.2, 0.2), (0.0, 0.0), YES),
        ((0.2, 0.0), (0.0, 0.0), PERHAPS),
        ((0.0, 0.0), (-0.2, -0.2), PERHAPS),
        ((0.0, 0.0), (-0.2, 0.0), UNCLEAR),
        ((0.0, 0.2), (0.0, -0.2), UNCLEAR),
        ((0.0, 0.0), (0.0, 0.0), UNCLEAR),
        ((-0.2, 0.2), (-0.2, -0.2), NO),
    ],
)
def test_it_helps_only_where_both_intervals_say_so(
    changes: tuple[float, float], losses: tuple[float, float], word: str
) -> None:
    rows = summarise(models(changes, losses))
    finding = verdict(rows, [0.1], [6], 60)
    assert finding and (finding.word, finding.share, finding.count) == (word, 0.1, 6)
    assert "nats" not in finding.text
    assert ("which is more than chance" in finding.sentence) == (
        losses == (-0.2, -0.2) and not changes[0]
    )
    for comparison in rows[-1].against:
        low, high = comparison.accuracy_interval or (0, 0)
        assert (UNTOLD in points(comparison)) == (low <= 0 <= high)


def test_a_verdict_names_what_was_removed_and_both_accuracies() -> None:
    finding = verdict(summarise(models((0.2, 0.2), spread=0.001)), [0.1], [6], 60)
    assert finding and finding.text.startswith(
        "Yes. Without the 6 most harmful of 60 training items, accuracy goes from 70.0% to 90.0%: "
        "+20.0 points (95% interval +1"
    )


def test_of_one_training_nothing_can_be_told_and_of_parts_nothing_is_said() -> None:
    first = [model for model in models((0.2, 0.2)) if model.seed == 0]
    finding = verdict(summarise(first), [0.1], [6], 60)
    assert finding and finding.word == UNCLEAR and "without an interval" in finding.sentence
    for part in (first[:1], first[:2], first[1:]):
        assert verdict(summarise(part), [0.1], [6], 60) is None


def test_the_curve_shows_each_share_with_the_interval_of_the_change(run: Run) -> None:
    curve = build_curve(kept(run, flags=True))
    accuracy, loss = curve.figures
    assert [name for name, _ in accuracy.lines] == [
        "without the most harmful",
        "without as many random ones",
        "with your decisions",
    ]
    points = accuracy.lines[0][1]
    assert [point.name for point in points] == ["10 %", "20 %"]
    assert accuracy.lines[2][1][0].name == "decisions"
    assert all(
        point.low and point.high and point.low < point.value < point.high for point in points
    )
    assert "10 %" in loss.alt and not loss.percent
    assert (
        "9 validation items chose" in curve.setting and "2 to drop, 1 to relabel" in curve.setting
    )
    assert curve.verdict and curve.verdict.share in (0.1, 0.2)


def test_a_curve_that_has_only_begun_draws_nothing(run: Run) -> None:
    curve = kept(run)
    for rows in ((), curve.conditions[:1]):
        part = build_curve(replace(curve, conditions=rows, finished=False))
        assert part.figures == () and part.verdict is None


# What is offered


def test_a_button_says_how_long_it_takes_as_measured_here(run: Run) -> None:
    timed = Run(
        FakeRun("timed", facts={"timings": {"twin": 8.0}}).write(run.folder.parent)
    )  # four members
    assert build_offer(run, "validation", "", None, None).label == "Retrain and see"
    assert build_offer(timed, "validation", "", None, None).label == "Retrain and see (≈ 3 min)"
    measured = kept(run, seconds=20.0, trained=20)
    decisions = decided_of({1: flag(1, "drop")}, run)
    for curve, decided, repeats, label in (
        (measured, None, 8, "Retrain and see (≈ 44 s)"),
        (measured, decisions, 4, "Retrain with your decisions (≈ 4 s)"),
        (replace(measured, stale="since"), decisions, 4, "Retrain and see (≈ 48 s)"),
    ):
        offer = build_offer(run, "elec", "some/where", curve, decided, repeats)
        assert offer.label == label and ("--flags" in offer.step) == (decided is not None)
        assert offer.step[3:9] == (
            *("--repeats", str(repeats), "--validation", "elec"),
            *("--path", "some/where"),
        )
    assert waiting(None, 5) == waiting(3.0, 0) == ""


def test_decisions_are_new_until_they_were_trained_on(run: Run) -> None:
    decisions = decided_of({1: flag(1, "drop"), 2: flag(2, "keep")}, run)
    assert decisions and decided_of({2: flag(2, "keep")}, run) is None
    trained = {"dropped": 1, "relabelled": 0, "digest": decisions.digest}
    assert is_new(decisions, None) and not is_new(None, None)
    assert not is_new(decisions, kept(run, facts_flags=trained))
    assert is_new(decided_of({3: flag(3, "drop")}, run), kept(run, facts_flags=trained))


def test_parts_of_a_curve_are_those_of_the_job_at_work(run: Run) -> None:
    partial = kept(run)
    step = ["cleanse", "--repeats", "4", "--validation", "validation"]
    assert so_far(partial, [["cleanse"], step]) is partial
    for other in (
        ["cleanse"],
        [*step, "--flags"],
        [*step[:2], "8", *step[3:]],
        [*step[:-1], "elec"],
    ):
        assert so_far(partial, [other]) is None
    assert so_far(None, [step]) is None
