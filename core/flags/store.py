"""A flag, a row of the history, and the SQLite file that holds them; only ever appended to.

A commit is on the disk before the call returns: write-ahead log with `synchronous` FULL, and on
macOS a real flush. Readers never wait for writers; writers take turns. SQLite can answer "busy"
despite its own waiting (when switching to the log, or in recovery after a crash); that is retried.
In a read-only folder a copy is read, since the log needs a file beside it even for reading.

Notes and names come from anyone, so they are truncated and cleaned here.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from turnover.errors import TurnoverError
from turnover.storage.atomic import disk_error

ACTIONS = ("drop", "relabel", "keep")
CLEARED = "clear"
"""The action of a row that removes an item's flag."""

DECIDED, SETTLED, IMPORTED, UNDONE = "decide", "settle", "import", "undo"
"""Kinds of steps."""

MAX_NOTE = 2000
"""Characters of a note that are stored."""

_MAX_NAME = 100


@dataclass(frozen=True)
class Flag:
    """One decision on training item `instance`; `new_label` is a class name and only for `relabel`;
    `at` is UTC, ISO 8601.
    """

    instance: int
    action: str
    new_label: str
    note: str
    by: str
    at: str

    @property
    def verdict(self) -> tuple[str, str]:
        """The decision, without who, when and why."""
        return self.action, self.new_label


@dataclass(frozen=True)
class Decision:
    """A row of the history: a flag, or its removal (action `clear`).

    Attributes:
        step: the call that it was part of; rows of one call share it.
        kind: of the call, `decide`, `settle` or `import`.
        undone: when the call was undone, or "".
    """

    number: int
    step: int
    kind: str
    flag: Flag
    undone: str = ""

    @property
    def imported(self) -> bool:
        """Whether it was made in another copy of the run."""
        return self.kind == IMPORTED


def check_verdict(action: str, new_label: str) -> None:
    """Check that an action and a new label go together.

    Raises:
        TurnoverError: for an unknown action, a relabel without a label, or a label without a
            relabel.
    """
    if action not in ACTIONS:
        raise TurnoverError(f"unknown action {action!r}; choose one of {', '.join(ACTIONS)}")
    if (action == "relabel") != bool(new_label):
        raise TurnoverError("a relabel needs the new label, and only a relabel has one")


def clean_note(note: str) -> str:
    """A note as it is stored: at most `MAX_NOTE` characters, no null bytes, nothing that UTF-8
    cannot encode.
    """
    return _storable(note[: 2 * MAX_NOTE])[:MAX_NOTE]


def clean_name(name: str) -> str:
    """A person's name as it is stored: one line of at most 100 characters; "" if nothing is
    left.
    """
    return " ".join(_storable(name[: 2 * _MAX_NAME]).split())[:_MAX_NAME].strip()


def _storable(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


# The file

T = TypeVar("T")

VERSION = 1
"""Of the schema, in `user_version`; 0 had decisions but no steps."""

_COLUMNS = "instance, action, new_label, note, by, at"
_CREATE = f"CREATE TABLE IF NOT EXISTS decisions (number INTEGER PRIMARY KEY, {_COLUMNS})"
_UPGRADE = (
    "ALTER TABLE decisions ADD COLUMN step INTEGER",
    "CREATE TABLE steps (number INTEGER PRIMARY KEY, kind, by, at, undoes INTEGER UNIQUE)",
    f"INSERT INTO steps (number, kind, by, at) SELECT number, '{DECIDED}', by, at FROM decisions",
    "UPDATE decisions SET step = number",
    "CREATE INDEX decisions_of_instance ON decisions (instance)",
    f"PRAGMA user_version = {VERSION}",
)
_ROWS = {
    0: f"SELECT number, number, '{DECIDED}', '', {_COLUMNS} FROM decisions AS made",
    VERSION: (
        f"SELECT made.number, made.step, coalesce(steps.kind, '{DECIDED}'), coalesce(undoing.at, "
        f"''), {', '.join(f'made.{name}' for name in _COLUMNS.split(', '))} FROM decisions AS made "
        "LEFT JOIN steps ON steps.number = made.step LEFT JOIN steps AS undoing ON undoing.undoes "
        "= made.step"
    ),
}
_WAIT = 30.0
"""Seconds of retries while the file is busy."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_NO_PLACE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}


class FlagStore:
    """The file at `path`, created by the first `write`; every method raises TurnoverError if the
    file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def decisions(self, instance: int | None = None) -> list[Decision]:
        """All rows in the order in which they were made, or those of one item."""
        return self.read(lambda database: decisions_in(database, instance), [])

    def read(self, look: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        """The result of `look` on the file; `nothing` if there is no file, or an empty one."""

        def attempt() -> T:
            if not self.path.exists():
                return nothing
            try:
                return self._look(self.path, look, nothing)
            except sqlite3.OperationalError as error:
                if _code(error) not in _NO_PLACE:
                    raise
            with tempfile.TemporaryDirectory() as folder:
                return self._look(self._copy(Path(folder)), look, nothing)

        return self._patiently(attempt)

    def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Let `change` append rows: either all are on the disk when this returns, or none is in the
        file.
        """

        def attempt() -> T:
            with _opened(self.path) as database:
                if database.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    database.execute("PRAGMA journal_mode = WAL")
                database.execute("BEGIN IMMEDIATE")
                try:
                    if _version(database, self.path) < VERSION:
                        for command in (_CREATE, *_UPGRADE):
                            database.execute(command)
                    done = change(database)
                    database.execute("COMMIT")
                finally:
                    if database.in_transaction:
                        database.execute("ROLLBACK")
                return done

        return self._patiently(attempt)

    def _look(self, path: Path, look: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        with _opened(path, "rw") as database:
            database.execute("BEGIN")  # one consistent snapshot
            there = database.execute(
                "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'decisions'"
            ).fetchone()
            _version(database, self.path)
            return look(database) if there else nothing

    def _copy(self, folder: Path) -> Path:
        """A copy of the file with its log, which may hold the last commits before a crash."""
        for suffix in ("", "-wal"):
            source = self.path.with_name(self.path.name + suffix)
            if source.exists():
                shutil.copyfile(source, folder / source.name)
        return folder / self.path.name

    def _patiently(self, attempt: Callable[[], T]) -> T:
        end = time.monotonic() + _WAIT
        while True:
            try:
                return attempt()
            except sqlite3.DatabaseError as error:
                if _code(error) not in _BUSY or time.monotonic() > end:
                    raise TurnoverError(
                        f"{self.path}: flags cannot be read or written ({error}); check the disk, "
                        "or move the file away"
                    ) from None
            except OSError as error:
                raise disk_error(self.path, error) from None
            except UnicodeEncodeError:
                raise TurnoverError(
                    f"{self.path}: a label cannot be written as UTF-8; correct the names of the "
                    "classes"
                ) from None
            except UnicodeDecodeError:
                raise TurnoverError(
                    f"{self.path}: flags cannot be read, since it is damaged; move the file away"
                ) from None
            time.sleep(random.uniform(0.001, 0.05))


def decisions_in(
    database: sqlite3.Connection, instance: int | None = None, step: int | None = None
) -> list[Decision]:
    """All rows of an open file in the order in which they were made, or those of one item, or of
    one step.
    """
    select = _ROWS[min(VERSION, database.execute("PRAGMA user_version").fetchone()[0])]
    column, value = ("made.instance", instance) if step is None else ("made.step", step)
    where, values = ("", ()) if value is None else (f" WHERE {column} = ?", (value,))
    return [
        _decision(*row) for row in database.execute(f"{select}{where} ORDER BY made.number", values)
    ]


def append_step(
    database: sqlite3.Connection,
    kind: str,
    by: str,
    at: str,
    flags: list[Flag],
    undoes: int | None = None,
) -> None:
    """One more step with its decisions."""
    step = database.execute(
        "INSERT INTO steps (kind, by, at, undoes) VALUES (?, ?, ?, ?)", (kind, by, at, undoes)
    ).lastrowid
    columns = ", ".join(f":{name}" for name in _COLUMNS.split(", "))
    database.executemany(
        f"INSERT INTO decisions ({_COLUMNS}, step) VALUES ({columns}, {step})", map(vars, flags)
    )


@contextmanager
def _opened(path: Path, mode: str = "rwc") -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=_WAIT, isolation_level=None
    )
    try:
        for setting in (
            "trusted_schema = OFF",
            "synchronous = FULL",
            "fullfsync = ON",
            "checkpoint_fullfsync = ON",
        ):
            database.execute(f"PRAGMA {setting}")
        yield database
    finally:
        database.close()


def _version(database: sqlite3.Connection, path: Path) -> int:
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise TurnoverError(
            f"{path}: flags of format {version}, from a newer version of Turnover; this one reads "
            f"up to {VERSION}, so update it"
        )
    return version


def _decision(
    number: int, step: int | None, kind: str, undone: str, instance: int, *words: str
) -> Decision:
    flag = Flag(instance, *words)
    if (
        not isinstance(instance, int)
        or not all(isinstance(word, str) for word in words)
        or flag.action not in (*ACTIONS, CLEARED)
    ):
        raise sqlite3.DatabaseError(f"decision {number} is none")
    return Decision(number, step or 0, kind, flag, undone)


def _code(error: sqlite3.DatabaseError) -> int:
    """SQLite's primary error code; 0 where there is none."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
