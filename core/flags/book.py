"""`Flags`: the decisions on a run's training items, put, looked up, taken back and merged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from turnover.errors import TurnoverError
from turnover.flags.decision import CLEARED, DECIDED, IMPORTED, SETTLED, UNDONE, Decision, Flag, check_verdict, clean_name, clean_note
from turnover.flags.history import Conflict, conflicts, in_force
from turnover.flags.people import user_name
from turnover.flags.store import Store, append_step, decisions_in

_LAST = (
    "SELECT number, kind, at FROM steps AS step WHERE by = ? AND kind != ? "
    "AND NOT EXISTS (SELECT 1 FROM steps WHERE undoes = step.number) ORDER BY number DESC LIMIT 1"
)


@dataclass(frozen=True)
class Step:
    """One call: its number, what sort of call it was, when it was made, and its decisions."""

    number: int
    kind: str
    at: str
    flags: tuple[Flag, ...]


@dataclass(frozen=True)
class Overview:
    """Everything at one moment: the flags in force by instance, the items on which people differ, and what `undo` takes back."""

    flags: dict[int, Flag]
    conflicts: list[Conflict]
    last: Step | None


@dataclass(frozen=True)
class Merged:
    """What an import did: flags that were new, how many of these differ from another person's, and how many were known before."""

    new: int
    conflicting: int
    known: int


class Flags:
    """The flags of one run folder; `by` is who decides, the account's name if it is left out.

    Every method reads or writes the file anew, so an object can be shared by threads, and processes see each other's decisions.

    Raises:
        TurnoverError: on use, if the file cannot be read or written, is no flags file, or is one of a newer version.
    """

    def __init__(self, run_folder: Path, by: str | None = None) -> None:
        self.path = run_folder / "flags.sqlite"
        self.by = clean_name(by or "") or user_name()
        self._store = Store(self.path)

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
        check_verdict(action, new_label)
        return self._append(DECIDED, instances, action, new_label, note)

    def clear(self, instance: int) -> None:
        """Take the flag of a training item away; its history stays."""
        self._append(DECIDED, [instance], CLEARED, "", "")

    def settle(self, instance: int, action: str, new_label: str = "", note: str = "") -> Flag:
        """Decide on a training item on which people differ, `clear` for no flag; the decisions before it no longer make a conflict.

        Raises:
            TurnoverError: as `put`.
        """
        if action != CLEARED or new_label:
            check_verdict(action, new_label)
        return self._append(SETTLED, [instance], action, new_label, note)[0]

    def current(self) -> dict[int, Flag]:
        """The flag in force for each flagged training item, by instance."""
        return in_force(self._store.decisions())

    def conflicts(self) -> list[Conflict]:
        """The training items on which people's newest decisions differ, by instance."""
        return conflicts(self._store.decisions())

    def overview(self) -> Overview:
        """`current`, `conflicts` and `last`, read at once."""

        def look(database: sqlite3.Connection) -> Overview:
            history = decisions_in(database)
            return Overview(in_force(history), conflicts(history), self._last(database))

        return self._store.read(look, Overview({}, [], None))

    def history(self, instance: int) -> list[Decision]:
        """All decisions on a training item, oldest first, those that were undone included."""
        return self._store.decisions(instance)

    def last(self) -> Step | None:
        """The newest call of this person that was not undone: what `undo` takes back."""
        return self._store.read(self._last, None)

    def undo(self, expected: int | None = None) -> Step:
        """Take back what the last call of this person decided: everything is then as if that call had not been made.

        Args:
            expected: the number of the step that is meant; another one is not undone.

        Raises:
            TurnoverError: if there is nothing to undo, or the last step is not the expected one.
        """

        def change(database: sqlite3.Connection) -> Step:
            step = self._last(database)
            if step is None:
                raise TurnoverError(f"nothing to undo: {self.by} has made no decision on this run that still stands")
            if expected not in (None, step.number):
                raise TurnoverError(f"something else was decided or undone by {self.by} since; look again what undo takes back")
            append_step(database, UNDONE, self.by, _now(), [], undoes=step.number)
            return step

        return self._store.write(change)

    def merge(self, flags: Iterable[Flag]) -> Merged:
        """Add decisions that were made in another copy of the run, with their names and times, as one step.

        Those that are in the history already are left out, so a second merge changes nothing; what was decided here stays in force.
        """
        wanted = list(dict.fromkeys(flags))

        def change(database: sqlite3.Connection) -> Merged:
            before = {decision.flag for decision in decisions_in(database) if not decision.undone}
            new = [flag for flag in wanted if flag not in before]
            if new:
                append_step(database, IMPORTED, self.by, _now(), new)
            differing = {conflict.instance for conflict in conflicts(decisions_in(database))}
            return Merged(len(new), sum(flag.instance in differing for flag in new), len(wanted) - len(new))

        return self._store.write(change)

    def _append(self, kind: str, instances: Iterable[int], action: str, new_label: str, note: str) -> list[Flag]:
        at, kept = _now(), clean_note(note)
        flags = [Flag(_checked(instance), action, new_label, kept, self.by, at) for instance in instances]
        if flags:
            self._store.write(lambda database: append_step(database, kind, self.by, at, flags))
        return flags

    def _last(self, database: sqlite3.Connection) -> Step | None:
        if not database.execute("PRAGMA user_version").fetchone()[0]:  # no steps yet: each decision was one
            own = [decision for decision in decisions_in(database) if decision.flag.by == self.by]
            return Step(own[-1].step, own[-1].kind, own[-1].flag.at, (own[-1].flag,)) if own else None
        found = database.execute(_LAST, (self.by, UNDONE)).fetchone()
        if found is None:
            return None
        number, kind, at = found
        return Step(number, kind, at, tuple(decision.flag for decision in decisions_in(database, step=number)))


def _checked(instance: int) -> int:
    number = int(instance)
    if not 0 <= number < 2**63:
        raise TurnoverError(f"{number} is no training item")
    return number


def _now() -> str:
    return datetime.now(UTC).isoformat()
