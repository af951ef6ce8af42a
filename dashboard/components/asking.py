"""Questions to the worker and what comes back, an answer or a line that says why there is none."""

from __future__ import annotations

from core.errors import TurnoverError
from core.runs import Run
from dashboard.engine import Worker
from dashboard.views.answer import Question, build_answer
from dashboard.views.batch import Reply


def ask(run: Run, worker: Worker, question: Question) -> Reply:
    """The worker's reply to one question."""
    try:
        return Reply(question, build_answer(run, question, worker.ask(question.request)))
    except TurnoverError as error:
        return Reply(question, problem=str(error))
