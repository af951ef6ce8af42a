"""What people say of a validation item that the model got wrong: is its label wrong, or the model?

Kept in `RUN/flags.sqlite` beside the decisions on training items, one row a judgement, never
overwritten; the newest on an item counts. They change no data: they say what was looked at.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

from turnover.errors import TurnoverError
from turnover.flags.flags import Flags

VERDICTS = ("label wrong", "model wrong", "unclear")
_CREATE = (
    "CREATE TABLE IF NOT EXISTS judgements "
    "(number INTEGER PRIMARY KEY, position INTEGER, verdict, by, at)"
)


@dataclass(frozen=True)
class Judgement:
    """What one person says of validation item `position`; `at` is UTC, ISO 8601."""

    position: int
    verdict: str
    by: str
    at: str


def judge(flags: Flags, position: int, verdict: str, instead_of: str | None = None) -> str:
    """Keep what `flags.by` says of a validation item; "" takes back what was said. It is on the
    disk when this returns what was said before.

    Raises:
        TurnoverError: for an unknown verdict, for a file that cannot be written, or if what was
            said before is not `instead_of`, where that is given.
    """
    if verdict not in ("", *VERDICTS):
        raise TurnoverError(f"unknown verdict {verdict!r}; choose one of {', '.join(VERDICTS)}")

    def change(database: sqlite3.Connection) -> str:
        database.execute(_CREATE)
        select = "SELECT verdict FROM judgements WHERE position = ? ORDER BY number DESC LIMIT 1"
        before = (database.execute(select, (position,)).fetchone() or ("",))[0]
        if instead_of not in (None, before):
            raise TurnoverError("somebody has judged this error since; look again before you undo")
        row = position, verdict, flags.by, datetime.now(UTC).isoformat()
        columns = "(position, verdict, by, at) VALUES (?, ?, ?, ?)"
        database.execute(f"INSERT INTO judgements {columns}", row)
        return str(before)

    return flags.store.write(change)


def judgements(flags: Flags) -> dict[int, Judgement]:
    """The newest judgement on each validation item that has one, by position.

    Raises:
        TurnoverError: if the file cannot be read.
    """

    def look(database: sqlite3.Connection) -> dict[int, Judgement]:
        known = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'judgements'").fetchone()
        select = "SELECT position, verdict, by, at FROM judgements ORDER BY number"
        newest = {row[0]: Judgement(*row) for row in (database.execute(select) if known else ())}
        if not all(map(_is_one, newest.values())):
            raise sqlite3.DatabaseError("a judgement is none")
        return {position: one for position, one in sorted(newest.items()) if one.verdict}

    return flags.store.read(look, {})


def _is_one(judgement: Judgement) -> bool:
    return (
        isinstance(judgement.position, int)
        and judgement.verdict in ("", *VERDICTS)
        and all(isinstance(word, str) for word in (judgement.by, judgement.at))
    )
