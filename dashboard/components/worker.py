"""What a page draws once the engine can answer; while the model loads, the page looks again every
second and stays usable.

Questions to the worker and what comes back, an answer or a line that says why there is none.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from turnover.dashboard.components.notice import notice, problem
from turnover.dashboard.engine import Phase, Worker
from turnover.dashboard.views.answer import Question, Reply, build_answer
from turnover.errors import TurnoverError
from turnover.runs.run import Run

_LOOK_AGAIN = 1.0


def when_ready(worker: Worker, meanwhile: str, draw: Callable[[], None]) -> None:
    """What there is to show: the engine warming up, with what the user shall know `meanwhile`, its
    failure, or what `draw` draws.
    """
    waiting = worker.phase is Phase.WARMING
    st.fragment(_look, run_every=_LOOK_AGAIN if waiting else None)(worker, waiting, meanwhile, draw)


def _look(worker: Worker, waited: bool, meanwhile: str, draw: Callable[[], None]) -> None:
    if worker.closed:
        _take_another(waited)
        return
    if worker.phase is Phase.FAILED:
        problem("The engine did not start", worker.problem)
        st.button("Start it again", on_click=worker.start, kwargs={"again": True})
        return
    if worker.phase is Phase.WARMING:
        notice("The model is warming up", f"This takes some seconds, once. {meanwhile}")
        return
    if waited:
        st.rerun()
    draw()


def _take_another(waited: bool) -> None:
    """The engine was put away. Who clicked gets the run's new one; who only waits is asked, or tabs
    on many runs would take it from each other in turn.
    """
    if waited:
        notice(
            "The engine was put away", "The run was changed, or two others were asked meanwhile."
        )
    if not waited or st.button("Start it again"):
        st.rerun()


def ask(run: Run, worker: Worker, question: Question) -> Reply:
    """The worker's reply to one question."""
    try:
        return Reply(question, build_answer(run, question, worker.ask(question.request)))
    except TurnoverError as error:
        return Reply(question, problem=str(error))
