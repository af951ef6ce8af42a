"""The dashboard's entry: `python -m streamlit run dashboard/app.py`, better started by `python -m dashboard.launch`.

The first words need nothing but Streamlit. What reads runs is imported after them, since pandas alone takes a while.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.components.notice import style

HERE = Path(__file__).parent


def sidebar() -> None:
    """Which run is looked at."""
    from dashboard.components.run_choice import choose_run

    with st.sidebar:
        choose_run()


st.set_page_config("Turnover", page_icon=str(HERE / "icon.svg"), layout="wide", initial_sidebar_state=260)
style()
st.logo(str(HERE / "logo.svg"), size="large", icon_image=str(HERE / "icon.svg"))
page = st.navigation(
    [
        st.Page("app_pages/errors.py", title="Errors", url_path="errors", default=True),
        st.Page("app_pages/curves.py", title="Curves", url_path="curves"),
        st.Page("app_pages/trust.py", title="Trust", url_path="trust"),
        st.Page("app_pages/try_own.py", title="Try your own", url_path="try"),
        st.Page("app_pages/cleanse.py", title="Cleanse", url_path="cleanse"),
        st.Page("app_pages/train.py", title="Train", url_path="train"),
    ]
)
st.title(page.title)
sidebar()
page.run()
