"""Asks the worker as soon as it is ready, and shows its reply."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import streamlit as st

from turnover.dashboard.components.answer import show_behind, show_prediction
from turnover.dashboard.components.asking import ask
from turnover.dashboard.components.batch import ROW, choose_row
from turnover.dashboard.components.edit import show_edit
from turnover.dashboard.components.notice import problem, quiet
from turnover.dashboard.components.when_ready import when_ready
from turnover.dashboard.engine import Worker
from turnover.dashboard.views.answer import Question
from turnover.dashboard.views.batch import Reply
from turnover.runs import Run

_STATE = "try-state"


@dataclass(frozen=True)
class _Asked:
    """The last questions, by number, and what came back to each of them."""

    run: str
    number: int
    questions: tuple[Question, ...]
    replies: tuple[Reply, ...] = ()


def ask_later(run: Run, questions: tuple[Question, ...]) -> None:
    """Note questions; they are asked as soon as the worker is ready."""
    before = st.session_state.get(_STATE)
    st.session_state[_STATE] = _Asked(str(run.folder), before.number + 1 if before else 0, questions)
    st.session_state[ROW] = 1


def show_reply(run: Run, worker: Worker) -> None:
    """What there is to show: the engine warming up, a failure, or the answer."""
    asked = _asked(run)
    meanwhile = "Your question is asked as soon as it is ready." if asked and not asked.replies else "You can already write."
    when_ready(worker, meanwhile, partial(_reply, run, worker))


def _asked(run: Run) -> _Asked | None:
    """What was asked of this run."""
    asked = st.session_state.get(_STATE)
    return asked if asked and asked.run == str(run.folder) else None


def _reply(run: Run, worker: Worker) -> None:
    asked = _asked(run)
    if asked is None:
        quiet("The model is ready.")
        return
    if not asked.replies:
        asked = _ask_all(run, worker, asked)
    row = choose_row(asked.replies) if len(asked.replies) > 1 else 0
    reply = asked.replies[row]
    if reply.answer is None:
        problem("No answer", reply.problem)
        return
    show_prediction(run, reply.question, reply.answer)
    show_edit(run, worker, reply.question, reply.answer, f"{asked.number}-{row}")
    show_behind(run, reply.answer)


def _ask_all(run: Run, worker: Worker, asked: _Asked) -> _Asked:
    """Ask one question after the other; an answer that is there stays there."""
    total = len(asked.questions)
    with st.spinner("Looking for the training examples behind it" if total == 1 else f"Looking for the training examples behind {total} texts"):
        asked = replace(asked, replies=tuple(ask(run, worker, question) for question in asked.questions))
    st.session_state[_STATE] = asked
    return asked
