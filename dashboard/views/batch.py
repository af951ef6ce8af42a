"""Many texts at once, from a CSV file: their predictions, each with its strongest proponent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from turnover.dashboard.views.answer import Answer, Question
from turnover.data.tables import MAX_CHARACTERS, require_column, table_of, text_column
from turnover.errors import TurnoverError
from turnover.report.words import snippet

MAX_ROWS = 50
_BYTES = MAX_ROWS * 4 * MAX_CHARACTERS
_TEXT, _NAME = 120, 60


@dataclass(frozen=True)
class Reply:
    """What came back for one text: an answer, or why there is none."""

    question: Question
    answer: Answer | None = None
    problem: str = ""


def batch_questions(content: bytes, name: str, label: str | None, top: int) -> tuple[Question, ...]:
    """A question for each row of a CSV file with a column `text` (or `sentence`).

    Raises:
        TurnoverError: for a file that is too large or no such table, more than `MAX_ROWS` rows, and a text that cannot be used.
    """
    path = Path(snippet(name, _NAME))
    if len(content) > _BYTES:
        raise TurnoverError(f"{path}: {len(content):,} bytes is more than {MAX_ROWS} texts need; split the file")
    table = table_of(content, path, ())
    column = "sentence" if "sentence" in table.columns and "text" not in table.columns else "text"
    require_column(table, path, column)
    if len(table) > MAX_ROWS:
        raise TurnoverError(f"{path}: {len(table):,} rows, the limit is {MAX_ROWS}; split the file")
    return tuple(Question(text=text, label=label, top=top) for text in text_column(table, path, column))


def batch_table(replies: Sequence[Reply]) -> pd.DataFrame:
    """A row for each text: what was predicted, and its strongest proponent with its influence in nats."""
    firsts = [next(iter(reply.answer.explanation.proponents), None) if reply.answer else None for reply in replies]
    return pd.DataFrame(
        {
            "text": [snippet(reply.question.text, _TEXT) for reply in replies],
            "predicted": [reply.answer.predicted if reply.answer else "" for reply in replies],
            "probability": [100 * reply.answer.probabilities[0].value if reply.answer else None for reply in replies],
            "proponent": [snippet(card.text.plain, _TEXT) if card and card.text else reply.problem for card, reply in zip(firsts, replies, strict=True)],
            "label": [card.label if card else "" for card in firsts],
            "influence": [card.influence if card else None for card in firsts],
            "trust": [card.trust if card else "" for card in firsts],
        }
    )
