"""People's decisions on training items: drop, relabel or keep.

Kept in `RUN/flags.sqlite`, one row per decision, never overwritten. One call is one *step*, whether
it decides on one item or on thousands. Undoing a step adds a step that names it, so the current
state is the sum of the steps that were not undone.

flags.py       `Flags`: put, look up, undo, merge; which flag is in force, and conflicts
store.py       a flag, and the SQLite file: durable, shared by many processes
judgements.py  what people say of errors, in the same file
flag_file.py   a run's flags as a JSONL file, to change a data set or to send to a colleague
export.py      flagged items as CSV
plan.py        which rows of a data set a flag file drops and relabels
apply.py       `turnover apply`
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
