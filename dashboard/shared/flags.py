"""Flags: the chosen flag with its form, counts and downloads, undo, disputes and import."""

from __future__ import annotations

from typing import Any

import streamlit as st

from turnover.dashboard.shared.flag_form import (
    decided,
    decision_fields,
    flag_problem,
    flags_of,
    stored,
)
from turnover.dashboard.shared.flags_view import (
    Dispute,
    Side,
    apply_command,
    history_lines,
    import_sentence,
    undo_sentence,
)
from turnover.dashboard.shared.notice import heading, problem, quiet, said
from turnover.dashboard.state import Opened
from turnover.errors import TurnoverError, counted
from turnover.explain.html import chip_html, image_html, mark_html, marked_html, safe
from turnover.explain.report import Flagged, minute, report_page, verdict_words
from turnover.explain.words import mark, run_pieces
from turnover.flags import Flag, Step
from turnover.flags.export import export_csv, export_judged_csv
from turnover.flags.flag_file import export_flag_file, merge_flag_file, read_flag_file
from turnover.flags.judgements import judgements
from turnover.runs.run import Run


def show_flag(run: Run, item: Flagged) -> None:
    """The item, its note, its history and the form."""
    st.html(f'<div class="to-target">{_item_html(run, item)}</div>')
    st.html(_decision_html(item))
    key = f"edit-{item.flag.instance}-{item.flag.at}"
    with st.container(border=True):
        decision_fields(run.classes, item.label, item.flag, key, lines=4)
        with st.container(horizontal=True):
            st.button("Save", key="edit-save", on_click=_save, args=(run, item.flag.instance, key))
            st.button(
                "Clear flag", key="edit-clear", on_click=_clear, args=(run, item.flag.instance)
            )
    st.html(_history_html(run, item.flag.instance))


def _item_html(run: Run, item: Flagged) -> str:
    """A training item with its label."""
    body = (
        image_html(item.image, 120, f"training image labelled {item.label}")
        if item.image
        else marked_html(mark(item.text, (), pieces=run_pieces(run)))
    )
    return (
        f'{body}<div class="to-facts"><span>label '
        f"{chip_html(item.label)}</span>{mark_html(item.injected)}<span "
        f'class="to-id">{safe(item.id)}</span></div>'
    )


def _decision_html(item: Flagged) -> str:
    who = f'<span class="to-quiet">{safe(item.flag.by)}, {safe(minute(item.flag.at))}</span>'
    note = f'<p class="to-note" dir="auto">{safe(item.flag.note)}</p>' if item.flag.note else ""
    return (
        '<div class="to-facts">'
        f"{chip_html(f'flagged: {verdict_words(item.flag)}', 'flag')}{who}</div>{note}"
    )


def _history_html(run: Run, instance: int) -> str:
    """All decisions on the item, collapsed."""
    try:
        lines = history_lines(flags_of(run).history(instance))
    except TurnoverError as error:
        return f'<p class="to-quiet">{safe(str(error))}</p>'
    items = "".join(f"<li>{safe(words)}{_note_html(note)}</li>" for words, note in lines)
    summary = (
        "One decision so far" if len(lines) == 1 else f"All {len(lines)} decisions on this item"
    )
    return (
        f'<details class="to-more"><summary>{summary}</summary><ol '
        f'class="to-removed">{items}</ol></details>'
    )


def _note_html(note: str) -> str:
    return f'<br><span class="to-quiet" dir="auto">{safe(note)}</span>' if note else ""


def _save(run: Run, instance: int, key: str) -> None:
    with stored():
        flags_of(run).put(instance, *decided(key))


def _clear(run: Run, instance: int) -> None:
    with stored():
        flags_of(run).clear(instance)


# Counts and downloads

FLAGS_PAGE = "app_pages/flags.py"


def flags_bar(run: Run, count: int) -> None:
    """The number of flags, the link to their page, and the table as a download, built on click."""
    text = (
        f"{counted(count, 'training item')} flagged; flags are kept with the run."
        if count
        else "No training item is flagged yet."
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        quiet(text)
        st.page_link(FLAGS_PAGE, label="Flags & export")
        _csv_button(run, not count)


def downloads(opened: Opened) -> None:
    """The three files, and the command that applies the flags to the training data."""
    run = opened.run
    heading(
        "Take them with you",
        "The table opens in a spreadsheet. A colleague can import the flag file, or cleanse the "
        "data set with it.",
    )
    with st.container(horizontal=True):
        _csv_button(run)
        st.download_button(
            "Export flag file (JSONL)",
            lambda: export_flag_file(run),
            f"{run.name}-flags.jsonl",
            "application/jsonl",
            key="export-flag-file",
            on_click="ignore",
        )
        page, known = f"{run.name}.html", not opened.influence_problem
        st.download_button(
            "Flags and errors (HTML)",
            lambda: report_page(run),
            page,
            "text/html",
            key="export-html",
            on_click="ignore",
            disabled=not known,
        )
    command, missing = apply_command(run)
    st.code(command, language=None, wrap_lines=True)
    quiet(missing, "The data are not changed: a cleansed copy is written.")


def judged_download(run: Run) -> None:
    """The judged errors as a table; nothing if there are none."""
    count = len(judgements(flags_of(run)))
    if count:
        with st.container(horizontal=True, vertical_alignment="center"):
            quiet(f"{counted(count, 'error')} judged.")
            st.download_button(
                "Export judged errors (CSV)",
                lambda: export_judged_csv(run),
                f"{run.name}-errors.csv",
                "text/csv",
                key="export-judged",
                on_click="ignore",
            )


def _csv_button(run: Run, disabled: bool = False) -> None:
    name = f"{run.name}-flags.csv"
    st.download_button(
        "Export flags (CSV)",
        lambda: export_csv(run),
        name,
        "text/csv",
        key="export",
        on_click="ignore",
        disabled=disabled,
    )


# Undo, disputes and import

_IMPORT_RESULT = "import-told"
_DISPUTES, _REJECTED = 10, 50


def undo_bar(run: Run, step: Step | None) -> None:
    """The undo button, with a sentence on what it would revert."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Undo",
            key="undo",
            on_click=_undo,
            args=(run, step.number if step else 0),
            disabled=step is None,
        )
        quiet(undo_sentence(run, step))
    flag_problem()


def show_disputes(run: Run, disputes: list[Dispute]) -> None:
    """The items on which people differ, each with a button per distinct decision."""
    if not disputes:
        return
    count = len(disputes)
    heading(
        f"People differ on {counted(count, 'item')}",
        "Until somebody settles, what is in force stays in force.",
    )
    for dispute in disputes[:_DISPUTES]:
        with st.container(border=True):
            st.html(f"{_item_html(run, dispute.item)}{_sides_html(dispute)}")
            with st.container(horizontal=True):
                for side in dispute.sides:
                    key = f"settle-{side.flag.instance}-{side.letter}"
                    st.button(
                        f"Settle for {side.letter}",
                        key=key,
                        on_click=_settle,
                        args=(run, side.flag),
                    )
    if count > _DISPUTES:
        quiet(f"… and {count - _DISPUTES:,} more, which come when these are settled.")


def import_form(run: Run) -> None:
    """The upload of a colleague's flag file, and the result of the last import."""
    heading(
        "Import a colleague’s flags",
        "A flag file (JSONL) from another copy of this run, or of a run on the same data. What you "
        "decided stays in force.",
    )
    with st.form("import-form", border=False, clear_on_submit=True):
        st.file_uploader("Flag file (JSONL)", type=["jsonl"], key="import-file")
        st.form_submit_button("Import", on_click=_import, args=(run,))
    result = st.session_state.get(_IMPORT_RESULT)
    if result and result["run"] == str(run.folder):
        _show_import(result)


def _show_import(result: dict[str, Any]) -> None:
    if "problem" in result:
        problem("Nothing was imported", result["problem"])
        return
    said(import_sentence(result))
    rejected = result["refused"]
    if rejected:
        lines = "".join(
            f"<li>line {line['line']}: {safe(line['why'])}</li>" for line in rejected[:_REJECTED]
        )
        more = (
            f"<li>… and {len(rejected) - _REJECTED:,} more</li>"
            if len(rejected) > _REJECTED
            else ""
        )
        st.html(
            f'<p class="to-said">{counted(len(rejected), "line")} refused:</p><ul '
            f'class="to-words">{lines}{more}</ul>'
        )


def _sides_html(dispute: Dispute) -> str:
    sides = "".join(map(_side_html, dispute.sides))
    return (
        f'<dl class="to-sides">{sides}</dl><p class="to-quiet">In force now: '
        f"{safe(dispute.now)}.</p>"
    )


def _side_html(side: Side) -> str:
    people = "".join(f"<dd>{safe(person)}</dd>" for person in side.people)
    notes = "".join(f'<dd class="to-note" dir="auto">{safe(note)}</dd>' for note in side.notes)
    return f"<div><dt>{side.letter} {chip_html(side.words, 'flag')}</dt>{people}{notes}</div>"


def _undo(run: Run, step: int) -> None:
    with stored():
        flags_of(run).undo(step)


def _settle(run: Run, flag: Flag) -> None:
    with stored():
        flags_of(run).settle(flag.instance, flag.action, flag.new_label, flag.note)


def _import(run: Run) -> None:
    upload = st.session_state.get("import-file")
    result: dict[str, Any] = {"run": str(run.folder)}
    try:
        if upload is None:
            raise TurnoverError("there is no file yet; upload a flag file first")
        result |= merge_flag_file(
            run, flags_of(run), read_flag_file(upload.getvalue(), upload.name)
        )
    except TurnoverError as error:
        result["problem"] = str(error)
    st.session_state[_IMPORT_RESULT] = result
