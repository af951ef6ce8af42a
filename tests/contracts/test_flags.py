"""Flags: durable, reversible, never overwritten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from core.errors import TurnoverError
from core.flags import CLEARED, MAX_NOTE, Flag, Flags, Overview, user_name
from core.flags.decision import DECIDED, IMPORTED, SETTLED, Decision
from core.flags.history import conflicts, in_force
from core.flags.people import VARIABLE


def verdicts(flags: Flags) -> dict[int, tuple[str, str]]:
    return {instance: flag.verdict for instance, flag in flags.current().items()}


def test_the_newest_decision_counts_and_history_stays(tmp_path: Path) -> None:
    flags = Flags(tmp_path)
    flags.put(3, "drop", note="looks wrong")
    flags.put(3, "relabel", "positive")
    flags.put(5, "keep")
    assert verdicts(flags) == {3: ("relabel", "positive"), 5: ("keep", "")}
    flags.clear(3)
    assert list(flags.current()) == [5]
    assert [decision.flag.action for decision in flags.history(3)] == ["drop", "relabel", CLEARED]
    assert flags.history(3)[0].flag.note == "looks wrong" and flags.history(4) == []


def test_a_folder_without_flags_has_none_and_stays_untouched(tmp_path: Path) -> None:
    flags = Flags(tmp_path)
    assert (flags.current(), flags.conflicts(), flags.history(1), flags.last()) == ({}, [], [], None)
    assert list(tmp_path.iterdir()) == []


def test_another_process_sees_a_decision_as_soon_as_it_was_made(tmp_path: Path) -> None:
    Flags(tmp_path).put(7, "drop")
    look = f"from pathlib import Path; from core.flags import Flags; print(list(Flags(Path({str(tmp_path)!r})).current()))"
    seen = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[7]"
    assert [path.name for path in tmp_path.iterdir()] == ["flags.sqlite"]


@pytest.mark.parametrize(("action", "label"), [("burn", ""), ("relabel", ""), ("drop", "positive"), (CLEARED, "")])
def test_decisions_that_make_no_sense_are_refused(tmp_path: Path, action: str, label: str) -> None:
    with pytest.raises(TurnoverError):
        Flags(tmp_path).put(1, action, label)
    assert Flags(tmp_path).current() == {}


@pytest.mark.parametrize("content", [b"not a database, but long enough to look like a file with something in it" * 9, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "flags.sqlite").write_bytes(content)
    for use in (Flags(tmp_path).current, Flags(tmp_path).last, lambda: Flags(tmp_path).put(1, "drop")):
        with pytest.raises(TurnoverError, match=r"flags\.sqlite"):
            use()
    assert (tmp_path / "flags.sqlite").read_bytes() == content


def test_an_empty_file_has_no_flags_and_takes_some(tmp_path: Path) -> None:
    (tmp_path / "flags.sqlite").touch()
    assert Flags(tmp_path).current() == {} and Flags(tmp_path).last() is None
    Flags(tmp_path).put(1, "keep")
    assert list(Flags(tmp_path).current()) == [1]


def test_one_decision_on_many_items_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    flags = Flags(tmp_path)
    stored = flags.put_many([4, 2, 9], "drop", note="hurts")
    assert [flag.instance for flag in stored] == [4, 2, 9]
    assert {number: flag.note for number, flag in flags.current().items()} == {2: "hurts", 4: "hurts", 9: "hurts"}
    with pytest.raises(TypeError):
        flags.put_many([1, None], "drop")  # type: ignore[list-item]
    for impossible in (-1, 2**63):
        with pytest.raises(TurnoverError, match="no training item"):
            flags.put_many([1, impossible], "drop")
    assert list(flags.current()) == [2, 4, 9]
    assert flags.put_many([], "drop") == []


# Who, and what they write


def test_the_name_is_the_one_given_then_the_variable_then_the_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    account = user_name()
    assert account
    monkeypatch.setenv(VARIABLE, "  Ann\n Example ")
    assert Flags(tmp_path).put(1, "keep").by == user_name() == "Ann Example"
    assert Flags(tmp_path, by="bob@example.org").put(1, "keep").by == "bob@example.org"
    monkeypatch.setenv(VARIABLE, " \n")
    assert Flags(tmp_path, by="").put(1, "keep").by == account
    assert len(Flags(tmp_path, by="x" * 500).by) == 100


@pytest.mark.parametrize("note", ["<b>&amp;", "=1+1", "\u202eabc", "a\0b", "\ud800", "n" * 100_000, "\0" * 3000 + "kept?", "two\nlines"])
def test_notes_are_kept_as_they_are_but_for_null_bytes_and_length(tmp_path: Path, note: str) -> None:
    kept = Flags(tmp_path).put(1, "drop", note=note).note
    assert Flags(tmp_path).current()[1].note == kept
    assert len(kept) <= MAX_NOTE and "\0" not in kept
    if "\0" not in note and "\ud800" not in note:
        assert kept == note[:MAX_NOTE]


def test_a_label_that_utf8_cannot_write_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match="names of the classes"):
        Flags(tmp_path).put(1, "relabel", "\ud800")
    assert Flags(tmp_path).current() == {}


# Undo

VERDICTS = some.sampled_from([("drop", ""), ("keep", ""), ("relabel", "a"), ("relabel", "b"), (CLEARED, "")])
PEOPLE = some.sampled_from(["ann", "bob", "eve"])
CALLS = some.lists(
    some.tuples(PEOPLE, some.sampled_from([DECIDED, DECIDED, SETTLED, IMPORTED]), VERDICTS, some.lists(some.integers(0, 3), min_size=1, max_size=3)), max_size=9
)


def written(calls: list[tuple[str, str, tuple[str, str], list[int]]], undone: int | None = None) -> list[Decision]:
    """The history of some calls, one of them undone."""
    rows: list[Decision] = []
    for step, (by, kind, (action, label), instances) in enumerate(calls):
        for instance in instances:
            flag = Flag(instance, action, label, "", by, f"{step:03d}")
            if kind != IMPORTED or action != CLEARED:
                rows.append(Decision(len(rows), step, kind, flag, "later" if step == undone else ""))
    return rows


@given(CALLS, some.integers(0, 8))
def test_an_undone_call_counts_as_if_it_had_never_been_made(calls: list[tuple[str, str, tuple[str, str], list[int]]], undone: int) -> None:
    without = [decision for decision in written(calls) if decision.step != undone]
    assert in_force(written(calls, undone)) == in_force(without)
    assert conflicts(written(calls, undone)) == conflicts(without)


@given(CALLS)
def test_an_import_changes_no_flag_that_was_put_here(calls: list[tuple[str, str, tuple[str, str], list[int]]]) -> None:
    rows, state = written(calls), {}
    local: set[int] = set()
    for place, decision in enumerate(rows):
        after = in_force(rows[: place + 1])
        if decision.imported:
            assert all(after[instance] == flag for instance, flag in state.items() if instance in local)
        elif decision.flag.action == CLEARED:
            assert decision.flag.instance not in after
            local.discard(decision.flag.instance)
        else:
            assert after[decision.flag.instance] == decision.flag
            local.add(decision.flag.instance)
        state = after


@settings(max_examples=10)
@given(some.lists(some.tuples(PEOPLE, some.sampled_from(["put", "put", "clear", "settle", "undo", "undo"]), VERDICTS, some.integers(0, 2)), max_size=12))
def test_what_undo_leaves_is_what_the_other_calls_alone_would_have_made(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[str, str, tuple[str, str], int]]
) -> None:
    """Through the file: two folders, one where calls are undone, one where these are never made."""
    folder, alone = tmp_path_factory.mktemp("undone"), tmp_path_factory.mktemp("alone")
    standing: list[tuple[str, str, tuple[str, str], int]] = []
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
        [(one.instance, [(decision.flag.by, decision.flag.verdict) for decision in one.decisions]) for one in Flags(place).conflicts()]
        for place in (folder, alone)
    ]
    assert disputed[0] == disputed[1]


def make(folder: Path, call: tuple[str, str, tuple[str, str], int]) -> None:
    by, does, (action, label), instance = call
    flags = Flags(folder, by=by)
    if does == "clear" or (does == "put" and action == CLEARED):
        flags.clear(instance)
    elif does == "put":
        flags.put_many([instance, instance + 1], action, label)
    else:
        flags.settle(instance, action, label)


def test_undo_walks_back_through_one_s_own_calls_and_leaves_those_of_others(tmp_path: Path) -> None:
    ann, bob = Flags(tmp_path, by="ann"), Flags(tmp_path, by="bob")
    ann.put(1, "keep", note="first")
    ann.put_many([1, 2, 3], "drop")
    bob.put(2, "relabel", "positive")
    last = ann.last()
    assert last and [flag.instance for flag in last.flags] == [1, 2, 3] and last.kind == DECIDED
    assert ann.undo(last.number) == last
    assert verdicts(ann) == {1: ("keep", ""), 2: ("relabel", "positive")} and ann.current()[1].note == "first"
    with pytest.raises(TurnoverError, match="look again"):
        ann.undo(last.number)
    ann.undo()
    assert verdicts(ann) == {2: ("relabel", "positive")}
    with pytest.raises(TurnoverError, match="nothing to undo: ann"):
        ann.undo()
    bob.undo()
    assert ann.current() == {} and ann.last() is None
    assert [(decision.flag.by, bool(decision.undone)) for decision in ann.history(2)] == [("ann", True), ("bob", True)]


def test_clearing_and_settling_can_be_undone_too(tmp_path: Path) -> None:
    ann, bob = Flags(tmp_path, by="ann"), Flags(tmp_path, by="bob")
    ann.put(1, "drop")
    ann.clear(1)
    ann.undo()
    assert verdicts(ann) == {1: ("drop", "")}
    bob.put(1, "keep")
    bob.settle(1, CLEARED)
    assert ann.current() == {} and ann.conflicts() == []
    bob.undo()
    assert verdicts(ann) == {1: ("keep", "")} and len(ann.conflicts()) == 1


# Conflicts


def test_people_who_differ_are_listed_until_somebody_settles(tmp_path: Path) -> None:
    ann, bob = Flags(tmp_path, by="ann"), Flags(tmp_path, by="bob")
    ann.put(1, "keep")
    ann.put(1, "drop", note="mine")
    bob.put(1, "drop", note="the same, other words")
    assert ann.conflicts() == []
    bob.put(1, "relabel", "positive")
    ann.put(2, "drop")
    (conflict,) = ann.conflicts()
    assert conflict.instance == 1 and conflict.flag and conflict.flag.by == "bob"
    assert [(decision.flag.by, decision.flag.verdict) for decision in conflict.decisions] == [("ann", ("drop", "")), ("bob", ("relabel", "positive"))]
    Flags(tmp_path, by="eve").settle(1, "drop", note="settled")
    assert ann.conflicts() == [] and ann.current()[1].by == "eve"
    bob.put(1, "keep")
    assert [decision.flag.by for decision in ann.conflicts()[0].decisions] == ["eve", "bob"]
    with pytest.raises(TurnoverError):
        ann.settle(1, CLEARED, "positive")


def test_a_flag_that_somebody_else_clears_is_a_conflict_one_s_own_is_not(tmp_path: Path) -> None:
    ann, bob = Flags(tmp_path, by="ann"), Flags(tmp_path, by="bob")
    ann.put_many([1, 2], "drop")
    bob.clear(1)
    ann.clear(2)
    assert ann.current() == {}
    assert [(conflict.instance, conflict.flag) for conflict in ann.conflicts()] == [(1, None)]


def test_the_overview_says_what_its_parts_say(tmp_path: Path) -> None:
    ann, bob = Flags(tmp_path, by="ann"), Flags(tmp_path, by="bob")
    assert ann.overview() == Overview({}, [], None)
    ann.put_many([1, 2], "drop")
    bob.put(1, "keep")
    seen = ann.overview()
    assert (seen.flags, seen.conflicts, seen.last) == (ann.current(), ann.conflicts(), ann.last()) and len(seen.conflicts) == 1


# Imports


def flag(instance: int, action: str = "drop", by: str = "bob", at: str = "2026-11-01T10:00:00+00:00", note: str = "") -> Flag:
    return Flag(instance, action, "", note, by, at)


def test_a_merge_adds_with_name_and_time_and_a_second_one_changes_nothing(tmp_path: Path) -> None:
    ann = Flags(tmp_path, by="ann")
    ann.put(1, "keep")
    given_flags = [flag(1), flag(2, note="why"), flag(2, note="why")]
    merged = ann.merge(given_flags)
    assert (merged.new, merged.conflicting, merged.known) == (2, 1, 0)
    assert verdicts(ann) == {1: ("keep", ""), 2: ("drop", "")} and ann.current()[2] == given_flags[1]
    before = ann.history(1) + ann.history(2)
    again = ann.merge(given_flags)
    assert (again.new, again.conflicting, again.known) == (0, 0, 2)
    assert ann.history(1) + ann.history(2) == before
    ann.clear(2)
    assert ann.merge(given_flags).new == 0 and verdicts(ann) == {1: ("keep", "")}
    for _ in range(2):  # the clearing, then the import
        ann.undo()
    assert verdicts(ann) == {1: ("keep", "")} and ann.conflicts() == []
    assert ann.merge(given_flags).new == 2


def test_a_newer_import_of_the_same_person_replaces_an_older_one(tmp_path: Path) -> None:
    ann = Flags(tmp_path, by="ann")
    ann.merge([flag(1, "drop", at="2026-11-02")])
    ann.merge([flag(1, "keep", at="2026-11-01")])
    assert verdicts(ann) == {1: ("drop", "")}
    ann.merge([flag(1, "keep", at="2026-11-03")])
    assert verdicts(ann) == {1: ("keep", "")} and ann.conflicts() == []
    ann.merge([flag(1, "drop", by="eve", at="2026-11-04")])
    assert verdicts(ann) == {1: ("keep", "")} and len(ann.conflicts()) == 1


def test_a_foreign_patch_in_one_s_own_name_changes_no_flag_of_one_s_own(tmp_path: Path) -> None:
    ann = Flags(tmp_path, by="ann")
    ann.put(1, "keep")
    ann.merge([flag(1, "drop", by="ann", at="2999-01-01")])
    assert verdicts(ann) == {1: ("keep", "")} and len(ann.conflicts()) == 1
