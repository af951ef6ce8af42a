"""What the tray says, from runs and flags alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_runs import FakeRun
from turnover.cli import build_parser
from turnover.dashboard.shared.tray_view import (
    apply_command,
    decisions_words,
    disputes,
    entries,
    import_sentence,
    matching,
    summary,
    undo_sentence,
)
from turnover.explain.report import people_words
from turnover.flags import Flag, Flags
from turnover.flags.judgements import Judgement
from turnover.runs.run import Run


def decided(place: int, by: str = "ann", action: str = "drop", label: str = "") -> Flag:
    return Flag(place, action, label, "Why NOT", by, f"2026-11-01T10:{place:02d}:00+00:00")


FLAGS = {
    flag.instance: flag
    for flag in (
        decided(1),
        decided(2, "bob", "keep"),
        decided(3, action="relabel", label="positive"),
        decided(4, "bob"),
        decided(1000),
    )
}
JUDGED = {3: Judgement(3, "unclear", "eve", "2026-11-01T10:03:30+00:00")}


@pytest.mark.parametrize("kind", ["text", "image"])
def test_decisions_are_those_on_items_of_the_run_newest_first(tmp_path: Path, kind: str) -> None:
    run = Run(FakeRun(kind, kind).write(tmp_path))
    known = entries(run, FLAGS, JUDGED)
    assert [one.id for one in known] == ["t004", "v003", "t003", "t002", "t001"]
    for one in known:
        row = run.item(one.split, one.position)
        content = (row["text"], b"") if kind == "text" else ("", row["image"])
        assert (one.id, one.text, one.image) == (row["id"], *content)
    assert [one.verdict for one in known[:3]] == ["drop", "unclear", "relabel to positive"]
    assert known[0].who == "bob, 2026-11-01 10:04 UTC"


def test_decisions_are_found_by_all_words(tmp_path: Path) -> None:
    known = entries(Run(FakeRun().write(tmp_path)), FLAGS, JUDGED)
    for search, found in (
        ("", ["t004", "v003", "t003", "t002", "t001"]),
        ("  why BOB", ["t004", "t002"]),
        ("T002", ["t002"]),
        ("unclear", ["v003"]),
        ("relabel positive", ["t003"]),
        ("eve, drop", []),
    ):
        assert [one.id for one in matching(known, search)] == found


def test_counts_and_people_in_words() -> None:
    flags = [FLAGS[place] for place in (1, 2, 3, 4)]
    words = "4 training items flagged: 2 to drop, 1 to relabel, 1 to keep; by ann, bob."
    assert summary(flags, 0) == words and summary(flags, 2) == f"{words} 2 errors judged."
    assert summary([], 1) == "1 error judged."
    assert people_words([decided(1, f"p{place}") for place in range(7)]).endswith(" and 2 more")
    assert [decisions_words(count) for count in (0, 1, 1200)] == [
        "0 decisions",
        "1 decision",
        "1,200 decisions",
    ]


def test_undo_says_what_it_takes_back(tmp_path: Path) -> None:
    run = Run(FakeRun().write(tmp_path))
    ann = Flags(run.folder, by="ann")
    assert ann.overview().last is None
    steps = [
        (lambda: ann.put(3, "relabel", "negative"), "“relabel to negative” on t003"),
        (lambda: ann.put_many([1, 2, 5, 7], "drop"), "“drop” on 4 items (t001, t002, t005 …)"),
        (lambda: ann.clear(3), "“no flag” on t003"),
        (lambda: ann.settle(3, "keep"), "“settled as keep” on t003"),
        (lambda: ann.merge([decided(9, "bob")]), "the import of 1 flag"),
    ]
    for decide, words in steps:
        decide()
        last = ann.overview().last
        assert last and undo_sentence(run, last).startswith(f"Undo takes back {words}, of 20")


def test_disputes_show_each_decision_once_with_all_who_hold_it(tmp_path: Path) -> None:
    run = Run(FakeRun().write(tmp_path))
    for by, action, note in (("ann", "drop", "bad"), ("bob", "keep", ""), ("eve", "drop", "worse")):
        Flags(run.folder, by=by).put(3, action, note=note)
    Flags(run.folder, by="ann").merge([decided(3, "zoe", "relabel", "negative")])
    (dispute,) = disputes(run, Flags(run.folder).overview().conflicts)
    assert dispute.item.id == "t003" and dispute.now == "drop (eve)"
    assert [(side.letter, side.words, side.notes) for side in dispute.sides] == [
        ("A", "drop", ("bad", "worse")),
        ("B", "keep", ()),
        ("C", "relabel to negative", ("Why NOT",)),
    ]
    assert [person.split(",")[0] for person in dispute.sides[0].people] == ["ann", "eve"]
    assert dispute.sides[2].people[0].startswith("zoe (imported), ")
    assert dispute.sides[0].flag.note == "worse"


def test_a_cleared_flag_is_one_side_of_a_dispute(tmp_path: Path) -> None:
    run = Run(FakeRun().write(tmp_path))
    Flags(run.folder, by="ann").put(3, "drop")
    Flags(run.folder, by="bob").clear(3)
    (dispute,) = disputes(run, Flags(run.folder).overview().conflicts)
    assert dispute.now == "no flag" and [side.words for side in dispute.sides] == [
        "drop",
        "no flag",
    ]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"new": 2, "conflicting": 0, "known": 0}, "2 flags are new."),
        (
            {"new": 1, "conflicting": 1, "known": 3},
            (
                "1 flag is new. 1 of them differ from what others decided; settle them above. 3 "
                "were known already."
            ),
        ),
        (
            {"new": 0, "conflicting": 0, "known": 3},
            "Nothing new: 3 of its flags are known here already.",
        ),
        (
            {"new": 0, "conflicting": 0, "known": 0},
            "There is no flag in it that could be imported.",
        ),
    ],
)
def test_an_import_in_words(told: dict[str, Any], expected: str) -> None:
    assert import_sentence(told) == expected


@pytest.mark.parametrize(
    ("source", "path", "kind"),
    [("digits", None, "image"), ("sst2", "my data", "text"), ("fake", None, "text")],
)
def test_the_command_is_understood_by_the_command_line(
    tmp_path: Path, source: str, path: str | None, kind: str
) -> None:
    run = Run(
        FakeRun("a run; rm -rf x", kind, facts={"settings": {"data": source, "path": path}}).write(
            tmp_path
        )
    )
    command, missing = apply_command(run)
    import shlex

    parsed = build_parser().parse_args(shlex.split(command)[1:])
    assert (parsed.command, parsed.run) == ("apply", str(run.folder))
    assert parsed.data == (None if source == "digits" else "DATA")
    assert parsed.out.endswith(".csv" if kind == "text" else ".parquet")
    assert bool(missing) == (source != "digits")
