"""Questions to the worker, and what a page shows until it is ready.

While the model loads, a fragment polls the worker every second, and the page stays usable.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from turnover.dashboard.engine import Phase, Worker
from turnover.dashboard.errors.answer_view import Question, Reply, build_answer
from turnover.dashboard.shared.notice import notice, problem
from turnover.errors import TurnoverError
from turnover.runs.run import Run

_LOOK_AGAIN = 1.0


def when_ready(worker: Worker, meanwhile: str, draw: Callable[[], None]) -> None:
    """Show the engine warming up, with the hint `meanwhile`, its failure, or what `draw` draws."""
    waiting = worker.phase is Phase.WARMING
    st.fragment(_look, run_every=_LOOK_AGAIN if waiting else None)(worker, waiting, meanwhile, draw)


def _look(worker: Worker, waited: bool, meanwhile: str, draw: Callable[[], None]) -> None:
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


def ask(run: Run, worker: Worker, question: Question) -> Reply:
    """The worker's reply to one question."""
    try:
        return Reply(question, build_answer(run, worker.ask(question.request)))
    except TurnoverError as error:
        return Reply(question, problem=str(error))
