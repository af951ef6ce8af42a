"""Full disks, folders that cannot be written to, runs that were moved, clocks that were put back."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import core.flags.book as book
from core import Run, TurnoverError
from core.cli import main
from core.flags import Flags
from core.patch.apply import apply_patch, undo_patch
from core.patch.form import export_patch
from core.pipeline.influence import compute_influence
from core.report.page import write_report
from tests.helpers.builders import checksums, failing_after, names, train_digits
from tests.helpers.fake_runs import FakeRun

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
READ_ONLY = OSError(errno.EROFS, os.strerror(errno.EROFS))


@contextmanager
def failing_writes(calls: int, error: OSError) -> Iterator[None]:
    """From the calls-th time on that something is written, renamed or made, the system refuses."""
    with pytest.MonkeyPatch.context() as patch:
        count = [0]

        def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
            def function(*arguments: Any, **options: Any) -> Any:
                count[0] += 1
                if count[0] >= calls:
                    raise error
                return real(*arguments, **options)

            return function

        for owner, name in ((Path, "write_text"), (Path, "write_bytes"), (Path, "mkdir"), (Path, "replace"), (Path, "rename"), (os, "fsync")):
            patch.setattr(owner, name, refusing(getattr(owner, name)))
        yield


def prepared(folder: Path) -> Run:
    run = Run(FakeRun().write(folder))
    Flags(run.folder).put_many([1, 2], "drop")
    (folder / "patch.jsonl").write_text(export_patch(run), encoding="utf-8")
    run.train[["id", "text"]].assign(label=run.train["label"].map(dict(enumerate(run.classes)))).to_csv(folder / "data.csv", index=False)
    return run


WORKS: dict[str, Callable[[Path], Any]] = {
    "report": lambda folder: write_report(Run(folder / "fake"), folder / "out"),
    "export": lambda folder: _command("export", "--run", str(folder / "fake"), "--out", str(folder / "out")),
    "apply": lambda folder: apply_patch(folder / "patch.jsonl", folder / "data.csv", folder / "out"),
}


def _command(*words: str) -> None:
    if main(words) == 2:
        raise TurnoverError("said on standard error")


@pytest.mark.parametrize("error", [FULL, READ_ONLY], ids=["full", "read-only"])
@pytest.mark.parametrize("name", WORKS)
def test_a_write_that_is_refused_at_any_moment_leaves_nothing_half_and_the_next_try_is_whole(name: str, error: OSError, tmp_path: Path) -> None:
    prepared(tmp_path)
    before = names(tmp_path)
    for calls in range(1, 20):
        try:
            with failing_writes(calls, error):
                WORKS[name](tmp_path)
            break
        except TurnoverError as told:
            assert "Traceback" not in str(told)
            assert [path for path in names(tmp_path) if path not in (*before, "out.undo")] == []
    assert calls > 1 and (tmp_path / "out").stat().st_size
    if name == "apply":
        undo_patch(tmp_path / "out.undo", tmp_path / "out", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == (tmp_path / "data.csv").read_bytes()


def test_an_influence_that_finds_no_room_leaves_the_old_one(run_copy: Path) -> None:
    before, there = checksums(run_copy / "influence"), names(run_copy)
    for calls in range(1, 6):
        with failing_writes(calls, FULL):
            try:
                compute_influence(Run(run_copy), "errors", "cpu")
            except TurnoverError as told:
                assert "the disk is full; free some space and run the same command again" in str(told)
            else:
                break
        assert checksums(run_copy / "influence") == before and names(run_copy) == there
    assert calls > 2


def test_a_training_that_finds_no_room_at_first_begins_anew(tmp_path: Path) -> None:
    for calls in (1, 2, 3):
        with failing_writes(calls, FULL), pytest.raises(TurnoverError, match="the disk is full"):
            train_digits(tmp_path / "run", limit=20, members=1)
        assert not (tmp_path / "run").exists() and names(tmp_path) in ([], ["run.partial"])
    assert Run(train_digits(tmp_path / "run", limit=20, members=1)).errors


def test_flags_that_find_no_room_say_so_and_keep_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepared(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.flags.book.append_step", failing_after(1, print, FULL))
        with pytest.raises(TurnoverError, match=r"flags\.sqlite: the disk is full"):
            Flags(run.folder).put(5, "drop")
    assert list(Flags(run.folder).current()) == [1, 2]


def test_a_run_that_was_moved_is_all_there(small_run: Path, tmp_path: Path) -> None:
    """To another machine, where nothing else lies and the folder has another name."""
    here = Path(shutil.copytree(small_run, tmp_path / "here"))
    Flags(here).put(3, "drop", note="why")
    _command("cleanse", "--run", str(here), "--fraction", ".1", "--repeats", "1")
    moved = here.rename(tmp_path / "away")
    _command("errors", "--run", str(moved))
    _command("explain", "--run", str(moved), "--image", str(next(moved.rglob("*.png"))))
    _command("export", "--run", str(moved), "--out", str(tmp_path / "flags.csv"))
    before = checksums(moved / "influence")
    compute_influence(Run(moved), device_choice="cpu")
    assert checksums(moved / "influence") == before and list(Flags(moved).current()) == [3]
    told = [path.name for path in moved.rglob("manifest.json") if str(tmp_path / "here") in path.read_text(encoding="utf-8")]
    assert told == [] and not here.exists()


def test_a_clock_that_was_put_back_changes_neither_order_nor_undo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags, now = Flags(FakeRun().write(tmp_path)), datetime.now(UTC)
    for days, action in ((0, "drop"), (400, "keep")):
        monkeypatch.setattr(book, "_now", lambda days=days: (now - timedelta(days=days)).isoformat())
        flags.put(3, action)
    assert flags.current()[3].action == "keep" and [one.flag.action for one in flags.history(3)] == ["drop", "keep"]
    assert flags.undo().flags[0].action == "keep" and flags.current()[3].action == "drop"
