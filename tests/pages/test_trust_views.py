"""What the Trust page says, from numbers alone."""

from __future__ import annotations

from typing import Any

import pytest

from turnover.dashboard.runs.measured_view import build_measured
from turnover.dashboard.runs.trust_view import GOAL, build_trust, sentence_of
from turnover.explain.facts import Certainty
from turnover.research.evaluate.results import (
    AS_SHOWN,
    RANK,
    TURNOVER,
    Figure,
    Result,
    ResultRow,
    Results,
)


def certainty(strong: list[int], **changes: Any) -> Certainty:
    """So many strong items of 200 for each error; twice as many weak ones."""
    counts = dict(enumerate(strong))
    weak = {error: 2 * count for error, count in counts.items()}
    return Certainty(
        **{
            "strong": counts,
            "weak": weak,
            "misclassified": len(strong),
            "train_size": 200,
            "members": 8,
            "agreement": 0.3,
            "partly": False,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("strong", "changes", "words"),
    [
        ([], {}, "nothing to trust or to doubt"),
        (
            [],
            {"misclassified": 3, "members": 1},
            "Do not read single influences of this run: with one member",
        ),
        ([0, 0, 0], {}, "behind none of 3 errors"),
        ([0], {}, "behind none of 1 error "),
        (
            [5] + [0] * 9,
            {},
            "Mostly do not read single influences of this run: only behind 1 of 10 errors",
        ),
        ([50, 60, 70], {}, "60 of 200 training items (30%) can usually be told from noise."),
        (
            [50, 60, 0],
            {},
            (
                "50 of 200 training items (25%) can usually be told from noise; behind 1 of 3 "
                "errors none can."
            ),
        ),
        ([50, 60], {"partly": True}, "at least 55 of 200"),
    ],
)
def test_the_sentence_says_what_to_do(
    strong: list[int], changes: dict[str, Any], words: str
) -> None:
    found = certainty(strong, **changes)
    assert words in sentence_of(found)
    assert build_trust(found, Results()).readable is (found.share >= GOAL)


def test_words_say_how_often_they_are_said() -> None:
    strong, weak, noise = build_trust(certainty([*range(0, 101, 10)]), Results()).words
    assert (
        strong.here
        == "Here: 50 of 200 an error (the middle four fifths of the errors have 10 to 90)."
    )
    assert weak.here.startswith("Here: 100 of 200") and not noise.here
    assert build_trust(certainty([7]), Results()).words[0].here.startswith("Here: 7 of 200")


def result(name: str, *rows: ResultRow, stale: str = "", **facts: Any) -> Result:
    return Result(name, name.removesuffix("-masked"), facts, rows, stale)


def row(method: str, seconds: float = 1.0, **figures: Figure) -> ResultRow:
    return ResultRow(method, seconds, 0.0, figures)


def test_stale_measures_are_not_quoted() -> None:
    lds = row(AS_SHOWN, LDS=Figure(0.5))
    fresh, stale = (
        build_trust(certainty([3]), Results((result("lds", lds, stale=words),))).checked
        for words in ("", "old")
    )
    assert any("rank correlation of 0.500" in line for line in fresh) and not any(
        "rank correlation" in line for line in stale
    )


def test_points_are_numbered_from_the_best_whichever_way_that_is() -> None:
    rows = [
        row("baseline", LDS=Figure(0.1)),
        row(AS_SHOWN, LDS=Figure(0.9)),
        row("refused"),
        row(f"{TURNOVER}, mean", 0.0, LDS=Figure(0.5)),
    ]
    measured = build_measured(result("lds", *rows, ceiling=0.95), "runs/a")
    assert [
        (point.number, point.method, point.kind == TURNOVER, point.shown)
        for point in measured.points
    ] == [
        (1, AS_SHOWN, True, True),
        (2, f"{TURNOVER}, mean", True, False),
        (3, "baseline", False, False),
    ]
    assert measured.points[1].x == 0.001 and measured.ceiling == 0.95 and measured.chance == 0
    assert list(measured.table["No."])[:3] == [1, 2, 3] and measured.table["No."].isna().iloc[3]
    low = build_measured(
        result(
            "duplicates",
            *(
                ResultRow(name, 1, 1, {RANK: Figure(value)})
                for name, value in (("a", 0.4), ("b", 0.1))
            ),
        ),
        "runs/a",
    )
    assert [point.method for point in low.points] == ["b", "a"] and "lower is better" in low.axis


def test_a_measure_nobody_knows_is_shown_by_its_first_figure() -> None:
    measured = build_measured(
        result("brand-new", row("a", score=Figure(2.0), other=Figure(1.0))), "runs/a"
    )
    assert (measured.figure, measured.question, measured.chance, measured.ceiling) == (
        "score",
        "Brand new",
        None,
        None,
    )


def test_the_ceiling_is_the_root_of_the_truth_s_reliability() -> None:
    targets = {"targets": Figure(0.1)}
    assert (
        build_measured(
            result("loo", ResultRow("a", 1, 1, targets), reliability_targets=0.25), "r"
        ).ceiling
        == 0.5
    )
    assert (
        build_measured(
            result("loo", ResultRow("a", 1, 1, targets), reliability_targets=-0.1), "r"
        ).ceiling
        == 0
    )
    assert (
        build_measured(
            result("loo", ResultRow("a", 1, 1, targets), reliability_targets=None), "r"
        ).ceiling
        is None
    )


def test_the_command_measures_the_same_again() -> None:
    made = build_measured(result("lds-masked", row("a", LDS=Figure(0.1))), "runs/a")
    assert made.command == "turnover evaluate --run runs/a --measure lds --masked"
