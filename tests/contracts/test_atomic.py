"""Law 7 for one file and one folder: whole or absent, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from core import TurnoverError
from core.atomic import replace_folder, sweep, write_atomic
from tests.helpers.builders import names, run_killed

FULL = OSError(errno.ENOSPC, "No space left on device")
REFUSED = PermissionError(errno.EACCES, "Permission denied")


def test_a_file_is_written_and_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", lambda beside: beside.write_text("new"))
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(beside: Path) -> None:
        beside.write_text("ne")
        assert path.read_text() == "old"
        beside.write_text("new")

    write_atomic(path, write)
    assert path.read_text() == "new"


def test_the_old_file_is_replaced_and_never_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    removed: list[str] = []
    real = os.unlink
    monkeypatch.setattr(os, "unlink", lambda place: (removed.append(str(place)), real(place)))
    write_atomic(path, lambda beside: beside.write_text("new"))
    assert str(path) not in removed
    assert path.read_text() == "new"


def test_two_writers_with_the_same_numbers_disturb_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two containers that share a folder, threads may have the same number."""
    monkeypatch.setattr(threading, "get_native_id", lambda: 7)
    path = tmp_path / "a.txt"

    def write(beside: Path) -> None:
        beside.write_text("outer")
        write_atomic(path, lambda other: other.write_text("inner"))
        assert path.read_text() == "inner"

    write_atomic(path, write)
    assert path.read_text() == "outer" and names(tmp_path) == ["a.txt"]


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".a.txt").write_text("mine")
    assert run_killed(_WRITE_FILE, tmp_path, "a.txt", 2) is None
    assert len(names(tmp_path)) == 2
    sweep(tmp_path)
    assert names(tmp_path) == [".a.txt"]


@pytest.mark.parametrize("failure", [FULL, REFUSED, KeyboardInterrupt(), RuntimeError("x")])
def test_a_failure_leaves_the_old_file_and_no_scraps(failure: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(beside: Path) -> None:
        beside.write_text("half")
        raise failure

    with pytest.raises(TurnoverError if isinstance(failure, OSError) else type(failure)):
        write_atomic(path, write)
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    def write(_: Path) -> None:
        raise FULL

    with pytest.raises(TurnoverError, match=r"a\.txt: the disk is full; free some space and run the same command again"):
        write_atomic(tmp_path / "a.txt", write)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=r"none/a\.txt: cannot be written \(No such file or directory\); check the folder"):
        write_atomic(tmp_path / "none" / "a.txt", lambda beside: beside.write_text("x"))


def a_folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_put_in_place_of_another(there: bool, tmp_path: Path) -> None:
    if there:
        a_folder(tmp_path / "part", "old")
    replace_folder(a_folder(tmp_path / "beside", "new"), tmp_path / "part")
    assert names(tmp_path) == ["part"]
    assert (tmp_path / "part" / "file").read_text() == "new"


def test_remains_of_an_earlier_crash_do_not_stop_a_replacement(tmp_path: Path) -> None:
    a_folder(tmp_path / "part", "old")
    a_folder(tmp_path / ".part.old", "older")
    replace_folder(a_folder(tmp_path / "beside", "new"), tmp_path / "part")
    assert names(tmp_path) == ["part"]


def test_a_folder_that_cannot_be_renamed_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=r"part: cannot be written \(No such file or directory\)"):
        replace_folder(tmp_path / "beside", tmp_path / "part")


# Killed at any moment

_WRITE_FILE = """
from core.atomic import write_atomic
write_atomic(Path(sys.argv[1]) / "a.txt", lambda beside: beside.write_text("new" * 1000))
"""
_REPLACE_FOLDER = """
from core.atomic import replace_folder
replace_folder(Path(sys.argv[1]) / "beside", Path(sys.argv[1]) / "part")
"""


def test_a_file_is_whole_at_whatever_moment_its_writer_is_killed(tmp_path: Path) -> None:
    path, kills, seen = tmp_path / "a.txt", 0, set()
    path.write_text("old")
    while run_killed(_WRITE_FILE, tmp_path, "a.txt", kills + 1) is None:
        kills += 1
        seen.add(path.read_text())
    assert kills >= 3
    assert seen == {"old", "new" * 1000}
    assert path.read_text() == "new" * 1000


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_whole_or_absent_at_whatever_moment_its_writer_is_killed(there: bool, tmp_path: Path) -> None:
    kills, done = 0, False
    while not done:
        place = tmp_path / str(kills)
        place.mkdir()
        for name, content in (("beside", "new"), ("part", "old")):
            if there or name == "beside":
                a_folder(place / name, content)
                (place / name / "another").write_text(content)
        done = run_killed(_REPLACE_FOLDER, place, "part", kills + 1) is not None
        part = place / "part"
        if part.exists():
            assert {(part / name).read_text() for name in ("file", "another")} in ({"new"}, {"old"})
        kills += 1
    assert kills >= 2
    assert names(tmp_path / str(kills - 1)) == ["part"]
