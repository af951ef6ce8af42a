"""The decision on a training item, in a popover below its card: drop, relabel or keep, with a note.

The form is only made when the popover is open, so that ten cards cost ten buttons. Saving closes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from core.errors import TurnoverError
from core.flags import Flag, Flags
from core.report.explanation import Card
from core.runs import Run
from dashboard.components.notice import problem

_PROBLEM = "flag_problem"
_ACTIONS = {"drop": "Drop", "relabel": "Relabel", "keep": "Keep"}


def current_flags(run: Run) -> dict[int, Flag]:
    """The decisions in force; if they cannot be read, the page says so and goes on without them."""
    try:
        return Flags(run.folder).current()
    except TurnoverError as error:
        problem("The flags cannot be read", str(error))
        return {}


def flag_control(run: Run, card: Card, flag: Flag | None) -> None:
    """The popover of one card."""
    key = f"flag-{card.position}"
    popover = st.popover("Change flag" if flag else "Flag", key=key, on_change="rerun", type="tertiary")
    if popover.open:
        with popover:
            _form(run, card, flag, key)


def flag_problem() -> None:
    """Says why the last decision was not stored, if it was not."""
    message = st.session_state.pop(_PROBLEM, "")
    if message:
        problem("The flag was not stored", message)


@contextmanager
def stored() -> Iterator[None]:
    """Around a change of flags: what keeps it from being stored is said by `flag_problem`."""
    try:
        yield
    except TurnoverError as error:
        st.session_state[_PROBLEM] = str(error)


def _form(run: Run, card: Card, flag: Flag | None, key: str) -> None:
    others = [name for name in run.classes if name != card.label]
    action = st.segmented_control(
        "What should happen to this training item?",
        list(_ACTIONS),
        format_func=_ACTIONS.__getitem__,
        default=flag.action if flag else "drop",
        required=True,
        key=f"{key}-action",
    )
    if action == "relabel":
        known = others.index(flag.new_label) if flag and flag.new_label in others else 0
        st.selectbox("New label", others, index=known, key=f"{key}-label")
    st.text_input("Note", value=flag.note if flag else "", key=f"{key}-note", placeholder="Why? (optional)", on_change="ignore")
    with st.container(horizontal=True):
        st.button("Save", key=f"{key}-save", on_click=_save, args=(run, card.position))
        if flag:
            st.button("Clear flag", key=f"{key}-clear", on_click=_clear, args=(run, card.position))


def _save(run: Run, position: int) -> None:
    key, state = f"flag-{position}", st.session_state
    action = state.get(f"{key}-action") or "drop"
    label = state.get(f"{key}-label", "") if action == "relabel" else ""
    with stored():
        Flags(run.folder).put(position, action, label, state.get(f"{key}-note") or "")
    state[key] = False


def _clear(run: Run, position: int) -> None:
    with stored():
        Flags(run.folder).clear(position)
    st.session_state[f"flag-{position}"] = False
