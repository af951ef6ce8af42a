"""Text beside the data: headings, notes, empty states and problems; and charts in one form.

All text is escaped, since messages quote users' files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from turnover.runs.run import Run

_CODE = re.compile(r"`([^`]+)`")


def style() -> None:
    """Send the style sheet; it takes no room on the page."""
    st.html(Path(__file__).parents[1] / "style.css")


def heading(title: str, text: str = "") -> None:
    """The heading of a section, with a line below."""
    line = f'<p class="to-quiet">{escape(text)}</p>' if text else ""
    st.html(f'<h2 class="to-heading">{escape(title)}</h2>{line}')


def bullets(lines: Iterable[str]) -> None:
    """Lines as a list; nothing if there are none."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    if items:
        st.html(f'<ul class="to-list">{items}</ul>')


def quiet(*lines: str) -> None:
    """Lines in small, quiet print."""
    st.html("".join(f'<p class="to-quiet">{escape(line)}</p>' for line in lines if line))


def said(text: str) -> None:
    """A sentence in normal print."""
    st.html(f'<p class="to-said">{escape(text)}</p>')


def chart(figure: go.Figure, alt: str, **choosing: Any) -> Any:
    """A figure across the page, without plotly's own buttons."""
    config = {"displaylogo": False, "displayModeBar": False}
    return st.plotly_chart(figure, width="stretch", alt=alt, config=config, **choosing)


def problem(title: str, message: str) -> None:
    """An error message, with what to do about it."""
    st.html(
        '<div class="to-box to-problem" '
        f'role="alert"><strong>{escape(title)}</strong><p>{_with_code(message)}</p></div>'
    )


def wrong_field(message: str) -> None:
    """An error in the field above, in a line."""
    st.html(f'<p class="to-quiet to-wrong-field">{_with_code(message)}</p>')


def notice(title: str, message: str = "", command: str = "") -> None:
    """A message on something that is missing, with the command that creates it."""
    text = f"<p>{escape(message)}</p>" if message else ""
    st.html(f'<div class="to-box" role="status"><strong>{escape(title)}</strong>{text}</div>')
    if command:
        st.code(command, language=None, wrap_lines=True)


def what_is_missing(run: Run) -> None:
    """What a run of another engine's scores does not have, in a line."""
    from turnover.explain.facts import missing_words  # the first words of a page need no pandas

    if words := missing_words(run):
        quiet(words)


def no_influence(run: Run, message: str) -> None:
    """Why a run's influence cannot be shown: not computed yet, or damaged."""
    if run.has_influence:
        problem("The influence cannot be shown", message)
    else:
        words = (
            "This run has no influence yet, so nothing can say which training examples taught it "
            "its mistakes. Compute it, then reload this page:"
        )
        notice("No influence yet", words, f"turnover influence --run {run.folder}")


def no_runs(folder: Path) -> None:
    """The state before the first run."""
    notice(
        "No runs yet",
        f"There is no run in the folder “{folder}”. Build the two demo runs, then reload this "
        "page:",
        "turnover demo",
    )


def _with_code(message: str) -> str:
    """A message, escaped, with text between backticks as code."""
    return _CODE.sub(r"<code>\1</code>", escape(message))
