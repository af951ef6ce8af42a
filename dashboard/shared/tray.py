"""The tray: what was decided on a run, on every page; undo, export, import and apply.

A line at the top says how many decisions there are; the popover beside it holds the rest, which is
drawn only while it is open. Errors keeps the line true between two runs of the page (list.js).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import streamlit as st

from turnover.dashboard.shared.flag_form import flag_problem, flags_of, stored
from turnover.dashboard.shared.notice import heading, problem, quiet, said
from turnover.dashboard.shared.tray_view import (
    Dispute,
    Entry,
    Side,
    apply_command,
    decisions_words,
    disputes,
    entries,
    import_sentence,
    matching,
    summary,
    undo_sentence,
)
from turnover.dashboard.state import Opened, chosen_run
from turnover.errors import TurnoverError, counted
from turnover.explain.html import chip_html, image_html, safe
from turnover.explain.report import report_page
from turnover.explain.words import snippet
from turnover.flags import Flag, Step
from turnover.flags.export import export_csv, export_judged_csv
from turnover.flags.flag_file import export_flag_file, merge_flag_file, read_flag_file
from turnover.flags.judgements import judge, judgements
from turnover.runs.run import Run

KEY = "tray"
_CHANGED, _IMPORTED = "tray-changed", "import-told"
_LISTED, _DISPUTES, _REJECTED = 8, 10, 50


@st.fragment
def show_tray() -> None:
    """The line and the popover of the chosen run; nothing if there is none that can be opened."""
    if st.session_state.pop(_CHANGED, False):
        st.rerun()  # what the page below shows of the flags is of before
    opened = chosen_run()
    if opened is None:
        return
    with st.container(
        horizontal=True, vertical_alignment="center", width="content", gap="small", key="tray-line"
    ):
        _line(opened.run)
        popover = st.popover("Review", key=KEY, on_change="rerun")
    if popover.open:
        with popover, st.container(key="tray-content"):
            _content(opened)


def _line(run: Run) -> None:
    """How many decisions there are."""
    try:
        flags = flags_of(run)
        words = decisions_words(len(flags.current()) + len(judgements(flags)))
    except TurnoverError:  # the popover says so
        words = "Decisions cannot be read"
    st.html(f'<span class="to-quiet" data-turnover="tray">{words}</span>', width="content")


def _content(opened: Opened) -> None:
    run = opened.run
    try:
        flags = flags_of(run)
        overview, judged = flags.overview(), judgements(flags)
        known = entries(run, overview.flags, judged)
    except TurnoverError as error:
        problem("The flags cannot be read", str(error))
        return
    if known:
        quiet(summary(overview.flags.values(), len(judged)))
    else:
        said("Nothing is decided yet.")
        quiet("Drop, relabel or keep training items on Errors or Training data.")
    _undo_bar(run, overview.last)
    _settling(run, disputes(run, overview.conflicts))
    if known:
        _list(run, known)
        _downloads(opened, bool(judged))
    _import_form(run)


# What was decided


def _list(run: Run, known: Sequence[Entry]) -> None:
    """The newest decisions, each with a button that takes it back."""
    if len(known) > _LISTED:
        search = st.text_input(
            "Find among the decisions", key="tray-search", type="search", live="300ms"
        )
        known = matching(known, search or "")
    for entry in known[:_LISTED]:
        with st.container(horizontal=True, vertical_alignment="center", wrap=False, gap="small"):
            st.html(_entry_html(entry))
            st.button(
                "Take back",
                key=f"tray-{entry.split}-{entry.position}",
                on_click=_change,
                args=(partial(_take_back, run, entry),),
                type="tertiary",
            )
    if len(known) > _LISTED:
        quiet(f"… and {len(known) - _LISTED:,} more; the table below has them all.")


def _entry_html(entry: Entry) -> str:
    content = image_html(entry.image, 32, "") if entry.image else ""
    text = f'<span class="to-words" dir="auto">{safe(snippet(entry.text, 60))}</span>'
    note = f'<p class="to-note" dir="auto">{safe(entry.note)}</p>' if entry.note else ""
    return (
        f'<div class="to-entry">{content}<div>{text if entry.text else ""}'
        f'<span class="to-id">{safe(entry.id)}</span> {chip_html(entry.verdict, "flag")}'
        f'<span class="to-quiet">{safe(entry.who)}</span>{note}</div></div>'
    )


def _undo_bar(run: Run, step: Step | None) -> None:
    """The undo button, with a sentence on what it would take back."""
    if step:
        with st.container(horizontal=True, vertical_alignment="center", wrap=False):
            undo = partial(flags_of(run).undo, step.number)
            st.button("Undo", key="undo", on_click=_change, args=(undo,))
            quiet(undo_sentence(run, step))
    flag_problem()


def _settling(run: Run, disputed: Sequence[Dispute]) -> None:
    """The items on which people differ, each with a button per distinct decision."""
    if not disputed:
        return
    count = len(disputed)
    heading(
        f"People differ on {counted(count, 'item')}",
        "Until somebody settles, what is in force stays in force.",
    )
    for dispute in disputed[:_DISPUTES]:
        with st.container(border=True):
            sides = "".join(map(_side_html, dispute.sides))
            st.html(
                f'{_entry_html(dispute.item)}<dl class="to-sides">{sides}</dl><p class="to-quiet">'
                f"In force now: {safe(dispute.now)}.</p>"
            )
            with st.container(horizontal=True):
                for side in dispute.sides:
                    st.button(
                        f"Settle for {side.letter}",
                        key=f"settle-{side.flag.instance}-{side.letter}",
                        on_click=_change,
                        args=(partial(_settle, run, side.flag),),
                    )
    if count > _DISPUTES:
        quiet(f"… and {count - _DISPUTES:,} more, which come when these are settled.")


def _side_html(side: Side) -> str:
    people = "".join(f"<dd>{safe(person)}</dd>" for person in side.people)
    notes = "".join(f'<dd class="to-note" dir="auto">{safe(note)}</dd>' for note in side.notes)
    return f"<div><dt>{side.letter} {chip_html(side.words, 'flag')}</dt>{people}{notes}</div>"


# Changes: the page below is drawn again, since it shows flags


def _change(change: Any) -> None:
    with stored():
        change()
    st.session_state[_CHANGED] = True


def _take_back(run: Run, entry: Entry) -> None:
    if entry.split == "train":
        flags_of(run).clear(entry.position)
    else:
        judge(flags_of(run), entry.position, "")


def _settle(run: Run, flag: Flag) -> None:
    flags_of(run).settle(flag.instance, flag.action, flag.new_label, flag.note)


# Export, apply, import


def _downloads(opened: Opened, judged: bool) -> None:
    """The files, each built on click, and the command that applies the flags to the data."""
    run = opened.run
    files = [
        ("Export flagged items (CSV)", export_csv, "-flags.csv", "text/csv", "export"),
        ("Flag file", export_flag_file, "-flags.jsonl", "application/jsonl", "export-flag-file"),
    ]
    if not opened.influence_problem:
        files.append(("Report (HTML)", report_page, ".html", "text/html", "export-html"))
    if judged:
        files.append(
            ("Judged errors (CSV)", export_judged_csv, "-errors.csv", "text/csv", "export-judged")
        )
    with st.container(horizontal=True):
        for label, build, ending, mime, key in files:
            st.download_button(
                label,
                partial(build, run),
                f"{run.name}{ending}",
                mime,
                key=key,
                on_click="ignore",
            )
    command, missing = apply_command(run)
    quiet("Write a cleansed copy of the data; the data themselves stay as they are:")
    st.code(command, language=None, wrap_lines=True)
    if missing:
        quiet(missing)


def _import_form(run: Run) -> None:
    """The upload of a colleague's flag file, and the result of the last import."""
    with st.form("import-form", border=False, clear_on_submit=True):
        label = "Import a colleague’s flag file (JSONL)"
        st.file_uploader(label, type=["jsonl"], key="import-file")
        st.form_submit_button("Import", on_click=_import, args=(run,))
    result = st.session_state.get(_IMPORTED)
    if result and result["run"] == str(run.folder):
        _show_import(result)


def _show_import(result: dict[str, Any]) -> None:
    if "problem" in result:
        problem("Nothing was imported", result["problem"])
        return
    said(import_sentence(result))
    if rejected := result["refused"]:
        lines = [f"line {line['line']}: {line['why']}" for line in rejected[:_REJECTED]]
        if len(rejected) > _REJECTED:
            lines.append(f"… and {len(rejected) - _REJECTED:,} more")
        quiet(f"{counted(len(rejected), 'line')} refused:", *lines)


def _import(run: Run) -> None:
    upload = st.session_state.get("import-file")
    result: dict[str, Any] = {"run": str(run.folder)}
    try:
        if upload is None:
            raise TurnoverError("there is no file yet; upload a flag file first")
        result |= merge_flag_file(
            run, flags_of(run), read_flag_file(upload.getvalue(), upload.name)
        )
        st.session_state[_CHANGED] = True
    except TurnoverError as error:
        result["problem"] = str(error)
    st.session_state[_IMPORTED] = result
