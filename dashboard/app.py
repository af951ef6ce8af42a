"""The dashboard's entry: `streamlit run dashboard/app.py`, better started by `turnover dashboard`.

Drawing the first words needs only Streamlit. Modules that read runs are imported after them, since
pandas alone takes a while. Sign-in applies where `.streamlit/secrets.toml` sets it up (README,
Security).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

import streamlit as st

from turnover.dashboard.shared.notice import notice, style

HERE = Path(__file__).parent
# addresses of earlier versions, and the script of the page that they lead to, with what it shows
MOVED = {
    "errors": "errors",
    "flags": "errors",
    "try": "errors",
    "training": "training_data",
    "map": "training_data",
    "train": "runs?view=New+run",
    "curves": "runs?view=Curves",
    "trust": "runs?view=Trust",
    "about": "runs?view=Details",
}


def require_sign_in() -> None:
    """Stop the page unless its reader is signed in; a no-op where sign-in is not set up."""
    if st.user.get("is_logged_in", True):
        return
    notice(
        "Sign in to go on",
        "The one who serves this dashboard has asked for it: flags are kept with the name of who "
        "made them.",
    )
    st.button("Sign in", on_click=st.login)
    st.stop()


def sidebar(page: str) -> None:
    """The choice of the run, after the choices of a link to the page are applied, and what is at
    work.
    """
    from turnover.dashboard.shared.address import choose_run
    from turnover.dashboard.shared.jobs import show_line
    from turnover.dashboard.state import follow_link

    follow_link(page)
    with st.sidebar:
        choose_run()
        if page != "runs":  # which shows more of it
            show_line()


def draw_tray() -> None:
    """The decisions on the chosen run."""
    from turnover.dashboard.shared.tray import show_tray

    show_tray()


def leads_to(target: str) -> Callable[[], None]:
    """A page that leads to another one, with all that the address names."""
    script, _, shown = target.partition("?")
    return lambda: st.switch_page(
        f"app_pages/{script}.py", query_params=dict(parse_qsl(shown)) | st.query_params.to_dict()
    )


st.set_page_config(
    "Turnover", page_icon=str(HERE / "icon.svg"), layout="wide", initial_sidebar_state=260
)
style()
st.logo(str(HERE / "logo.svg"), size="large", icon_image=str(HERE / "icon.svg"))
# one list: with headings in between, screen readers do not read it as a list
page = st.navigation(
    [
        st.Page("app_pages/errors.py", title="Errors", url_path="home", default=True),
        st.Page("app_pages/training_data.py", title="Training data", url_path="training_data"),
        st.Page("app_pages/cleanse.py", title="Cleanse", url_path="cleanse"),
        st.Page("app_pages/runs.py", title="Runs", url_path="runs"),
        *(
            st.Page(leads_to(target), title="Moved", url_path=path, visibility="hidden")
            for path, target in MOVED.items()
        ),
    ]
)
if page.url_path in MOVED:
    page.run()
with st.container(key="top", horizontal=True, vertical_alignment="center", gap="small"):
    st.title(page.title, width="stretch")
    tray = st.container(width="content")
require_sign_in()
sidebar(page.url_path)
with tray:
    draw_tray()
page.run()
