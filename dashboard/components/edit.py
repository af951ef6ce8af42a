"""A change of one's own text or image, and what it moved: an edit, one part left out, or each part left out in turn."""

from __future__ import annotations

from dataclasses import dataclass, replace

import streamlit as st

from turnover.dashboard.components.asking import ask
from turnover.dashboard.components.moved import show_items, show_moved, show_weights
from turnover.dashboard.components.notice import heading, problem
from turnover.dashboard.engine import Worker
from turnover.dashboard.views.answer import Answer, Question, image_of
from turnover.dashboard.views.batch import Reply
from turnover.dashboard.views.edits import Part, Weight, compare, edited, followed, parts_of, parts_request, unit_of, weigh
from turnover.errors import TurnoverError
from turnover.runs import Run

_STATE = "try-edit"


@dataclass(frozen=True)
class _Edit:
    """What was asked of one answer (named by `key`) and what came back; `weights` are None until they are wanted."""

    key: str
    question: Question | None = None
    reply: Reply | None = None
    weights: tuple[Weight, ...] | None = None
    weighing: bool = False


def show_edit(run: Run, worker: Worker, question: Question, answer: Answer, key: str) -> None:
    """The form, and beside it what moved."""
    target = answer.explanation.target
    heading("Change it and see what moved", f"All numbers stay about the label “{target}”, so that they can be compared.")
    parts = parts_of(run, question, target)
    left, right = st.columns([6, 5], gap="medium")
    with left:
        _form(question, answer, parts, key)
    edit = _current(key)
    if edit.question and edit.reply is None:
        edit = _keep(replace(edit, reply=ask(run, worker, edit.question)))
    if edit.weighing:
        edit = _weighed(worker, answer, parts, edit)
    if edit.weights:
        with left:
            show_weights(b"" if question.text else image_of(run, question), edit.weights, target)
    if edit.reply and edit.reply.answer:
        moved = compare(answer, edit.reply.answer)
        with right:
            show_moved(edit.reply, moved)
        show_items(moved, edit.reply.answer.explanation.decimals)
    elif edit.reply:
        with right:
            problem("No answer", edit.reply.problem)


def _form(question: Question, answer: Answer, parts: tuple[Part, ...], key: str) -> None:
    """What can be asked."""
    if question.text:
        with st.form(f"try-edit-form-{key}", border=False):
            st.text_area("Edited", value=question.text, key=f"try-edited-{key}", height=110)
            st.form_submit_button("Ask again", on_click=_ask_edit, args=(question, answer, key))
    if not parts:
        return
    what = unit_of(question)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = [part.name for part in parts]
        chosen = f"try-part-{key}"
        st.selectbox(f"Leave out a {what}", names, index=None, key=chosen, on_change=_leave_out, args=(answer, parts, key), width=240)
        st.button(f"Leave out each {what} in turn", key=f"try-weigh-{key}", on_click=_weigh, args=(key,))


def _current(key: str) -> _Edit:
    edit = st.session_state.get(_STATE)
    return edit if edit and edit.key == key else _Edit(key)


def _keep(edit: _Edit) -> _Edit:
    st.session_state[_STATE] = edit
    return edit


def _ask_edit(question: Question, answer: Answer, key: str) -> None:
    _keep(replace(_current(key), question=edited(question, answer, st.session_state[f"try-edited-{key}"] or ""), reply=None))


def _leave_out(answer: Answer, parts: tuple[Part, ...], key: str) -> None:
    part = next((part for part in parts if part.name == st.session_state[f"try-part-{key}"]), None)
    _keep(replace(_current(key), question=followed(part.question, answer) if part else None, reply=None))


def _weigh(key: str) -> None:
    _keep(replace(_current(key), weighing=True))


def _weighed(worker: Worker, answer: Answer, parts: tuple[Part, ...], edit: _Edit) -> _Edit:
    edit = replace(edit, weighing=False)
    try:
        with st.spinner("Asking without each part"):
            return _keep(replace(edit, weights=weigh(answer, parts, worker.ask(parts_request(parts)))))
    except TurnoverError as error:
        problem("No answer", str(error))
        return _keep(edit)
