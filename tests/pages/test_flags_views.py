"""What the Flags page says, from runs and flags alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_runs import HOSTILE, FakeRun
from turnover.cli import build_parser
from turnover.dashboard.shared.choice_view import ANY
from turnover.dashboard.shared.flags_view import (
    ANY_DECISION,
    ANYBODY,
    DECISIONS,
    FlagQuery,
    apply_command,
    disputes,
    history_lines,
    import_sentence,
    people,
    select,
    summary,
    undo_sentence,
)
from turnover.explain.report import (
    Flagged,
    count_words,
    flagged_items,
    minute,
    people_words,
    verdict_words,
)
from turnover.flags import CLEARED, Flag, Flags
from turnover.runs.run import Run


def item(
    place: int,
    action: str = "drop",
    by: str = "ann",
    note: str = "",
    label: str = "negative",
    new_label: str = "",
) -> Flagged:
    flag = Flag(place, action, new_label, note, by, f"2026-11-01T10:{place:02d}:00+00:00")
    return Flagged(f"t{place:03d}", label, "", f"text number {place}", b"", flag)


ITEMS = [
    item(1),
    item(2, "keep", "bob"),
    item(3, "relabel", note="Why NOT", new_label="positive"),
    item(4, label="positive", by="bob"),
]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (FlagQuery(), [4, 3, 2, 1]),
        (FlagQuery(decision="Drop"), [4, 1]),
        (FlagQuery(decision="Relabel"), [3]),
        (FlagQuery(decision="Keep", person="ann"), []),
        (FlagQuery(label="positive"), [4]),
        (FlagQuery(person="bob"), [4, 2]),
        (FlagQuery(search=" why not "), [3]),
        (FlagQuery(search="T002"), [2]),
        (FlagQuery(search="number 4"), [4]),
        (FlagQuery(decision="nonsense of a link"), [4, 3, 2, 1]),
    ],
)
def test_flags_are_filtered_and_the_newest_is_first(query: FlagQuery, expected: list[int]) -> None:
    assert [one.flag.instance for one in select(ITEMS, query)] == expected


def test_the_defaults_leave_nothing_out() -> None:
    assert (
        FlagQuery() == FlagQuery(ANY_DECISION, ANY, ANYBODY, "") and DECISIONS[ANY_DECISION] == ""
    )
    assert people(ITEMS) == ["ann", "bob"]


def test_counts_and_people_in_words() -> None:
    assert (
        summary(ITEMS)
        == "4 training items flagged: 2 to drop, 1 to relabel, 1 to keep; by ann, bob."
    )
    assert summary(ITEMS[:1]) == "1 training item flagged: 1 to drop; by ann."
    assert count_words([one.flag for one in ITEMS[1:2]]) == "1 to keep"
    assert (
        people_words([item(place, by=f"p{place}").flag for place in range(7)])
        == "p0, p1, p2, p3, p4 and 2 more"
    )
    assert minute("2026-11-01T10:04:59.123+00:00") == "2026-11-01 10:04 UTC"
    assert [verdict_words(one.flag) for one in ITEMS[:3]] == ["drop", "keep", "relabel to positive"]


def test_items_of_flags_are_those_of_the_run(tmp_path: Path) -> None:
    for kind in ("text", "image"):
        run = Run(FakeRun(kind, kind).write(tmp_path))
        Flags(run.folder).put_many([4, 1000], "drop")
        (one,) = flagged_items(run, Flags(run.folder).current())
        row = run.item("train", 4)
        assert (one.id, one.label, one.injected) == (
            row["id"],
            run.classes[row["label"]],
            row["planted"],
        )
        assert (one.text, one.image) == (
            (row["text"], b"") if kind == "text" else ("", row["image"])
        )


def test_undo_says_what_it_takes_back(tmp_path: Path) -> None:
    run = Run(FakeRun().write(tmp_path))
    ann = Flags(run.folder, by="ann")
    assert undo_sentence(run, ann.overview().last) == "There is nothing of yours to undo."
    steps = [
        (lambda: ann.put(3, "relabel", "negative"), "“relabel to negative” on t003"),
        (lambda: ann.put_many([1, 2, 5, 7], "drop"), "“drop” on 4 items (t001, t002, t005 …)"),
        (lambda: ann.clear(3), "“no flag” on t003"),
        (lambda: ann.settle(3, "keep"), "“settled as keep” on t003"),
        (lambda: ann.merge([item(9, by="bob").flag]), "the import of 1 flag"),
    ]
    for decide, words in steps:
        decide()
        assert undo_sentence(run, ann.overview().last).startswith(f"Undo takes back {words}, of 20")


def test_disputes_show_each_decision_once_with_all_who_hold_it(tmp_path: Path) -> None:
    run = Run(FakeRun().write(tmp_path))
    for by, action, note in (("ann", "drop", "bad"), ("bob", "keep", ""), ("eve", "drop", "worse")):
        Flags(run.folder, by=by).put(3, action, note=note)
    Flags(run.folder, by="ann").merge([item(3, "relabel", "zoe", new_label="negative").flag])
    (dispute,) = disputes(run, Flags(run.folder).overview().conflicts)
    assert dispute.item.id == "t003" and dispute.now == "drop (eve)"
    assert [(side.letter, side.words, side.notes) for side in dispute.sides] == [
        ("A", "drop", ("bad", "worse")),
        ("B", "keep", ()),
        ("C", "relabel to negative", ()),
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


def test_the_history_of_an_item_in_words(tmp_path: Path) -> None:
    ann = Flags(tmp_path, by="ann")
    ann.put(3, "drop", note="first")
    ann.put(3, "keep")
    ann.undo()
    ann.clear(3)
    ann.settle(3, CLEARED)
    lines = history_lines(ann.history(3))
    assert [line.split("UTC: ")[1].split(" (")[0] for line, _ in lines] == [
        "drop",
        "keep",
        "cleared the flag",
        "settled: cleared the flag",
    ]
    assert "(undone 20" in lines[1][0] and [note for _, note in lines] == ["first", "", "", ""]


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


def test_hostile_texts_pass_through_as_they_are(tmp_path: Path) -> None:
    """Views leave escaping to what draws."""
    run = Run(FakeRun(texts=HOSTILE).write(tmp_path))
    Flags(run.folder, by="<b>ann</b>").put(0, "drop", note=HOSTILE[3])
    (one,) = flagged_items(run, Flags(run.folder).current())
    assert (one.text, one.flag.note, one.flag.by) == (HOSTILE[0], HOSTILE[3], "<b>ann</b>")
