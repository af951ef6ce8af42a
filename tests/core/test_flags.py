"""Flags: durable, reversible, never overwritten."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import TurnoverError
from core.flags import Flags


def test_the_newest_decision_counts_and_history_stays(tmp_path: Path) -> None:
    flags = Flags(tmp_path)
    flags.put(3, "drop", note="looks wrong")
    flags.put(3, "relabel", "positive")
    flags.put(5, "keep")
    assert {number: (flag.action, flag.new_label) for number, flag in flags.current().items()} == {3: ("relabel", "positive"), 5: ("keep", "")}
    flags.clear(3)
    assert list(flags.current()) == [5]
    with sqlite3.connect(tmp_path / "flags.sqlite") as database:
        assert database.execute("SELECT COUNT(*) FROM decisions").fetchone() == (4,)


def test_a_folder_without_flags_has_none_and_stays_untouched(tmp_path: Path) -> None:
    assert Flags(tmp_path).current() == {}
    assert list(tmp_path.iterdir()) == []


def test_another_process_sees_a_decision_as_soon_as_it_was_made(tmp_path: Path) -> None:
    Flags(tmp_path).put(7, "drop")
    look = f"from pathlib import Path; from core.flags import Flags; print(list(Flags(Path({str(tmp_path)!r})).current()))"
    seen = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[7]"


@pytest.mark.parametrize(("action", "label"), [("burn", ""), ("relabel", ""), ("drop", "positive")])
def test_decisions_that_make_no_sense_are_refused(tmp_path: Path, action: str, label: str) -> None:
    with pytest.raises(TurnoverError):
        Flags(tmp_path).put(1, action, label)
    assert Flags(tmp_path).current() == {}


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "flags.sqlite").write_text("not a database, but long enough to look like a file with something in it" * 9)
    with pytest.raises(TurnoverError, match=r"flags\.sqlite"):
        Flags(tmp_path).current()


def test_one_decision_on_many_items_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    flags = Flags(tmp_path)
    stored = flags.put_many([4, 2, 9], "drop", note="hurts")
    assert [flag.instance for flag in stored] == [4, 2, 9]
    assert {number: flag.note for number, flag in flags.current().items()} == {2: "hurts", 4: "hurts", 9: "hurts"}
    with pytest.raises(TypeError):
        flags.put_many([1, None], "drop")  # type: ignore[list-item]
    assert list(flags.current()) == [2, 4, 9]
