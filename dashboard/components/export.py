"""How many training items are flagged, and all of them as a CSV file."""

from __future__ import annotations

import streamlit as st

from core.pipeline.export import export_csv
from core.runs import Run
from dashboard.components.notice import quiet


def flags_bar(run: Run, count: int) -> None:
    """The count of flags and the download; the file is made when it is asked for."""
    said = f"{count:,} training item{'s' if count > 1 else ''} flagged; flags are kept with the run." if count else "No training item is flagged yet."
    with st.container(horizontal=True, vertical_alignment="center"):
        quiet(said)
        name = f"{run.name}-flags.csv"
        st.download_button("Export flags (CSV)", lambda: export_csv(run), name, "text/csv", key="export", on_click="ignore", disabled=not count)
