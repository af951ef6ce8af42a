"""People's decisions on training items: drop, relabel or keep.

Kept in `RUN/flags.sqlite`, one row a decision, never overwritten. One call is one *step*, whether
it decides on one item or on thousands; undoing a step adds a step that names it, so that state is
what the steps that were not undone add up to.

decision.py   a flag, and a row of the history
history.py    what is in force, and where people differ: pure functions of the history
store.py      the SQLite file: durable, shared by many processes, readable where nothing can be
              written
people.py     who decides
book.py       `Flags`, what a user calls
"""

from __future__ import annotations

from turnover.flags.flags import Conflict, Flags, Merged, Overview, Step, user_name
from turnover.flags.store import ACTIONS, CLEARED, MAX_NOTE, Decision, Flag

__all__ = [
    "ACTIONS",
    "CLEARED",
    "MAX_NOTE",
    "Conflict",
    "Decision",
    "Flag",
    "Flags",
    "Merged",
    "Overview",
    "Step",
    "user_name",
]
