"""How many training items are flagged, and all of them as a file: a table, a patch, or a page."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.notice import heading, quiet
from turnover.dashboard.state import Opened
from turnover.dashboard.views.flags import apply_command
from turnover.patch.form import export_patch
from turnover.pipeline.export import export_csv
from turnover.report.page import report_page
from turnover.runs import Run
from turnover.wording import counted

FLAGS_PAGE = "app_pages/flags.py"


def flags_bar(run: Run, count: int) -> None:
    """The count of flags, the way to their page, and the table of them; the file is made when it is asked for."""
    said = f"{counted(count, 'training item')} flagged; flags are kept with the run." if count else "No training item is flagged yet."
    with st.container(horizontal=True, vertical_alignment="center"):
        quiet(said)
        st.page_link(FLAGS_PAGE, label="Flags & export")
        _csv_button(run, not count)


def downloads(opened: Opened) -> None:
    """The three files, and the command that applies the patch to the training data."""
    run, patch = opened.run, f"{opened.run.name}-flags.jsonl"
    heading("Take them with you", "The table opens in a spreadsheet. The patch cleanses the data set, and a colleague can import it.")
    with st.container(horizontal=True):
        _csv_button(run)
        st.download_button("Export patch (JSONL)", lambda: export_patch(run), patch, "application/jsonl", key="export-patch", on_click="ignore")
        page, known = f"{run.name}.html", not opened.influence_problem
        st.download_button("Flags and errors (HTML)", lambda: report_page(run), page, "text/html", key="export-html", on_click="ignore", disabled=not known)
    command, missing = apply_command(run, patch)
    st.code(command, language=None, wrap_lines=True)
    undone = "The data are not changed: a cleansed copy is written, and an undo file beside it, with which `apply --undo` restores the original byte by byte."
    quiet(missing, undone.replace("`", ""))


def _csv_button(run: Run, disabled: bool = False) -> None:
    name = f"{run.name}-flags.csv"
    st.download_button("Export flags (CSV)", lambda: export_csv(run), name, "text/csv", key="export", on_click="ignore", disabled=disabled)
