"""A flag, and a row of the history of flags. Notes and names come from anybody, so they are cut and cleaned here."""

from __future__ import annotations

from dataclasses import dataclass

from turnover.errors import TurnoverError

ACTIONS = ("drop", "relabel", "keep")
CLEARED = "clear"
"""The action of a row that takes an item's flag away."""

DECIDED, SETTLED, IMPORTED, UNDONE = "decide", "settle", "import", "undo"
"""Kinds of steps."""

MAX_NOTE = 2000
"""Characters of a note that are kept."""

_MAX_NAME = 100


@dataclass(frozen=True)
class Flag:
    """One decision on training item `instance`; `new_label` is a class name and only for `relabel`; `at` is UTC, ISO 8601."""

    instance: int
    action: str
    new_label: str
    note: str
    by: str
    at: str

    @property
    def verdict(self) -> tuple[str, str]:
        """What was decided, without who, when and why."""
        return self.action, self.new_label


@dataclass(frozen=True)
class Decision:
    """A row of the history: a flag, or a flag taken away (action `clear`).

    Attributes:
        step: the call that it was part of; rows of one call have the same.
        kind: what sort of call, `decide`, `settle` or `import`.
        undone: when the call was taken back, or "".
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
    """Whether an action and a new label go together.

    Raises:
        TurnoverError: for an unknown action, a relabel without a label, or a label without a relabel.
    """
    if action not in ACTIONS:
        raise TurnoverError(f"unknown action {action!r}; choose one of {', '.join(ACTIONS)}")
    if (action == "relabel") != bool(new_label):
        raise TurnoverError("a relabel needs the new label, and only a relabel has one")


def clean_note(note: str) -> str:
    """A note as it is kept: at most `MAX_NOTE` characters, no null bytes, nothing that UTF-8 cannot write."""
    return _storable(note[: 2 * MAX_NOTE])[:MAX_NOTE]


def clean_name(name: str) -> str:
    """A person's name as it is kept: one line of at most 100 characters; "" if nothing is left."""
    return " ".join(_storable(name[: 2 * _MAX_NAME]).split())[:_MAX_NAME].strip()


def _storable(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
