"""What a history of decisions adds up to: the flag in force on each item, and the items on which people differ.

The newest decision of this run counts. A decision that was imported from another copy comes into force where nobody here has
decided, and takes the place of an older imported one of the same person; it changes no flag that was put here. People
differ on an item where their newest decisions do; a decision that settles ends that, and what comes later can differ again.
Steps that were undone count as if they had never been.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from turnover.flags.decision import CLEARED, SETTLED, Decision, Flag


@dataclass(frozen=True)
class Conflict:
    """A training item on which people differ: the flag in force, if any, and each person's newest decision, oldest first."""

    instance: int
    flag: Flag | None
    decisions: tuple[Decision, ...]


@dataclass
class _Item:
    """One item while its history is added up; `opinions` by person and by whether they were imported."""

    decision: Decision | None = None
    opinions: dict[tuple[str, bool], Decision] = field(default_factory=dict)

    def add(self, new: Decision) -> None:
        """One more decision, later in the history."""
        person = (new.flag.by, new.imported)
        before = self.opinions.get(person)
        if new.imported and before is not None and new.flag.at <= before.flag.at:
            return
        settles = new.kind == SETTLED
        withdrawn = new.flag.action == CLEARED and (settles or self.decision is None or self.decision.flag.by == new.flag.by)
        counts = not new.imported or (self.decision is before if self.decision else not self._decided_here)
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
    """The flag of each flagged item, by instance; the history is in the order in which it was made."""
    return {instance: item.flag for instance, item in sorted(_add_up(history).items()) if item.flag}


def conflicts(history: Iterable[Decision]) -> list[Conflict]:
    """The items on which people differ, by instance."""
    return [
        Conflict(instance, item.flag, tuple(sorted(item.opinions.values(), key=lambda decision: decision.number)))
        for instance, item in sorted(_add_up(history).items())
        if len({decision.flag.verdict for decision in item.opinions.values()}) > 1
    ]


def _add_up(history: Iterable[Decision]) -> dict[int, _Item]:
    items: dict[int, _Item] = {}
    for decision in history:
        if not decision.undone:
            items.setdefault(decision.flag.instance, _Item()).add(decision)
    return items
