"""The file of the flags: of any version, in a folder that cannot be written to, shared by many processes, cut off by kill -9."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from core.errors import TurnoverError
from core.flags import Flags
from tests.helpers.builders import ROOT, run_python


def verdicts(flags: Flags) -> dict[int, tuple[str, str]]:
    return {instance: flag.verdict for instance, flag in flags.current().items()}


def old_file(folder: Path, *rows: tuple[int, str, str, str, str, str]) -> Path:
    """A file as earlier versions wrote it: decisions without steps, and a rollback journal."""
    path = folder / "flags.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE decisions (number INTEGER PRIMARY KEY, instance, action, new_label, note, by, at)")
        database.executemany("INSERT INTO decisions (instance, action, new_label, note, by, at) VALUES (?, ?, ?, ?, ?, ?)", rows)
    database.close()
    return path


@pytest.mark.parametrize("row", [("x", "drop", "", "", "ann", "now"), (1, "burn", "", "", "ann", "now"), (1, "drop", "", b"\xff", "ann", "now")])
def test_a_database_with_something_else_in_it_is_refused(tmp_path: Path, row: tuple[int, str, str, str, str, str]) -> None:
    old_file(tmp_path, row)
    with pytest.raises(TurnoverError, match="decision 1 is none"):
        Flags(tmp_path).current()


def test_an_older_file_is_read_as_it_is_and_upgraded_by_the_first_decision(tmp_path: Path) -> None:
    path = old_file(tmp_path, (1, "drop", "", "old", "ann", "2026-11-01"), (2, "keep", "", "", "ann", "2026-11-02"), (1, "keep", "", "", "bob", "2026-11-03"))
    before, flags = path.read_bytes(), Flags(tmp_path, by="ann")
    assert verdicts(flags) == {1: ("keep", ""), 2: ("keep", "")}
    assert len(flags.conflicts()) == 1 and len(flags.history(1)) == 2
    last = flags.last()
    assert last and [flag.instance for flag in last.flags] == [2]
    assert path.read_bytes() == before
    assert flags.undo(last.number) == last
    assert verdicts(flags) == {1: ("keep", "")}
    flags.put(3, "drop")
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("SELECT COUNT(*) FROM decisions").fetchone() == (4,)
    database.close()


def test_what_an_earlier_version_appends_to_a_new_file_counts(tmp_path: Path) -> None:
    Flags(tmp_path).put(1, "drop")
    with sqlite3.connect(tmp_path / "flags.sqlite") as database:
        database.execute("INSERT INTO decisions (instance, action, new_label, note, by, at) VALUES (1, 'keep', '', '', 'ann', '2026')")
    database.close()
    assert verdicts(Flags(tmp_path)) == {1: ("keep", "")}


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    Flags(tmp_path).put(1, "drop")
    with sqlite3.connect(tmp_path / "flags.sqlite") as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    for use in (Flags(tmp_path).current, lambda: Flags(tmp_path).put(1, "drop"), Flags(tmp_path).undo):
        with pytest.raises(TurnoverError, match="newer version"):
            use()


READ_AS_NOBODY = """
import json, os, sys
from pathlib import Path
from core.errors import TurnoverError
from core.flags import Flags
folder = Path(sys.argv[1])
os.chmod(folder, 0o555)
if os.getuid() == 0:
    os.setuid(65534)
flags = Flags(folder, by="ann")
try:
    flags.put(9, "drop")
    stored = "yes"
except TurnoverError as error:
    stored = str(error)
print(json.dumps([list(flags.current()), stored, sorted(os.listdir(folder))]))
"""


@pytest.mark.parametrize("crashed", [False, True])
def test_a_folder_that_cannot_be_written_to_is_read(tmp_path: Path, crashed: bool) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o755)
    home, folder = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    Flags(home).put(1, "drop")
    if crashed:  # somebody looks, so that what comes last stays in the log; then all is copied as it is
        held = sqlite3.connect(home / "flags.sqlite")
        held.execute("SELECT COUNT(*) FROM decisions").fetchone()
        Flags(home).put(2, "drop")
        assert (home / "flags.sqlite-wal").stat().st_size
    shutil.copytree(home, folder, ignore=shutil.ignore_patterns("*-shm"))
    if crashed:
        held.close()
    try:
        seen, stored, names = json.loads(run_python(READ_AS_NOBODY, folder))
    finally:
        folder.chmod(0o755)
    assert seen == ([1, 2] if crashed else [1])
    assert "flags.sqlite" in stored and "cannot be" in stored
    assert set(names) <= {"flags.sqlite", "flags.sqlite-wal"}


# Many at once, and the end of a process

PUTTING = """
import sys
from pathlib import Path
from core.flags import Flags
folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
flags = Flags(folder, by=f"person {first}")
for instance in range(first, first + count):
    flags.put(instance, "drop", note=f"by {first}")
    print(instance, flush=True)
"""


def putting(folder: Path, first: int, count: int, told: Path) -> subprocess.Popen[str]:
    """A process that puts flags one after the other, and writes each to `told` as soon as `put` has returned."""
    command = [sys.executable, "-c", PUTTING, str(folder), str(first), str(count)]
    with told.open("w") as out:
        return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True)


def test_twenty_processes_at_once_lose_no_flag(tmp_path: Path) -> None:
    """They even make the file together."""
    running = [putting(tmp_path, 100 * number, 10, tmp_path / str(number)) for number in range(20)]
    for one in running:
        _, err = one.communicate(timeout=120)
        assert one.returncode == 0, err
    flags = Flags(tmp_path, by="person 300")
    assert sorted(flags.current()) == [100 * number + own for number in range(20) for own in range(10)]
    last = flags.last()
    assert last and [flag.instance for flag in last.flags] == [309]
    assert all(len(flags.history(instance)) == 1 for instance in flags.current())


def test_twenty_threads_at_once_lose_no_flag(tmp_path: Path) -> None:
    flags = Flags(tmp_path)
    wrong: list[BaseException] = []

    def put(first: int) -> None:
        try:
            for instance in range(first, first + 5):
                flags.put(instance, "keep")
                flags.current()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=put, args=(10 * number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(flags.current()) == 100


def test_a_kill_at_any_moment_loses_no_flag_that_was_confirmed(tmp_path: Path) -> None:
    rng, told, processes = random.Random(0), set[int](), 0
    (tmp_path / "told").mkdir()
    for _ in range(8):
        pair = [putting(tmp_path, 10_000 * (processes + number), 10_000, tmp_path / "told" / str(processes + number)) for number in range(2)]
        processes += 2
        while not all(path.stat().st_size for path in (tmp_path / "told").iterdir()):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        for one in pair:
            one.send_signal(signal.SIGKILL)
            one.communicate(timeout=60)
        told = {int(line) for path in (tmp_path / "told").iterdir() for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")}
        kept = set(Flags(tmp_path).current())
        assert told <= kept
        assert len(kept - told) <= processes  # of each process that was killed, the one that it was about to tell
    assert len(told) > 2 * processes


def test_a_file_that_somebody_holds_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    Flags(tmp_path).put(1, "drop")
    held = sqlite3.connect(tmp_path / "flags.sqlite", isolation_level=None, check_same_thread=False)
    held.execute("BEGIN IMMEDIATE")
    threading.Timer(0.4, lambda: (held.execute("ROLLBACK"), held.close())).start()
    assert list(Flags(tmp_path).current()) == [1]
    Flags(tmp_path).put(2, "drop")
    assert list(Flags(tmp_path).current()) == [1, 2]


def test_a_decision_is_flushed_before_the_call_returns(tmp_path: Path) -> None:
    """The log is on, and every commit waits for the disk, whatever the defaults of this SQLite are."""
    from core.flags import store

    with store._opened(tmp_path / "flags.sqlite") as database:
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    Flags(tmp_path).put(1, "drop")
    with store._opened(tmp_path / "flags.sqlite") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
