"""Who decides: the user that is signed in, where the dashboard asks for that, else the account that serves it."""

from __future__ import annotations

import streamlit as st

from turnover.flags import Flags
from turnover.runs import Run

_CLAIMS = ("email", "preferred_username", "name", "sub")


def signed_in() -> str | None:
    """The name under which a signed-in user decides; None if nobody is signed in."""
    if not st.user.get("is_logged_in"):
        return None
    return next((str(st.user[claim]) for claim in _CLAIMS if st.user.get(claim)), None)


def flags_of(run: Run) -> Flags:
    """The flags of a run, in the name of whoever looks at the page."""
    return Flags(run.folder, by=signed_in())
