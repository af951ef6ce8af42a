"""People's decisions on training items: drop, relabel or keep.

Kept in `RUN/flags.sqlite`, one row a decision, never overwritten: the newest row of an item is its state and the rows
before it are its history. A decision is on disk before the call that made it returns.
"""

from __future__ import annotations

import getpass
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.atomic import disk_error
from core.errors import TurnoverError

ACTIONS = ("drop", "relabel", "keep")
_CLEARED = "clear"
_COLUMNS = "instance, action, new_label, note, by, at"
_TABLE = f"CREATE TABLE IF NOT EXISTS decisions (number INTEGER PRIMARY KEY, {_COLUMNS})"
_MAX_NOTE = 2000


@dataclass(frozen=True)
class Flag:
    """One decision on training item `instance`; `new_label` is a class name and only for `relabel`; `at` is UTC, ISO 8601."""

    instance: int
    action: str
    new_label: str
    note: str
    by: str
    at: str


def user_name() -> str:
    """Who decides: the name of the account that runs the program."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


class Flags:
    """The flags of one run folder.

    Raises:
        TurnoverError: on use, if the file cannot be written or is no flags file.
    """

    def __init__(self, run_folder: Path) -> None:
        self.path = run_folder / "flags.sqlite"

    def put(self, instance: int, action: str, new_label: str = "", note: str = "") -> Flag:
        """Decide on a training item; the decision is durable when this returns.

        Raises:
            TurnoverError: for an unknown action, a relabel without a label, or a file that cannot be written.
        """
        return self.put_many([instance], action, new_label, note)[0]

    def put_many(self, instances: Iterable[int], action: str, new_label: str = "", note: str = "") -> list[Flag]:
        """The same decision on several training items: all of them are durable when this returns, or none was stored.

        Raises:
            TurnoverError: as `put`.
        """
        if action not in ACTIONS:
            raise TurnoverError(f"unknown action {action!r}; choose one of {', '.join(ACTIONS)}")
        if (action == "relabel") != bool(new_label):
            raise TurnoverError("a relabel needs the new label, and only a relabel has one")
        return self._append(instances, action, new_label, note[:_MAX_NOTE])

    def clear(self, instance: int) -> None:
        """Take the decision on a training item back; its history stays."""
        self._append([instance], _CLEARED, "", "")

    def current(self) -> dict[int, Flag]:
        """The decision in force for each flagged training item, by instance."""
        if not self.path.exists():
            return {}
        newest = f"SELECT {_COLUMNS} FROM decisions WHERE number IN (SELECT MAX(number) FROM decisions GROUP BY instance)"
        with self._open() as database:
            flags = [Flag(*row) for row in database.execute(f"{newest} AND action != ? ORDER BY instance", (_CLEARED,))]
        return {flag.instance: flag for flag in flags}

    def _append(self, instances: Iterable[int], action: str, new_label: str, note: str) -> list[Flag]:
        by, at = user_name(), datetime.now(UTC).isoformat(timespec="seconds")
        flags = [Flag(int(instance), action, new_label, note, by, at) for instance in instances]
        with self._open() as database:
            database.executemany(f"INSERT INTO decisions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", map(astuple, flags))
        return flags

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(self.path, timeout=10)
            try:
                with database:
                    database.execute(_TABLE)
                    yield database
            finally:
                database.close()
        except sqlite3.DatabaseError as error:
            raise TurnoverError(f"{self.path}: flags cannot be read or written ({error}); check the disk, or move the file away") from None
        except OSError as error:
            raise disk_error(self.path, error) from None
