"""Questions to the worker and what comes back, an answer or a line that says why there is none."""

from __future__ import annotations

from turnover.dashboard.engine import Worker
from turnover.dashboard.views.answer import Question, build_answer
from turnover.dashboard.views.batch import Reply
from turnover.errors import TurnoverError
from turnover.runs import Run


def ask(run: Run, worker: Worker, question: Question) -> Reply:
    """The worker's reply to one question."""
    try:
        return Reply(question, build_answer(run, question, worker.ask(question.request)))
    except TurnoverError as error:
        return Reply(question, problem=str(error))
