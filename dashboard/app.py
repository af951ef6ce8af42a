"""The dashboard's entry: `python -m streamlit run dashboard/app.py`, better started by `python -m dashboard.launch`."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core.errors import TurnoverError
from dashboard.components.notice import quiet, style
from dashboard.state import RUN_KEY, forget_choices, open_run, runs_folder
from dashboard.views.runs import run_names, summarise

HERE = Path(__file__).parent


def choose_run() -> None:
    """The sidebar: which run, and what it is."""
    names = run_names(runs_folder())
    if not names:
        return
    name = st.selectbox("Run", names, key=RUN_KEY, bind="query-params", on_change=forget_choices)
    try:
        summary = summarise(open_run(runs_folder() / name).run)
    except TurnoverError:
        quiet("This run cannot be opened.")
        return
    quiet(f"{summary.data}: {summary.sizes}; {summary.quality}.")


st.set_page_config("Turnover", page_icon=str(HERE / "icon.svg"), layout="wide", initial_sidebar_state=260)
style()
st.logo(str(HERE / "logo.svg"), size="large", icon_image=str(HERE / "icon.svg"))
page = st.navigation(
    [
        st.Page("app_pages/errors.py", title="Errors", url_path="errors", default=True),
        st.Page("app_pages/curves.py", title="Curves", url_path="curves"),
        st.Page("app_pages/try_own.py", title="Try your own", url_path="try"),
    ]
)
st.title(page.title)
with st.sidebar:
    choose_run()
page.run()
