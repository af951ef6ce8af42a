"""The file of the flags, of any version, and the table for all: safe whatever people wrote."""

from __future__ import annotations

import csv
import io
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.builders import failing_after
from tests.helpers.fake_runs import HOSTILE, FakeRun
from tests.helpers.storage_testing import FULL, together
from turnover import Run, TurnoverError
from turnover.explain.groups import flagged
from turnover.flags import MAX_NOTE, Flags, store
from turnover.flags.export import export_csv


def verdicts(flags: Flags) -> dict[int, tuple[str, str]]:
    return {instance: flag.verdict for instance, flag in flags.current().items()}


def changed(folder: Path, *commands: tuple[Any, ...]) -> None:
    """What another program does to the file."""
    with sqlite3.connect(folder / "flags.sqlite") as database:
        for command in commands:
            database.execute(*command)
    database.close()


ROW = "INSERT INTO decisions (instance, action, new_label, note, by, at) VALUES (?, ?, ?, ?, ?, ?)"
OLD = (
    "CREATE TABLE decisions (number INTEGER PRIMARY KEY, instance, action, new_label, note, by, at)"
)


def test_an_older_file_is_read_as_it_is_and_upgraded_by_the_first_decision(tmp_path: Path) -> None:
    """Earlier versions wrote decisions without steps, and a rollback journal."""
    rows = [(1, "drop", "", "old", "ann", "2026-11-01"), (2, "keep", "", "", "ann", "2026-11-02")]
    rows.append((1, "keep", "", "", "bob", "2026-11-03"))
    changed(tmp_path, (OLD,), *((ROW, row) for row in rows))
    path, flags = tmp_path / "flags.sqlite", Flags(tmp_path, by="ann")
    before = path.read_bytes()
    assert verdicts(flags) == {1: ("keep", ""), 2: ("keep", "")}
    assert len(flags.overview().conflicts) == 1 and len(flags.history(1)) == 2
    last = flags.overview().last
    assert last and [flag.instance for flag in last.flags] == [2]
    assert path.read_bytes() == before
    assert flags.undo(last.number) == last and verdicts(flags) == {1: ("keep", "")}
    flags.put(3, "drop")
    with sqlite3.connect(path) as database:
        for asked, told in {
            "PRAGMA user_version": 1,
            "PRAGMA journal_mode": "wal",
            "SELECT COUNT(*) FROM decisions": 4,
        }.items():
            assert database.execute(asked).fetchone() == (told,)
    database.close()
    changed(tmp_path, (ROW, (3, "keep", "", "", "ann", "2026")))  # an earlier version goes on
    assert verdicts(Flags(tmp_path))[3] == ("keep", "")


NO_DATABASE = [b"not a database, but long enough to look like one, with something in it" * 9]
NO_DATABASE.append(b"SQLite format 3\0" + b"\xff" * 5000)
BAD_ROWS = [("x", "drop", "", "", "ann", "now"), (1, "burn", "", "", "ann", "now")]
BAD_ROWS.append((1, "drop", "", b"\xff", "ann", "now"))


def test_a_file_that_is_no_file_of_flags_is_named_and_left_alone(tmp_path: Path) -> None:
    path, flags = tmp_path / "flags.sqlite", Flags(tmp_path)
    path.touch()
    # an empty one has none, and takes some
    assert flags.current() == {} and flags.overview().last is None
    flags.put(1, "keep")
    assert list(flags.current()) == [1]
    uses: list[Callable[[], object]] = [flags.current, flags.overview, lambda: flags.put(1, "drop")]
    changed(tmp_path, ("PRAGMA user_version = 2",))
    for use in (*uses, flags.undo):
        with pytest.raises(TurnoverError, match="newer version"):
            use()
    for content in NO_DATABASE:
        path.write_bytes(content)
        for use in uses:
            with pytest.raises(TurnoverError, match=r"flags\.sqlite"):
                use()
        assert path.read_bytes() == content
    for row in BAD_ROWS:
        path.unlink()
        changed(tmp_path, (OLD,), (ROW, row))
        with pytest.raises(TurnoverError, match="decision 1 is none"):
            flags.current()


def test_flags_that_find_no_room_say_so_and_keep_the_others(tmp_path: Path) -> None:
    Flags(tmp_path).put_many([1, 2], "drop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turnover.flags.flags.append_step", failing_after(1, print, FULL))
        with pytest.raises(TurnoverError, match=r"flags\.sqlite: the disk is full"):
            Flags(tmp_path).put(5, "drop")
    assert list(Flags(tmp_path).current()) == [1, 2]


def test_threads_at_once_lose_no_flag_and_a_file_held_for_a_moment_is_waited_for(
    tmp_path: Path,
) -> None:
    flags = Flags(tmp_path)

    def put(first: int) -> None:
        for instance in range(first, first + 5):
            flags.put(instance, "keep")
            flags.current()

    works = [lambda first=10 * number: put(first) for number in range(12)]
    assert together(*works) == [] and len(flags.current()) == 60
    path = tmp_path / "flags.sqlite"
    held = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    held.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, lambda: (held.execute("ROLLBACK"), held.close())).start()
    assert len(flags.current()) == 60
    flags.put(999, "drop")
    assert len(flags.current()) == 61


def test_a_decision_is_flushed_before_the_call_returns(tmp_path: Path) -> None:
    """The log is on, and every commit waits for the disk, whatever SQLite's defaults are."""
    Flags(tmp_path).put(1, "drop")
    with store._opened(tmp_path / "flags.sqlite") as database:
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# The table

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1+1", "\r=1+1", "\0=1+1", "=" + "n" * 100_000)
OTHERS = ('quote " and, comma', "two\r\nlines\n=1+1", "\u202eright to left")


def test_no_cell_begins_as_a_formula_and_rows_stay_rows(tmp_path: Path) -> None:
    run = Run(FakeRun(texts=["=2+2 is a text"], classes=("=neg", "@pos")).write(tmp_path))
    for note in (*HOSTILE, *FORMULAS, *OTHERS):
        Flags(run.folder, by="=cmd|x").put(2, "relabel", "@pos", note=note)
        text = export_csv(run)
        (row,) = csv.DictReader(io.StringIO(text, newline=""))
        cells = [value for name, value in row.items() if name != "mean_influence"]
        assert "\0" not in text
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        assert row["note"].removeprefix("'") == note.replace("\0", "")[:MAX_NOTE]
        told = row["by"], row["new_label"], row["text"]
        assert told == ("'=cmd|x", "'@pos", "'=2+2 is a text")


def test_flags_on_items_that_are_not_there_harm_nothing(tmp_path: Path) -> None:
    run = Run(FakeRun().write(tmp_path))
    Flags(run.folder).put_many([3, 1000], "drop")
    assert export_csv(run).count("\n") == 2 and list(flagged(run).instances) == [3]
