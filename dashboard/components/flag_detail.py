"""The chosen flag: its training item, what was decided on it by whom, and the fields to decide anew."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.flag_form import decided, decision_fields, stored
from turnover.dashboard.components.people import flags_of
from turnover.dashboard.views.flags import history_lines
from turnover.errors import TurnoverError
from turnover.report.flagged import Flagged, minute, verdict_words
from turnover.report.fragments import chip_html, image_html, mark_html, marked_html, safe
from turnover.report.words import mark
from turnover.runs import Run


def show_flag(run: Run, item: Flagged) -> None:
    """The item, its note, its history and the form."""
    st.html(f'<div class="to-target">{item_html(item)}</div>')
    st.html(_decision_html(item))
    key = f"edit-{item.flag.instance}-{item.flag.at}"
    with st.container(border=True):
        decision_fields(run.classes, item.label, item.flag, key, lines=4)
        with st.container(horizontal=True):
            st.button("Save", key="edit-save", on_click=_save, args=(run, item.flag.instance, key))
            st.button("Clear flag", key="edit-clear", on_click=_clear, args=(run, item.flag.instance))
    st.html(_history_html(run, item.flag.instance))


def item_html(item: Flagged) -> str:
    """A training item with its label."""
    body = image_html(item.image, 120, f"training image labelled {item.label}") if item.image else marked_html(mark(item.text, ()))
    return f'{body}<div class="to-facts"><span>label {chip_html(item.label)}</span>{mark_html(item.planted)}<span class="to-id">{safe(item.id)}</span></div>'


def _decision_html(item: Flagged) -> str:
    who = f'<span class="to-quiet">{safe(item.flag.by)}, {safe(minute(item.flag.at))}</span>'
    note = f'<p class="to-note" dir="auto">{safe(item.flag.note)}</p>' if item.flag.note else ""
    return f'<div class="to-facts">{chip_html(f"flagged: {verdict_words(item.flag)}", "flag")}{who}</div>{note}'


def _history_html(run: Run, instance: int) -> str:
    """All that was ever decided on the item; it unfolds on a click where there is more than the flag itself."""
    try:
        lines = history_lines(flags_of(run).history(instance))
    except TurnoverError as error:
        return f'<p class="to-quiet">{safe(str(error))}</p>'
    items = "".join(f"<li>{safe(words)}{_note_html(note)}</li>" for words, note in lines)
    summary = "One decision so far" if len(lines) == 1 else f"All {len(lines)} decisions on this item"
    return f'<details class="to-more"><summary>{summary}</summary><ol class="to-removed">{items}</ol></details>'


def _note_html(note: str) -> str:
    return f'<br><span class="to-quiet" dir="auto">{safe(note)}</span>' if note else ""


def _save(run: Run, instance: int, key: str) -> None:
    with stored():
        flags_of(run).put(instance, *decided(key))


def _clear(run: Run, instance: int) -> None:
    with stored():
        flags_of(run).clear(instance)
