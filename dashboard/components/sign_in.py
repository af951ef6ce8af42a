"""Sign-in, where the one who serves the dashboard has set it up in `.streamlit/secrets.toml` (README, Security)."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.notice import notice


def require_sign_in() -> None:
    """End the page here unless its reader is signed in; without sign-in set up, everybody goes on."""
    if st.user.get("is_logged_in", True):
        return
    notice("Sign in to go on", "The one who serves this dashboard has asked for it: flags are kept with the name of who made them.")
    st.button("Sign in", on_click=st.login)
    st.stop()
