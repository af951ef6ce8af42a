"""One's own texts and images, which are asked about like errors: what was given, and the answers.

They stand at the top of the list as a group of their own, with ids such as `own-1`. A `Collection`
is what one tab asked; the address names it, so that a reload or a link elsewhere shows the same.
It is kept in the memory of the dashboard, never in the run: who has the link sees it, nobody else
does, and it is gone when the dashboard is started again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from turnover.dashboard.errors.answer_view import Answer, Question, Reply, in_base64
from turnover.dashboard.errors.list_view import OWN_PREFIX
from turnover.data.images import fit_image, open_image, png_bytes
from turnover.data.tables.checks import MAX_CHARACTERS, check_text, utf8
from turnover.data.tables.columns import infer_text_column
from turnover.data.tables.formats import table_in
from turnover.errors import TurnoverError
from turnover.explain.explanation import ErrorItem
from turnover.explain.words import snippet
from turnover.runs.run import Run

OWN = "Yours"
"""The name of the group."""

MAX_ROWS = 200
"""Rows of a table that are asked about."""

_MOST, _FIRST = 1000, -1_000_000
_BYTES = 4 * MAX_CHARACTERS
_NAME = 60


@dataclass(frozen=True)
class Own:
    """One text or image: its number and name, and what is asked; or why it cannot be.

    Attributes:
        prediction: the predicted label and its probability; None until it is known.
        answer: who taught the model that; None until it was shown.
    """

    number: int
    name: str
    question: Question | None = None
    problem: str = ""
    prediction: tuple[str, float] | None = None
    answer: Answer | None = None

    @property
    def id(self) -> str:
        """Its id in the list and in the address."""
        return f"{OWN_PREFIX}{self.number}"

    @property
    def item(self) -> ErrorItem:
        """As an item of the list: its position is negative, and no label is known."""
        label, chance = self.prediction or ("", 0.0)
        asked = self.question or Question(text=self.name)
        content = {"text": asked.text, "image": asked.image}
        names = {"id": self.id, "label": "", "predicted": label, "injected": ""}
        place = {"position": -self.number, "rank": _FIRST + self.number}
        return ErrorItem(**names, **place, probability=chance, **content)  # type: ignore[arg-type]

    def with_reply(self, reply: Reply) -> Own:
        """With the answer, or why there is none."""
        if reply.answer is None:
            return replace(self, problem=reply.problem)
        predicted = reply.answer.predicted
        chance = reply.answer.probabilities[predicted]
        return replace(self, answer=reply.answer, prediction=(predicted, chance))


@dataclass
class Collection:
    """What one tab asked of a run, by id: the newest `_MOST`.

    Attributes:
        opened: the opening of the run that answers are of; a later one is asked anew.
        changes: counts what was added or answered.
    """

    opened: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(6))
    items: dict[str, Own] = field(default_factory=dict)
    asked: int = 0
    changes: int = 0

    def add(self, given: list[tuple[str, Question | str]]) -> str:
        """Add named questions, or why there is none, in place of earlier ones that could not be
        asked; returns the id of the first.
        """
        self.items = {id: own for id, own in self.items.items() if own.question}
        first = self.asked + 1
        for number, (name, asked) in enumerate(given, start=first):
            own = Own(number, name)
            if isinstance(asked, Question):
                own = replace(own, question=asked)
            else:
                own = replace(own, problem=asked)
            self.put(own)
        self.asked += len(given)
        for id in list(self.items)[:-_MOST]:
            del self.items[id]
        return f"{OWN_PREFIX}{first}"

    def put(self, own: Own) -> None:
        """Add or replace one."""
        self.items[own.id] = own
        self.changes += 1

    def answered_by(self, opened: int) -> Collection:
        """The collection without answers of another opening of the run."""
        if self.opened != opened:
            self.opened = opened
            for own in list(self.items.values()):
                blank = replace(own, prediction=None, answer=None)
                self.put(replace(blank, problem="") if own.question else blank)
        return self

    @property
    def unknown(self) -> list[Own]:
        """Those whose prediction is not known and can be asked for."""
        asked = (own for own in self.items.values() if own.question and not own.problem)
        return [own for own in asked if own.prediction is None]


def predictions_request(owns: list[Own]) -> dict[str, Any]:
    """The worker's request for the predictions of several."""
    questions = [own.question for own in owns if own.question]
    if questions[0].image:
        return {"images": [in_base64(question.image) for question in questions]}
    return {"texts": [question.text for question in questions]}


def predicted(owns: list[Own], reply: dict[str, Any]) -> list[Own]:
    """Several with the predictions in the worker's reply.

    Raises:
        TurnoverError: if the reply is malformed.
    """
    try:
        best = [
            max(chances.items(), key=lambda pair: pair[1]) for chances in reply["probabilities"]
        ]
        return [replace(own, prediction=pair) for own, pair in zip(owns, best, strict=True)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TurnoverError(f"the engine's answer cannot be read ({error}); ask again") from None


# What was given


def given_of(
    run: Run, text: str, file: tuple[bytes, str] | None
) -> list[tuple[str, Question | str]]:
    """Named questions on a pasted text or on an uploaded file (content, name), which has priority:
    one, or one for each row of a table; or why there is none.
    """
    name = snippet(file[1], _NAME) if file else "your text"
    try:
        if run.kind == "image":
            if file is None:
                raise TurnoverError("there is no image yet; choose a file first")
            return [(name, Question(image=image_as_seen(run, file[0], name), why=True))]
        if file and name.lower().endswith(".csv"):
            return list(_rows(file[0], name))
        return [(name, _asked(text_of_upload(*file) if file else text, name))]
    except TurnoverError as error:
        return [(name, str(error))]


def _asked(text: str, name: str) -> Question:
    return Question(text=check_text(text, name), why=True)


def text_of_upload(content: bytes, name: str) -> str:
    """The text in an uploaded .txt file.

    Raises:
        TurnoverError: if the file is too large or not UTF-8.
    """
    if len(content) > _BYTES:
        raise TurnoverError(
            f"{name}: {len(content):,} bytes is more than a text of {MAX_CHARACTERS:,} characters "
            "needs; shorten it"
        )
    return utf8(content, name).removeprefix("\ufeff")


def image_as_seen(run: Run, content: bytes, name: str) -> bytes:
    """An uploaded image as a PNG in the size and the channels (grey or RGB) of the training images;
    what is transparent is white.

    Raises:
        TurnoverError: if the file is not a complete image of acceptable size.
    """
    height, width, *channels = run.image_shape
    return png_bytes(fit_image(open_image(content, name, colour=bool(channels)), height, width))


def _rows(content: bytes, name: str) -> Iterator[tuple[str, Question | str]]:
    """A question for each row of a table, or why it is skipped."""
    if len(content) > MAX_ROWS * _BYTES:
        raise TurnoverError(
            f"{name}: {len(content):,} bytes is more than {MAX_ROWS} texts need; split the file"
        )
    table = table_in(content, Path(name))
    column = infer_text_column(table)
    for row, cell in enumerate(table.columns[column][:MAX_ROWS]):
        try:
            yield f"{name}, row {row + 1}", _asked(str(cell or ""), table.where(row, column))
        except TurnoverError as error:
            yield f"{name}, row {row + 1}: skipped", str(error)
    if len(table) > MAX_ROWS:
        left = f"rows {MAX_ROWS + 1:,} to {len(table):,}"
        yield f"{name}, {left}: skipped", f"{name}, {left}: {MAX_ROWS} are asked at once; split it"
