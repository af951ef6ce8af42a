"""Flags: durable, reversible, never overwritten; their file of any version, their table for all.

Many processes at once and kill -9 are in `tests/nightly`.
"""

from __future__ import annotations

import csv
import io
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import turnover.flags.flags as book
from tests.helpers.builders import names
from tests.helpers.fake_runs import FakeRun
from turnover import TurnoverError
from turnover.flags import CLEARED, MAX_NOTE, Flag, Flags, Overview, user_name
from turnover.flags.export import export_judged_csv
from turnover.flags.flags import VARIABLE, conflicts, in_force
from turnover.flags.judgements import judge, judgements
from turnover.flags.store import DECIDED, IMPORTED, SETTLED, Decision
from turnover.runs.run import Run


def verdicts(flags: Flags) -> dict[int, tuple[str, str]]:
    return {instance: flag.verdict for instance, flag in flags.current().items()}


def two(folder: Path) -> tuple[Flags, Flags]:
    """Ann's and Bob's."""
    return Flags(folder, by="ann"), Flags(folder, by="bob")


def test_the_newest_decision_counts_and_history_stays(tmp_path: Path) -> None:
    """A folder without flags has none, and stays untouched until there is one."""
    flags = Flags(tmp_path)
    seen = flags.current(), flags.overview().conflicts, flags.history(1), flags.overview().last
    assert (seen, names(tmp_path)) == (({}, [], [], None), [])
    flags.put(3, "drop", note="looks wrong")
    flags.put(3, "relabel", "positive")
    flags.put(5, "keep")
    assert verdicts(flags) == {3: ("relabel", "positive"), 5: ("keep", "")}
    flags.clear(3)
    assert list(flags.current()) == list(Flags(tmp_path).current()) == [5]
    actions = [decision.flag.action for decision in flags.history(3)]
    assert actions == ["drop", "relabel", CLEARED]
    assert flags.history(3)[0].flag.note == "looks wrong" and flags.history(4) == []
    assert names(tmp_path) == ["flags.sqlite"]


def test_one_decision_on_many_items_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    flags = Flags(tmp_path)
    stored = flags.put_many([4, 2, 9], "drop", note="hurts")
    assert [flag.instance for flag in stored] == [4, 2, 9]
    there = {number: flag.note for number, flag in flags.current().items()}
    assert there == {2: "hurts", 4: "hurts", 9: "hurts"}
    with pytest.raises(TypeError):
        flags.put_many([1, None], "drop")  # type: ignore[list-item]
    for impossible in (-1, 2**63):
        with pytest.raises(TurnoverError, match="no training item"):
            flags.put_many([1, impossible], "drop")
    assert list(flags.current()) == [2, 4, 9] and flags.put_many([], "drop") == []


SENSELESS = {
    ("burn", ""): "unknown action 'burn'",
    ("relabel", ""): "a relabel needs the new label, and only a relabel has one",
    ("drop", "positive"): "a relabel needs the new label, and only a relabel has one",
    (CLEARED, ""): "unknown action",
    ("relabel", "\ud800"): "names of the classes",
}


def test_decisions_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for (action, label), why in SENSELESS.items():
        with pytest.raises(TurnoverError, match=why):
            Flags(tmp_path).put(1, action, label)
    assert Flags(tmp_path).current() == {}


def test_the_name_is_the_one_given_then_the_variable_then_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    account = user_name()
    assert account
    monkeypatch.setenv(VARIABLE, "  Ann\n Example ")
    assert Flags(tmp_path).put(1, "keep").by == user_name() == "Ann Example"
    assert Flags(tmp_path, by="bob@example.org").put(1, "keep").by == "bob@example.org"
    monkeypatch.setenv(VARIABLE, " \n")
    assert Flags(tmp_path, by="").put(1, "keep").by == account
    assert len(Flags(tmp_path, by="x" * 500).by) == 100


NOTES = ["<b>&amp;", "=1+1", "\u202eabc", "a\0b", "\ud800", "n" * 100_000, "two\nlines"]


@pytest.mark.parametrize("note", [*NOTES, "\0" * 3000 + "kept?"], ids=repr)
def test_notes_are_kept_as_they_are_but_for_null_bytes_and_length(
    tmp_path: Path, note: str
) -> None:
    kept = Flags(tmp_path).put(1, "drop", note=note).note
    assert Flags(tmp_path).current()[1].note == kept
    assert len(kept) <= MAX_NOTE and "\0" not in kept
    if "\0" not in note and "\ud800" not in note:
        assert kept == note[:MAX_NOTE]


# Undo

Call = tuple[str, str, tuple[str, str], list[int]]
VERDICTS = some.sampled_from(
    [("drop", ""), ("keep", ""), ("relabel", "a"), ("relabel", "b"), (CLEARED, "")]
)
PEOPLE = some.sampled_from(["ann", "bob", "eve"])
ITEMS = some.lists(some.integers(0, 3), min_size=1, max_size=3)
HOW = some.sampled_from([DECIDED, DECIDED, SETTLED, IMPORTED])
CALLS = some.lists(some.tuples(PEOPLE, HOW, VERDICTS, ITEMS), max_size=9)


def written(calls: list[Call], undone: int | None = None) -> list[Decision]:
    """The history of some calls, one of them undone."""
    rows: list[Decision] = []
    for step, (by, kind, (action, label), instances) in enumerate(calls):
        for instance in instances:
            flag = Flag(instance, action, label, "", by, f"{step:03d}")
            if kind != IMPORTED or action != CLEARED:
                rows.append(
                    Decision(len(rows), step, kind, flag, "later" if step == undone else "")
                )
    return rows


@given(CALLS, some.integers(0, 8))
def test_an_undone_call_counts_as_if_it_had_never_been_made(calls: list[Call], undone: int) -> None:
    without = [decision for decision in written(calls) if decision.step != undone]
    assert in_force(written(calls, undone)) == in_force(without)
    assert conflicts(written(calls, undone)) == conflicts(without)


@given(CALLS)
def test_an_import_changes_no_flag_that_was_put_here(calls: list[Call]) -> None:
    rows, state = written(calls), dict[int, Flag]()
    local: set[int] = set()
    for place, decision in enumerate(rows):
        after, instance = in_force(rows[: place + 1]), decision.flag.instance
        if decision.imported:
            assert all(after[own] == flag for own, flag in state.items() if own in local)
        elif decision.flag.action == CLEARED:
            assert instance not in after
            local.discard(instance)
        else:
            assert after[instance] == decision.flag
            local.add(instance)
        state = after


DOES = some.sampled_from(["put", "put", "clear", "settle", "undo", "undo"])
Made = tuple[str, str, tuple[str, str], int]


@settings(max_examples=10)
@given(some.lists(some.tuples(PEOPLE, DOES, VERDICTS, some.integers(0, 2)), max_size=12))
def test_what_undo_leaves_is_what_the_other_calls_alone_would_have_made(
    tmp_path_factory: pytest.TempPathFactory, calls: list[Made]
) -> None:
    """Through the file: two folders, one where calls are undone, one where these never are made."""
    folder, alone = (tmp_path_factory.mktemp(name) for name in ("undone", "alone"))
    standing: list[Made] = []
    for call in calls:
        by, does, _, _ = call
        own = [place for place, one in enumerate(standing) if one[0] == by]
        if does != "undo":
            standing.append(call)
            make(folder, call)
        elif own:
            del standing[own[-1]]
            Flags(folder, by=by).undo()
        else:
            with pytest.raises(TurnoverError, match="nothing to undo"):
                Flags(folder, by=by).undo()
    for call in standing:
        make(alone, call)
    assert verdicts(Flags(folder)) == verdicts(Flags(alone))
    disputed = [
        [
            (one.instance, [(made.flag.by, made.flag.verdict) for made in one.decisions])
            for one in Flags(place).overview().conflicts
        ]
        for place in (folder, alone)
    ]
    assert disputed[0] == disputed[1]


def make(folder: Path, call: Made) -> None:
    by, does, (action, label), instance = call
    flags = Flags(folder, by=by)
    if does == "clear" or (does == "put" and action == CLEARED):
        flags.clear(instance)
    elif does == "put":
        flags.put_many([instance, instance + 1], action, label)
    else:
        flags.settle(instance, action, label)


def test_undo_walks_back_through_one_s_own_calls_and_leaves_those_of_others(tmp_path: Path) -> None:
    ann, bob = two(tmp_path)
    ann.put(1, "keep", note="first")
    ann.put_many([1, 2, 3], "drop")
    bob.put(2, "relabel", "positive")
    last = ann.overview().last
    assert last and [flag.instance for flag in last.flags] == [1, 2, 3] and last.kind == DECIDED
    assert ann.undo(last.number) == last
    assert verdicts(ann) == {1: ("keep", ""), 2: ("relabel", "positive")}
    assert ann.current()[1].note == "first"
    with pytest.raises(TurnoverError, match="look again"):
        ann.undo(last.number)
    ann.undo()
    assert verdicts(ann) == {2: ("relabel", "positive")}
    with pytest.raises(TurnoverError, match="nothing to undo: ann"):
        ann.undo()
    bob.undo()
    assert ann.current() == {} and ann.overview().last is None
    undone = [(decision.flag.by, bool(decision.undone)) for decision in ann.history(2)]
    assert undone == [("ann", True), ("bob", True)]


def test_clearing_and_settling_can_be_undone_too(tmp_path: Path) -> None:
    ann, bob = two(tmp_path)
    ann.put(1, "drop")
    ann.clear(1)
    ann.undo()
    assert verdicts(ann) == {1: ("drop", "")}
    bob.put(1, "keep")
    bob.settle(1, CLEARED)
    assert ann.current() == {} and ann.overview().conflicts == []
    bob.undo()
    assert verdicts(ann) == {1: ("keep", "")} and len(ann.overview().conflicts) == 1


def test_a_clock_that_was_put_back_changes_neither_order_nor_undo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, now = Flags(tmp_path), datetime.now(UTC)
    for days, action in ((0, "drop"), (400, "keep")):
        at = (now - timedelta(days=days)).isoformat()
        monkeypatch.setattr(book, "_now", lambda at=at: at)
        flags.put(3, action)
    assert flags.current()[3].action == "keep"
    assert [one.flag.action for one in flags.history(3)] == ["drop", "keep"]
    assert flags.undo().flags[0].action == "keep" and flags.current()[3].action == "drop"


# Conflicts, imports


def test_people_who_differ_are_listed_until_somebody_settles(tmp_path: Path) -> None:
    ann, bob = two(tmp_path)
    assert ann.overview() == Overview({}, [], None)
    ann.put(1, "keep")
    ann.put(1, "drop", note="mine")
    bob.put(1, "drop", note="the same, other words")
    assert ann.overview().conflicts == []
    bob.put(1, "relabel", "positive")
    ann.put(2, "drop")
    (conflict,) = ann.overview().conflicts
    assert conflict.instance == 1 and conflict.flag and conflict.flag.by == "bob"
    differ = [(decision.flag.by, decision.flag.verdict) for decision in conflict.decisions]
    assert differ == [("ann", ("drop", "")), ("bob", ("relabel", "positive"))]
    seen = ann.overview()
    assert (seen.flags, seen.conflicts) == (ann.current(), [conflict])
    assert seen.last and seen.last.flags == (seen.flags[2],)
    Flags(tmp_path, by="eve").settle(1, "drop", note="settled")
    assert ann.overview().conflicts == [] and ann.current()[1].by == "eve"
    bob.put(1, "keep")
    assert [decision.flag.by for decision in ann.overview().conflicts[0].decisions] == [
        "eve",
        "bob",
    ]
    with pytest.raises(TurnoverError):
        ann.settle(1, CLEARED, "positive")


def test_a_flag_that_somebody_else_clears_is_a_conflict_one_s_own_is_not(tmp_path: Path) -> None:
    ann, bob = two(tmp_path)
    ann.put_many([1, 2], "drop")
    bob.clear(1)
    ann.clear(2)
    assert ann.current() == {}
    assert [(one.instance, one.flag) for one in ann.overview().conflicts] == [(1, None)]


def flag(instance: int, action: str = "drop", by: str = "bob", at: str = "2026-11-01") -> Flag:
    return Flag(instance, action, "", "why", by, at)


def test_a_merge_adds_with_name_and_time_and_a_second_one_changes_nothing(tmp_path: Path) -> None:
    ann, _ = two(tmp_path)
    ann.put(1, "keep")
    given_flags = [flag(1), flag(2), flag(2)]
    merged = ann.merge(given_flags)
    assert (merged.new, merged.conflicting, merged.known) == (2, 1, 0)
    assert verdicts(ann) == {1: ("keep", ""), 2: ("drop", "")}
    assert ann.current()[2] == given_flags[1]
    before = ann.history(1) + ann.history(2)
    again = ann.merge(given_flags)
    assert (again.new, again.conflicting, again.known) == (0, 0, 2)
    assert ann.history(1) + ann.history(2) == before
    ann.clear(2)
    assert ann.merge(given_flags).new == 0 and verdicts(ann) == {1: ("keep", "")}
    for _ in range(2):  # the clearing, then the import
        ann.undo()
    assert verdicts(ann) == {1: ("keep", "")} and ann.overview().conflicts == []
    assert ann.merge(given_flags).new == 2


def test_a_newer_import_of_the_same_person_replaces_an_older_one_and_none_of_one_s_own(
    tmp_path: Path,
) -> None:
    ann, _ = two(tmp_path)
    for action, at, counts in (
        ("drop", "02", "drop"),
        ("keep", "01", "drop"),
        ("keep", "03", "keep"),
    ):
        ann.merge([flag(1, action, at=f"2026-11-{at}")])
        assert verdicts(ann) == {1: (counts, "")} and ann.overview().conflicts == []
    ann.merge([flag(1, "drop", by="eve", at="2026-11-04")])
    assert verdicts(ann) == {1: ("keep", "")} and len(ann.overview().conflicts) == 1
    ann.put(2, "keep")
    ann.merge([flag(2, "drop", by="ann", at="2999-01-01")])
    assert verdicts(ann)[2] == ("keep", "") and len(ann.overview().conflicts) == 2


# Judgements on errors


def test_the_newest_judgement_counts_and_says_who_and_when(tmp_path: Path) -> None:
    ann, bob = two(tmp_path)
    assert (judgements(ann), names(tmp_path)) == ({}, [])
    judge(ann, 4, "label wrong")
    judge(bob, 4, "model wrong")
    judge(bob, 2, "unclear")
    assert {place: (one.verdict, one.by) for place, one in judgements(ann).items()} == {
        2: ("unclear", "bob"),
        4: ("model wrong", "bob"),
    }
    assert datetime.fromisoformat(judgements(ann)[2].at) <= datetime.now(UTC)
    judge(ann, 4, "")
    assert [*judgements(ann)] == [2], "what was said is taken back"
    assert ann.current() == {} and ann.overview().last is None
    ann.put(4, "drop")
    assert ann.undo().flags[0].instance == 4 and [*judgements(ann)] == [2]


def test_a_judgement_that_is_none_is_refused(tmp_path: Path) -> None:
    flags = Flags(tmp_path)
    with pytest.raises(TurnoverError, match="unknown verdict 'maybe'"):
        judge(flags, 1, "maybe")
    judge(flags, 1, "unclear")
    with closing(sqlite3.connect(tmp_path / "flags.sqlite")) as database, database:
        database.execute("UPDATE judgements SET verdict = 7")
    with pytest.raises(TurnoverError, match="a judgement is none"):
        judgements(flags)


def test_judged_errors_are_a_table_that_is_safe_for_spreadsheets(tmp_path: Path) -> None:
    run = Run(FakeRun(texts=["=1+1"]).write(tmp_path))
    judge(Flags(run.folder, by="@ann"), 3, "label wrong")
    head, row = csv.reader(io.StringIO(export_judged_csv(run).removeprefix("\ufeff")))
    assert head == ["id", "text", "label", "predicted", "judgement", "by", "at"]
    assert row[:6] == ["v003", "'=1+1", "positive", "negative", "label wrong", "'@ann"]
