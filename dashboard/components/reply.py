"""Asks the worker and shows its reply; while the model loads, it looks again every second and the page stays usable."""

from __future__ import annotations

from dataclasses import dataclass, replace

import streamlit as st

from core.errors import TurnoverError
from core.runs import Run
from dashboard.components.answer import show_answer
from dashboard.components.notice import notice, problem, quiet
from dashboard.engine import Phase, Worker
from dashboard.views.answer import Answer, Question, build_answer

_STATE = "try-state"
_LOOK_AGAIN = 1.0


@dataclass(frozen=True)
class _Asked:
    """The last question, and what came back: an answer or a problem."""

    run: str
    question: Question
    answer: Answer | None = None
    problem: str = ""


def ask_later(run: Run, question: Question) -> None:
    """Note a question; it is asked as soon as the worker is ready."""
    st.session_state[_STATE] = _Asked(str(run.folder), question)


def show_reply(run: Run, worker: Worker) -> None:
    """What there is to show: the engine warming up, a failure, or the answer."""
    waiting = worker.phase is Phase.WARMING
    st.fragment(_reply, run_every=_LOOK_AGAIN if waiting else None)(run, worker, waiting)


def _reply(run: Run, worker: Worker, waited: bool) -> None:
    asked = st.session_state.get(_STATE)
    asked = asked if asked and asked.run == str(run.folder) else None
    if worker.phase is Phase.FAILED:
        problem("The engine did not start", worker.problem)
        st.button("Start it again", on_click=worker.start, kwargs={"again": True})
        return
    if worker.phase is Phase.WARMING:
        more = " Your question is asked as soon as it is ready." if asked and not asked.answer else " You can already write."
        notice("The model is warming up", f"This takes some seconds, once.{more}")
        return
    if waited:
        st.rerun()
    if asked and not asked.answer and not asked.problem:
        asked = _ask(run, worker, asked)
    if asked is None:
        quiet("The model is ready.")
    elif asked.answer:
        show_answer(run, asked.question, asked.answer)
    else:
        problem("No answer", asked.problem)


def _ask(run: Run, worker: Worker, asked: _Asked) -> _Asked:
    with st.spinner("Looking for the training examples behind it"):
        try:
            asked = replace(asked, answer=build_answer(run, asked.question, worker.ask(asked.question.request)))
        except TurnoverError as error:
            asked = replace(asked, problem=str(error))
    st.session_state[_STATE] = asked
    return asked
