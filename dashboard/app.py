"""The dashboard's entry: `python -m streamlit run dashboard/app.py`, better started by `turnover
dashboard`.

The first words need nothing but Streamlit. What reads runs is imported after them, since pandas
alone takes a while.

Sign-in, where the one who serves the dashboard has set it up in `.streamlit/secrets.toml` (README,
Security).
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from turnover.dashboard.components.notice import notice, style


def require_sign_in() -> None:
    """End the page here unless its reader is signed in; without sign-in set up, everybody goes
    on.
    """
    if st.user.get("is_logged_in", True):
        return
    notice(
        "Sign in to go on",
        "The one who serves this dashboard has asked for it: flags are kept with the name of who "
        "made them.",
    )
    st.button("Sign in", on_click=st.login)
    st.stop()


HERE = Path(__file__).parent


def sidebar(page: str) -> None:
    """Which run is looked at, and what a link to the page says of it."""
    from turnover.dashboard.components.run_choice import choose_run
    from turnover.dashboard.state import follow_link

    follow_link(page)
    with st.sidebar:
        choose_run()


st.set_page_config(
    "Turnover", page_icon=str(HERE / "icon.svg"), layout="wide", initial_sidebar_state=260
)
style()
st.logo(str(HERE / "logo.svg"), size="large", icon_image=str(HERE / "icon.svg"))
# in one list: with headings between, it is not one that a screen reader can read
page = st.navigation(
    [
        st.Page("app_pages/overview.py", title="Overview", default=True),
        st.Page("app_pages/errors.py", title="Errors", url_path="errors"),
        st.Page("app_pages/training_item.py", title="Training item", url_path="training"),
        st.Page("app_pages/map.py", title="Map", url_path="map"),
        st.Page("app_pages/try_own.py", title="Try your own", url_path="try"),
        st.Page("app_pages/flags.py", title="Flags & export", url_path="flags"),
        st.Page("app_pages/cleanse.py", title="Cleanse", url_path="cleanse"),
        st.Page("app_pages/train.py", title="Train", url_path="train"),
        st.Page("app_pages/curves.py", title="Curves", url_path="curves"),
        st.Page("app_pages/trust.py", title="Trust", url_path="trust"),
        st.Page("app_pages/about.py", title="About", url_path="about"),
    ]
)
st.title(page.title)
require_sign_in()
sidebar(page.url_path)
page.run()
