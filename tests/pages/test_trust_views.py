"""What the Trust tab says, from numbers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_runs import FakeRun
from turnover.dashboard.runs.measured_view import OURS, build_measured
from turnover.dashboard.runs.trust_view import (
    GOAL,
    build_trust,
    open_measures,
    sentence_of,
    time_to_measure,
)
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
from turnover.runs.run import Run


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
        ([], {}, "there is nothing to trust yet"),
        ([], {"misclassified": 3, "members": 1}, "With one model, nothing tells"),
        ([0, 0, 0], {}, "cannot tell for any of 3 errors whether its explanation is reliable. So "),
        ([0], {}, "cannot tell for any of 1 error whether"),
        ([5] + [0] * 9, {}, "1 of the 10 errors are reliable; for 9 the tool cannot tell. So read"),
        ([50, 60, 70], {}, "The explanations of all 3 errors are reliable."),
        ([50] * 48 + [0] * 2, {}, "48 of the 50 errors are reliable; for 2 the tool cannot tell."),
    ],
)
def test_the_sentence_says_for_how_many_errors_and_what_to_do(
    strong: list[int], changes: dict[str, Any], words: str
) -> None:
    found = certainty(strong, **changes)
    assert words in sentence_of(found)
    assert build_trust(found, Results()).readable is (found.share >= GOAL)


@pytest.mark.parametrize(("timings", "words"), [({"twin": 16.0}, "about 14 min"), ({}, "some min")])
def test_what_can_be_measured_and_how_long_it_takes(
    tmp_path: Path, timings: dict[str, float], words: str
) -> None:
    run = Run(FakeRun(facts={"timings": timings}).write(tmp_path))
    assert words in time_to_measure(run, "lds")
    assert "some minutes" in time_to_measure(run, "agreement")
    every = open_measures(run, Results())
    assert every == ("lds", "agreement", "removal", "loo", "injected", "causes")
    fresh, stale = result("lds", row("a")), result("agreement", row("a"), stale="old")
    assert open_measures(run, Results((fresh, stale))) == every[1:]


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


def test_methods_come_best_first_whichever_way_that_is() -> None:
    rows = [
        row("baseline", LDS=Figure(0.1)),
        row(AS_SHOWN, LDS=Figure(0.9)),
        row("refused"),
        row(f"{TURNOVER}, mean", 0.0, LDS=Figure(0.5)),
    ]
    measured = build_measured(result("lds", *rows, ceiling=0.95))
    assert [(point.method, point.kind == OURS, point.shown) for point in measured.points] == [
        (AS_SHOWN, True, True),
        (f"{TURNOVER}, mean", True, False),
        ("baseline", False, False),
    ]
    assert measured.ceiling == 0.95 and measured.chance == 0
    assert list(measured.table["Method"])[3] == "refused"
    ranks = [row(name, **{RANK: Figure(value)}) for name, value in (("a", 0.4), ("b", 0.1))]
    low = build_measured(result("duplicates", *ranks))
    assert [point.method for point in low.points] == ["b", "a"] and "lower is better" in low.axis


def test_a_measure_nobody_knows_is_shown_by_its_first_figure() -> None:
    measured = build_measured(result("brand-new", row("a", score=Figure(2.0), other=Figure(1.0))))
    assert (measured.figure, measured.question) == ("score", "Brand new")
    assert measured.chance is None and measured.ceiling is None


@pytest.mark.parametrize(("reliability", "ceiling"), [(0.25, 0.5), (-0.1, 0), (None, None)])
def test_the_ceiling_is_the_root_of_the_truth_s_reliability(
    reliability: float | None, ceiling: float | None
) -> None:
    rows = row("a", targets=Figure(0.1))
    measured = build_measured(result("loo", rows, reliability_targets=reliability))
    assert measured.ceiling == ceiling
