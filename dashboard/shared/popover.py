"""A popover that Python closes once its form is done."""

from __future__ import annotations

from typing import Any

import streamlit as st


def popover(label: str, key: str, **options: Any) -> Any:
    """A popover that says whether it is open, and that `close` shuts.

    Set to closed through the session state, a popover would open again by itself: the browser goes
    on sending the state in which it was used. So closing one gives its place to a new one.
    """
    return st.popover(label, key=f"{key}-{_closed(key)}", on_change="rerun", **options)


def close(key: str) -> None:
    """Shut the popover with this key."""
    st.session_state[f"{key}-closed"] = _closed(key) + 1


def _closed(key: str) -> int:
    return int(st.session_state.get(f"{key}-closed", 0))
