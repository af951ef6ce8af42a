"""Law 7 for one file and one folder: whole or absent, whatever happens while it is written.

And for locks: one works, the others are told who. Killed processes are in `tests/nightly`.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.builders import names
from tests.helpers.storage_testing import together
from turnover import TurnoverError
from turnover.jobs import start_job
from turnover.storage.atomic import replace_folder, sweep, write_atomic
from turnover.storage.lock import alone, is_locked

FULL = OSError(errno.ENOSPC, "No space left on device")
REFUSED = PermissionError(errno.EACCES, "Permission denied")
FAILURES = {
    FULL: r"a\.txt: the disk is full; free some space and run the same command again$",
    OSError(errno.EDQUOT, "Disk quota exceeded"): r"a\.txt: the disk is full",
    REFUSED: r"a\.txt: cannot be written \(Permission denied\); check the folder",
    KeyboardInterrupt("x"): "x",
    RuntimeError("x"): "x",
}


@pytest.mark.parametrize("there", [False, True])
def test_a_file_is_written_and_the_old_one_stands_until_it_is_whole(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, removed, real = tmp_path / "a.txt", list[str](), os.unlink
    if there:
        path.write_text("old")
    monkeypatch.setattr(os, "unlink", lambda place: (removed.append(str(place)), real(place)))

    def write(beside: Path) -> None:
        beside.write_text("ne")
        assert (path.read_text() if path.exists() else None) == ("old" if there else None)
        beside.write_text("new")

    write_atomic(path, write)
    assert path.read_text() == "new" and names(tmp_path) == ["a.txt"] and str(path) not in removed


def test_two_writers_with_the_same_numbers_disturb_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In two containers that share a folder, threads may have the same number."""
    monkeypatch.setattr(threading, "get_native_id", lambda: 7)
    path = tmp_path / "a.txt"

    def write(beside: Path) -> None:
        beside.write_text("outer")
        write_atomic(path, lambda other: other.write_text("inner"))
        assert path.read_text() == "inner"

    write_atomic(path, write)
    assert path.read_text() == "outer" and names(tmp_path) == ["a.txt"]


def test_a_file_written_by_many_at_once_is_one_or_the_other(tmp_path: Path) -> None:
    contents = ("a" * 5000, "b" * 10, "c" * 99)

    def write(content: str) -> None:
        for _ in range(50):
            write_atomic(tmp_path / "file", lambda beside: beside.write_text(content))

    assert together(*[lambda content=content: write(content) for content in contents]) == []
    assert (tmp_path / "file").read_text() in contents and names(tmp_path) == ["file"]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_a_failure_leaves_the_old_file_and_no_scraps(
    failure: BaseException, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(beside: Path) -> None:
        beside.write_text("half")
        raise failure

    told = TurnoverError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(told, match=FAILURES[failure]):
        write_atomic(path, write)
    assert names(tmp_path) == ["a.txt"] and path.read_text() == "old"


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a.txt", "b.new", f".a.txt.{'0' * 16}.new"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert names(tmp_path) == [".a.txt", "b.new"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    why = r"cannot be written \(No such file or directory\); check the folder"
    with pytest.raises(TurnoverError, match=rf"none/a\.txt: {why}"):
        write_atomic(tmp_path / "none" / "a.txt", lambda beside: beside.write_text("x"))
    with pytest.raises(TurnoverError, match=rf"part: {why}"):
        replace_folder(tmp_path / "beside", tmp_path / "part")


@pytest.mark.parametrize("there", [(), ("part",), ("part", ".part.old")])
def test_a_folder_is_put_in_place_of_another(there: tuple[str, ...], tmp_path: Path) -> None:
    """Whatever an earlier crash has left."""
    for name in ("beside", *there):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("new" if name == "beside" else "old")
    replace_folder(tmp_path / "beside", tmp_path / "part")
    assert names(tmp_path) == ["part"] and (tmp_path / "part" / "file").read_text() == "new"


# Locks


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_to_have_none(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    path = tmp_path / "lock"
    path.touch()
    uses: tuple[Callable[[], object], ...] = (
        lambda: alone(path, "at work").__enter__(),
        lambda: is_locked(path),
        lambda: start_job(tmp_path, [["runs"]], "list"),
    )
    said = rf"^{tmp_path}.*: its file system has no locks \({os.strerror(code)}\); choose a folder"
    for use in uses:
        with pytest.raises(TurnoverError, match=said):
            use()


def test_no_two_ever_hold_it(tmp_path: Path) -> None:
    """Though the file is deleted and made anew each time."""
    inside, most, done = [0], [0], [0]

    def work() -> None:
        for _ in range(60):
            try:
                with alone(tmp_path / ".lock", "at work"):
                    assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    done[0] += 1
                    inside[0] -= 1
            except TurnoverError as error:
                assert "is at work already" in str(error)

    assert together(*[work] * 4) == []
    assert most == [1] and done[0] >= 60 and names(tmp_path) == []


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with (
        pytest.raises(TurnoverError, match=r"\.lock: cannot be written"),
        alone(tmp_path / ".lock", "at work"),
    ):
        pass
    assert (tmp_path / "precious").read_text() == "kept"
