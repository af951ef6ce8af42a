"""The decision on a training item, in a popover below its card: drop, relabel or keep, with a note.

The form is drawn only while the popover is open, so that ten cards cost ten buttons; saving closes
it. The decision carries the name of the signed-in user, or, without sign-in, of the account that
serves the dashboard.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import streamlit as st

from turnover.dashboard.shared.notice import problem
from turnover.dashboard.shared.popover import close, popover
from turnover.errors import TurnoverError
from turnover.flags import MAX_NOTE, Flag, Flags
from turnover.flags.judgements import Judgement, judgements
from turnover.runs.run import Run

_CLAIMS = ("email", "preferred_username", "name", "sub")


def signed_in() -> str | None:
    """The name under which a signed-in user decides; None if nobody is signed in."""
    if not st.user.get("is_logged_in"):
        return None
    return next((str(st.user[claim]) for claim in _CLAIMS if st.user.get(claim)), None)


def flags_of(run: Run) -> Flags:
    """The flags of a run, with the current user as the author."""
    return Flags(run.folder, by=signed_in())


_PROBLEM = "flag_problem"
_ACTIONS = {"drop": "Drop", "relabel": "Relabel", "keep": "Keep"}


class Labelled(Protocol):
    """A training item that can be flagged."""

    @property
    def position(self) -> int: ...

    @property
    def label(self) -> str: ...


def current_flags(run: Run) -> dict[int, Flag]:
    """The flags in force; {} after a message if they cannot be read."""
    try:
        return flags_of(run).current()
    except TurnoverError as error:
        problem("The flags cannot be read", str(error))
        return {}


def current_judgements(run: Run) -> dict[int, Judgement]:
    """The judgements of errors; {} where the flags, in the same file, cannot be read."""
    try:
        return judgements(flags_of(run))
    except TurnoverError:
        return {}


def flag_control(run: Run, card: Labelled, flag: Flag | None) -> None:
    """The popover of one card."""
    key = f"flag-{card.position}"
    form = popover("Change flag" if flag else "Flag", key, type="tertiary")
    if form.open:
        with form:
            _form(run, card, flag, key)


def flag_problem() -> None:
    """Show why the last decision was not stored, if it was not."""
    message = st.session_state.pop(_PROBLEM, "")
    if message:
        problem("The flag was not stored", message)


@contextmanager
def stored() -> Iterator[None]:
    """Around a change of flags: keep its error for `flag_problem`."""
    try:
        yield
    except TurnoverError as error:
        st.session_state[_PROBLEM] = str(error)


def decision_fields(
    classes: list[str], label: str, flag: Flag | None, key: str, lines: int = 1
) -> None:
    """The fields of a decision on an item with this label; `lines` is the height of the note.
    `decided` returns their values.
    """
    others = [name for name in classes if name != label]
    action = st.segmented_control(
        "What should happen to this training item?",
        list(_ACTIONS),
        format_func=_ACTIONS.__getitem__,
        default=flag.action if flag else "drop",
        required=True,
        key=f"{key}-action",
    )
    if action == "relabel":
        # a label that nobody chose would spoil the data, where there is a choice
        known = 0 if len(others) == 1 else None
        if flag and flag.new_label in others:
            known = others.index(flag.new_label)
        st.selectbox("New label", others, index=known, key=f"{key}-label", placeholder="Choose one")
    note, hint = flag.note if flag else "", "Why? (optional)"
    if lines > 1:
        st.text_area(
            "Note",
            note,
            height=26 * lines,
            max_chars=MAX_NOTE,
            key=f"{key}-note",
            placeholder=hint,
            on_change="ignore",
        )
    else:
        st.text_input("Note", note, key=f"{key}-note", placeholder=hint, on_change="ignore")


def decided(key: str) -> tuple[str, str, str]:
    """Action, new label and note in the fields with this key."""
    state = st.session_state
    action = state.get(f"{key}-action") or "drop"
    return (
        action,
        (state.get(f"{key}-label") or "") if action == "relabel" else "",
        state.get(f"{key}-note") or "",
    )


def _form(run: Run, card: Labelled, flag: Flag | None, key: str) -> None:
    decision_fields(run.classes, card.label, flag, key)
    with st.container(horizontal=True):
        st.button("Save", key=f"{key}-save", on_click=_save, args=(run, card.position))
        if flag:
            st.button("Clear flag", key=f"{key}-clear", on_click=_clear, args=(run, card.position))


def _save(run: Run, position: int) -> None:
    key = f"flag-{position}"
    with stored():
        flags_of(run).put(position, *decided(key))
    close(key)


def _clear(run: Run, position: int) -> None:
    with stored():
        flags_of(run).clear(position)
    close(f"flag-{position}")
