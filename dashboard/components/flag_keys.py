"""Two keys for work through many errors: F flags the strongest proponent that has no flag yet, U takes the last such flag back."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.flag_form import stored
from turnover.dashboard.components.people import flags_of
from turnover.flags import Flag
from turnover.report.explanation import Card, Explanation
from turnover.runs import Run

_LAST = "flags-by-key"


def flag_keys(run: Run, explanation: Explanation, flags: dict[int, Flag]) -> None:
    """The two buttons; their keys are shown on them."""
    target = next((card for card in explanation.proponents if card.position not in flags), None)
    last = _last(run, flags)
    st.button("Drop the strongest", key="key-drop", shortcut="F", on_click=_drop, args=(run, target), disabled=target is None, help=_HELP)
    st.button("Take back", key="key-back", shortcut="U", on_click=_back, args=(run, last), disabled=last is None)


_HELP = "Flags the strongest proponent shown that has no flag yet: drop it from the training set"


def _last(run: Run, flags: dict[int, Flag]) -> Flag | None:
    """The last flag that the key put on this run and that is still in force as it was put."""
    kept = [(folder, flag) for folder, flag in st.session_state.get(_LAST, []) if folder != str(run.folder) or flags.get(flag.instance) == flag]
    st.session_state[_LAST] = kept
    return next((flag for folder, flag in reversed(kept) if folder == str(run.folder)), None)


def _drop(run: Run, card: Card) -> None:
    with stored():
        st.session_state[_LAST].append((str(run.folder), flags_of(run).put(card.position, "drop")))


def _back(run: Run, flag: Flag) -> None:
    with stored():
        flags_of(run).clear(flag.instance)
