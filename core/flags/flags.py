"""`Flags`: the decisions on a run's training items, put, looked up, undone and merged.

The flag in force follows from the history of decisions:

- The newest decision of this run counts.
- An imported decision, from another copy of the run, takes effect where nobody here has decided,
  and replaces an older imported one by the same person; it never changes a flag put here.
- People conflict on an item where their newest decisions differ. A decision that settles ends the
  conflict; later decisions can conflict again.
- Undone steps count as if they had never been.

A decision is stored under the name in TURNOVER_USER, else under the account's name.
"""

from __future__ import annotations

import getpass
import os
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path

from turnover.errors import TurnoverError
from turnover.flags.store import (
    CLEARED,
    DECIDED,
    IMPORTED,
    SETTLED,
    UNDONE,
    Decision,
    Flag,
    FlagStore,
    append_step,
    check_verdict,
    clean_name,
    clean_note,
    decisions_in,
)


@dataclass(frozen=True)
class Conflict:
    """A training item on which people differ: the flag in force, if any, and each person's newest
    decision, oldest first.
    """

    instance: int
    flag: Flag | None
    decisions: tuple[Decision, ...]


@dataclass
class _Item:
    """State of one item while its history is replayed; `opinions` by person and by whether they
    were imported.
    """

    decision: Decision | None = None
    opinions: dict[tuple[str, bool], Decision] = field(default_factory=dict)

    def add(self, new: Decision) -> None:
        """Add the next decision of the history."""
        person = (new.flag.by, new.imported)
        before = self.opinions.get(person)
        if new.imported and before is not None and new.flag.at <= before.flag.at:
            return
        settles = new.kind == SETTLED
        withdrawn = new.flag.action == CLEARED and (
            settles or self.decision is None or self.decision.flag.by == new.flag.by
        )
        counts = not new.imported or (
            self.decision is before if self.decision else not self._decided_here
        )
        if settles:
            self.opinions.clear()
        if withdrawn:
            self.opinions.pop(person, None)
        else:
            self.opinions[person] = new
        if counts:
            self.decision = None if new.flag.action == CLEARED else new

    @property
    def flag(self) -> Flag | None:
        return self.decision.flag if self.decision else None

    @property
    def _decided_here(self) -> bool:
        return any(not imported for _, imported in self.opinions)


def in_force(history: Iterable[Decision]) -> dict[int, Flag]:
    """The flag of each flagged item, by instance; the history is in order."""
    return {instance: item.flag for instance, item in sorted(_add_up(history).items()) if item.flag}


def conflicts(history: Iterable[Decision]) -> list[Conflict]:
    """The items on which people differ, by instance."""
    return [
        Conflict(
            instance, item.flag, tuple(sorted(item.opinions.values(), key=attrgetter("number")))
        )
        for instance, item in sorted(_add_up(history).items())
        if len({decision.flag.verdict for decision in item.opinions.values()}) > 1
    ]


def _add_up(history: Iterable[Decision]) -> dict[int, _Item]:
    items: dict[int, _Item] = {}
    for decision in history:
        if not decision.undone:
            items.setdefault(decision.flag.instance, _Item()).add(decision)
    return items


# Who decides

VARIABLE = "TURNOVER_USER"


def user_name() -> str:
    """The default name under which decisions are stored."""
    return clean_name(os.environ.get(VARIABLE, "")) or clean_name(_account()) or "unknown"


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


# Flags of a run

_LAST = (
    "SELECT number, kind, at FROM steps AS step WHERE by = ? AND kind != ? "
    "AND NOT EXISTS (SELECT 1 FROM steps WHERE undoes = step.number) ORDER BY number DESC LIMIT 1"
)


@dataclass(frozen=True)
class Step:
    """One call: its number, kind, time and decisions."""

    number: int
    kind: str
    at: str
    flags: tuple[Flag, ...]


@dataclass(frozen=True)
class Overview:
    """A consistent snapshot: flags in force by instance, conflicts, and the step that `undo` takes
    back.
    """

    flags: dict[int, Flag]
    conflicts: list[Conflict]
    last: Step | None


@dataclass(frozen=True)
class Merged:
    """Result of an import: numbers of new flags, of new flags that conflict with another person's,
    and of flags known before.
    """

    new: int
    conflicting: int
    known: int


class Flags:
    """The flags of one run folder; `by` is who decides, `user_name()` by default.

    Every method reads or writes the file anew, so an object can be shared by threads, and processes
    see each other's decisions.

    Raises:
        TurnoverError: on use, if the file cannot be read or written, is not a flags file, or has a
            newer format.
    """

    def __init__(self, run_folder: Path, by: str | None = None) -> None:
        self.path = run_folder / "flags.sqlite"
        self.by = clean_name(by or "") or user_name()
        self.store = FlagStore(self.path)

    def put(self, instance: int, action: str, new_label: str = "", note: str = "") -> Flag:
        """Decide on a training item; the decision is durable when this returns.

        Raises:
            TurnoverError: for an unknown action, a relabel without a label, or a file that cannot
                be written.
        """
        return self.put_many([instance], action, new_label, note)[0]

    def put_many(
        self, instances: Iterable[int], action: str, new_label: str = "", note: str = ""
    ) -> list[Flag]:
        """The same decision on several training items, in one step.

        Raises:
            TurnoverError: as `put`.
        """
        check_verdict(action, new_label)
        return self.put_each(dict.fromkeys(instances, (action, new_label)), note)

    def put_each(self, verdicts: Mapping[int, tuple[str, str]], note: str = "") -> list[Flag]:
        """Decide on several training items in one step: an action and a new label for each, or
        `clear` and none. Either all are durable when this returns, or none is stored.

        Raises:
            TurnoverError: as `put`.
        """
        for action, new_label in set(verdicts.values()) - {(CLEARED, "")}:
            check_verdict(action, new_label)
        return self._append(DECIDED, verdicts, note)

    def clear(self, instance: int) -> None:
        """Take the flag of a training item away; its history stays."""
        self._append(DECIDED, {instance: (CLEARED, "")}, "")

    def settle(self, instance: int, action: str, new_label: str = "", note: str = "") -> Flag:
        """Settle a conflict on a training item, `clear` for no flag; earlier decisions no longer
        conflict.

        Raises:
            TurnoverError: as `put`.
        """
        if action != CLEARED or new_label:
            check_verdict(action, new_label)
        return self._append(SETTLED, {instance: (action, new_label)}, note)[0]

    def current(self) -> dict[int, Flag]:
        """The flag in force for each flagged training item, by instance."""
        return in_force(self.store.decisions())

    def overview(self) -> Overview:
        """Flags in force, conflicts and what `undo` takes back, in one read."""

        def look(database: sqlite3.Connection) -> Overview:
            history = decisions_in(database)
            return Overview(in_force(history), conflicts(history), self._last(database))

        return self.store.read(look, Overview({}, [], None))

    def history(self, instance: int) -> list[Decision]:
        """All decisions on a training item, oldest first, undone ones included."""
        return self.store.decisions(instance)

    def undo(self, expected: int | None = None) -> Step:
        """Undo the last call of this person, as if it had not been made.

        Args:
            expected: the number of the step to undo; no other is undone.

        Raises:
            TurnoverError: if there is nothing to undo, or the last step is not the expected one.
        """

        def change(database: sqlite3.Connection) -> Step:
            step = self._last(database)
            if step is None:
                raise TurnoverError(
                    f"nothing to undo: {self.by} has made no decision on this run that still stands"
                )
            if expected not in (None, step.number):
                raise TurnoverError(
                    f"something else was decided or undone by {self.by} since; look again what undo"
                    " takes back"
                )
            append_step(database, UNDONE, self.by, _now(), [], undoes=step.number)
            return step

        return self.store.write(change)

    def merge(self, flags: Iterable[Flag]) -> Merged:
        """Add decisions that were made in another copy of the run, with their names and times, as
        one step.

        Decisions already in the history are skipped, so a second merge changes nothing; what was
        decided here stays in force.
        """
        wanted = list(dict.fromkeys(flags))

        def change(database: sqlite3.Connection) -> Merged:
            before = {decision.flag for decision in decisions_in(database) if not decision.undone}
            new = [flag for flag in wanted if flag not in before]
            if new:
                append_step(database, IMPORTED, self.by, _now(), new)
            differing = {conflict.instance for conflict in conflicts(decisions_in(database))}
            conflicting = sum(flag.instance in differing for flag in new)
            return Merged(len(new), conflicting, len(wanted) - len(new))

        return self.store.write(change)

    def _append(self, kind: str, verdicts: Mapping[int, tuple[str, str]], note: str) -> list[Flag]:
        at, stored_note = _now(), clean_note(note)
        flags = [
            Flag(_checked(instance), action, new_label, stored_note, self.by, at)
            for instance, (action, new_label) in verdicts.items()
        ]
        if flags:
            self.store.write(lambda database: append_step(database, kind, self.by, at, flags))
        return flags

    def _last(self, database: sqlite3.Connection) -> Step | None:
        """The newest call of this person that was not undone."""
        # a file without steps: each decision was one
        if not database.execute("PRAGMA user_version").fetchone()[0]:
            for decision in reversed(decisions_in(database)):
                if decision.flag.by == self.by:
                    return Step(decision.step, decision.kind, decision.flag.at, (decision.flag,))
            return None
        row = database.execute(_LAST, (self.by, UNDONE)).fetchone()
        if row is None:
            return None
        number, kind, at = row
        flags = tuple(decision.flag for decision in decisions_in(database, step=number))
        return Step(number, kind, at, flags)


def _checked(instance: int) -> int:
    if not 0 <= instance < 2**63:
        raise TurnoverError(f"{instance} is no training item")
    return int(instance)


def _now() -> str:
    return datetime.now(UTC).isoformat()
