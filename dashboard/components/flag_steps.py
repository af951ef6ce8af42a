"""What can be done about decisions as such: take the last one back, settle where people differ, import a colleague's."""

from __future__ import annotations

from typing import Any

import streamlit as st

from turnover.dashboard.components.flag_detail import item_html
from turnover.dashboard.components.flag_form import flag_problem, stored
from turnover.dashboard.components.notice import heading, problem, quiet, said
from turnover.dashboard.components.people import flags_of
from turnover.dashboard.views.flags import Dispute, Side, import_sentence, undo_sentence
from turnover.errors import TurnoverError
from turnover.flags import Flag, Step
from turnover.patch.form import read_patch
from turnover.patch.merge import merge_patch
from turnover.report.fragments import chip_html, safe
from turnover.runs import Run
from turnover.wording import counted

_TOLD = "import-told"
_DISPUTES, _REFUSED = 10, 50


def undo_bar(run: Run, step: Step | None) -> None:
    """The undo button, and a sentence on what it takes back."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Undo", key="undo", on_click=_undo, args=(run, step.number if step else 0), disabled=step is None)
        quiet(undo_sentence(run, step))
    flag_problem()


def show_disputes(run: Run, disputes: list[Dispute]) -> None:
    """The items on which people differ, each with a button for every decision there is on it."""
    if not disputes:
        return
    count = len(disputes)
    heading(f"People differ on {counted(count, 'item')}", "Until somebody settles, what is in force stays in force.")
    for dispute in disputes[:_DISPUTES]:
        with st.container(border=True):
            st.html(f"{item_html(dispute.item)}{_sides_html(dispute)}")
            with st.container(horizontal=True):
                for side in dispute.sides:
                    key = f"settle-{side.flag.instance}-{side.letter}"
                    st.button(f"Settle for {side.letter}", key=key, on_click=_settle, args=(run, side.flag))
    if count > _DISPUTES:
        quiet(f"… and {count - _DISPUTES:,} more, which come when these are settled.")


def import_form(run: Run) -> None:
    """The upload of a colleague's patch, and what came of the last one."""
    heading("Import a colleague’s flags", "A patch (JSONL) from another copy of this run, or of a run on the same data. What you decided stays in force.")
    with st.form("import-form", border=False, clear_on_submit=True):
        st.file_uploader("Patch of flags (JSONL)", type=["jsonl"], key="import-file")
        st.form_submit_button("Import", on_click=_import, args=(run,))
    told = st.session_state.get(_TOLD)
    if told and told["run"] == str(run.folder):
        _show_told(told)


def _show_told(told: dict[str, Any]) -> None:
    if "problem" in told:
        problem("Nothing was imported", told["problem"])
        return
    said(import_sentence(told))
    refused = told["refused"]
    if refused:
        lines = "".join(f"<li>line {one['line']}: {safe(one['why'])}</li>" for one in refused[:_REFUSED])
        more = f"<li>… and {len(refused) - _REFUSED:,} more</li>" if len(refused) > _REFUSED else ""
        st.html(f'<p class="to-said">{counted(len(refused), "line")} refused:</p><ul class="to-words">{lines}{more}</ul>')


def _sides_html(dispute: Dispute) -> str:
    sides = "".join(map(_side_html, dispute.sides))
    return f'<dl class="to-sides">{sides}</dl><p class="to-quiet">In force now: {safe(dispute.now)}.</p>'


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
    told: dict[str, Any] = {"run": str(run.folder)}
    try:
        if upload is None:
            raise TurnoverError("there is no file yet; upload a patch first")
        told |= merge_patch(run, flags_of(run), read_patch(upload.getvalue(), upload.name))
    except TurnoverError as error:
        told["problem"] = str(error)
    st.session_state[_TOLD] = told
