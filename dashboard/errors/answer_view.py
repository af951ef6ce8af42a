"""The view model of the Try page: questions to the worker, and its replies as answers with cards.

A question is a text, an uploaded image or a validation item, with the label whose loss the
influence is on. A CSV file is a batch: one question per row, and a table with each prediction and
its strongest proponent.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from turnover.data.images import fit_image, open_image, png_bytes
from turnover.data.tables.checks import (
    MAX_CHARACTERS,
    check_column,
    check_text,
    utf8,
)
from turnover.data.tables.formats import table_in
from turnover.data.tables.known import text_column
from turnover.errors import TurnoverError
from turnover.explain.explanation import (
    Card,
    Explanation,
    certainty_sentences,
    decimals_of,
    units_sentence,
    usual_yardstick,
    with_shares,
)
from turnover.explain.words import content_words, mark, run_pieces, snippet
from turnover.runs.run import Run

_UPLOAD_BYTES = 4 * MAX_CHARACTERS
_ID = 80

MAX_ROWS = 50
_BATCH_BYTES = MAX_ROWS * 4 * MAX_CHARACTERS
_CELL_LENGTH, _FILE_NAME_LENGTH = 120, 60


@dataclass(frozen=True)
class Question:
    """A user's input and what to explain.

    Attributes:
        label: the class whose loss the influence is on; None for the predicted class.
        top: proponents and opponents to show, each.
        fitted: the image is a PNG in the form of the training images.
        also: positions of training items whose influence is wanted wherever they rank.
        item: the id of the validation item that the input is, "" if it is none.
    """

    text: str = ""
    image: bytes = b""
    name: str = ""
    label: str | None = None
    top: int = 5
    fitted: bool = False
    also: tuple[int, ...] = ()
    item: str = ""

    @property
    def request(self) -> dict[str, Any]:
        """The worker's request."""
        content = (
            {"image": base64.b64encode(self.image).decode("ascii"), "name": self.name}
            if self.image
            else {"text": self.text}
        )
        form = {"fitted": True} if self.fitted else {}
        return {
            **content,
            **form,
            "label": self.label,
            "top": self.top,
            **({"also": list(self.also)} if self.also else {}),
        }


@dataclass(frozen=True)
class Probability:
    """A class and its probability."""

    label: str
    value: float


@dataclass(frozen=True)
class Answer:
    """A prediction, its probabilities (largest first) and its explanation; `also` holds the cards
    that the question asked for.
    """

    predicted: str
    probabilities: tuple[Probability, ...]
    explanation: Explanation
    seconds: float
    also: tuple[Card, ...] = ()


def build_answer(run: Run, question: Question, reply: dict[str, Any]) -> Answer:
    """The answer in the worker's reply to a question.

    Raises:
        TurnoverError: if the reply is malformed.
    """
    try:
        words = content_words(question.text, run_pieces(run))
        cards = [
            [_card(run, entry, words) for entry in reply[side]]
            for side in ("proponents", "opponents", *(["also"] if question.also else []))
        ]
        proponents, opponents = with_shares(cards[0], cards[1])
        chances = sorted(reply["probabilities"].items(), key=lambda pair: -pair[1])
        members, train_size = int(run.manifest["results"]["members"]), len(run.train)
        certainty, advice = certainty_sentences(reply["trust"], train_size, train_size, members)
        explanation = Explanation(
            target=str(reply["label"]),
            sentence=_sentence(str(reply["label"]), str(reply["meaning"])),
            units=units_sentence(str(reply["estimator"]), members),
            yardstick=usual_yardstick(run),
            certainty=certainty,
            advice=advice,
            decimals=decimals_of([card.influence for card in proponents + opponents]),
            proponents=proponents,
            opponents=opponents,
        )
        probabilities = tuple(Probability(str(name), float(value)) for name, value in chances)
        return Answer(
            str(reply["predicted"]),
            probabilities,
            explanation,
            float(reply["seconds"]),
            tuple(cards[2]) if question.also else (),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TurnoverError(
            f"the engine's answer cannot be read ({type(error).__name__}: {error}); ask again"
        ) from None


def text_question(
    text: str, file: tuple[bytes, str] | None, label: str | None, top: int
) -> Question:
    """A question on a pasted text, or on an uploaded .txt file (content, name), which has priority.

    Raises:
        TurnoverError: if there is no usable text.
    """
    chosen = text_of_upload(*file) if file else check_text(text, "your text")
    return Question(text=chosen, label=label, top=top)


def image_question(
    run: Run, file: tuple[bytes, str] | None, label: str | None, top: int
) -> Question:
    """A question on an uploaded image (content, name).

    Raises:
        TurnoverError: if there is no usable image.
    """
    if file is None:
        raise TurnoverError("there is no image yet; upload one first")
    image_as_seen(run, *file)
    return Question(image=file[0], name=file[1], label=label, top=top)


def item_question(run: Run, item: str) -> Question:
    """A question on the validation item with this id, about its predicted label.

    Raises:
        TurnoverError: if there is no such item.
    """
    matches = run.validation[run.validation["id"] == item]
    if matches.empty:
        raise TurnoverError(
            f"“{snippet(item, _ID)}” is not a validation item of this run; open the Errors page "
            "and choose one"
        )
    row = matches.iloc[0]
    if run.kind == "text":
        return Question(text=str(row["text"]), item=item)
    return Question(image=bytes(row["image"]), name=item, fitted=True, item=item)


def text_of_upload(content: bytes, name: str) -> str:
    """The text in an uploaded .txt file.

    Raises:
        TurnoverError: if the file is too large, not UTF-8, or blank.
    """
    if len(content) > _UPLOAD_BYTES:
        raise TurnoverError(
            f"{name}: {len(content):,} bytes is more than a text of {MAX_CHARACTERS:,} characters "
            "needs; shorten it"
        )
    return check_text(utf8(content, name).removeprefix("\ufeff"), name)


def image_of(run: Run, question: Question) -> bytes:
    """A question's image as the model sees it. Raises as `image_as_seen`."""
    return question.image if question.fitted else image_as_seen(run, question.image, question.name)


def image_as_seen(run: Run, content: bytes, name: str) -> bytes:
    """An uploaded image as a PNG in the size and the channels (grey or RGB) of the training images.

    Raises:
        TurnoverError: if the file is not a complete image of acceptable size.
    """
    height, width, *channels = run.image_shape
    return png_bytes(fit_image(open_image(content, name, colour=bool(channels)), height, width))


def _sentence(label: str, meaning: str) -> str:
    whose = (
        f"the predicted label “{label}”"
        if meaning == "prediction"
        else f"the label you gave, “{label}”"
    )
    return (
        f"Influence on the loss of {whose}. Positive: learning this training item pushed the model "
        "towards it. Negative: away from it."
    )


def _card(run: Run, entry: dict[str, Any], words: frozenset[str]) -> Card:
    position = int(entry["position"])
    error = entry["std_error"]
    return Card(
        position=position,
        id=str(entry["id"]),
        label=str(entry["label"]),
        influence=float(entry["influence"]),
        std_error=None if error is None else float(error),
        trust=str(entry["trust"] or ""),
        share=0.0,
        injected=str(run.item("train", position)["planted"]),
        text=mark(str(entry["text"]), words, pieces=run_pieces(run)) if "text" in entry else None,
        image=base64.b64decode(entry["image"]) if "image" in entry else b"",
    )


# Batches from a CSV file


@dataclass(frozen=True)
class Reply:
    """The result for one question: an answer, or why there is none."""

    question: Question
    answer: Answer | None = None
    problem: str = ""


def batch_questions(content: bytes, name: str, label: str | None, top: int) -> tuple[Question, ...]:
    """A question for each row of a CSV file with a column `text` (or `sentence`).

    Raises:
        TurnoverError: if the file is too large, is not such a table, or has more than `MAX_ROWS`
            rows or an unusable text.
    """
    path = Path(snippet(name, _FILE_NAME_LENGTH))
    if len(content) > _BATCH_BYTES:
        raise TurnoverError(
            f"{path}: {len(content):,} bytes is more than {MAX_ROWS} texts need; split the file"
        )
    table = table_in(content, path)
    column = "sentence" if "sentence" in table.columns and "text" not in table.columns else "text"
    check_column(column, table.columns, path)
    if len(table) > MAX_ROWS:
        raise TurnoverError(f"{path}: {len(table):,} rows, the limit is {MAX_ROWS}; split the file")
    return tuple(Question(text=text, label=label, top=top) for text in text_column(table, column))


def batch_table(replies: Sequence[Reply]) -> pd.DataFrame:
    """A row for each text: the prediction, and the strongest proponent (influence in nats)."""
    firsts = [
        next(iter(reply.answer.explanation.proponents), None) if reply.answer else None
        for reply in replies
    ]
    return pd.DataFrame(
        {
            "text": [snippet(reply.question.text, _CELL_LENGTH) for reply in replies],
            "predicted": [reply.answer.predicted if reply.answer else "" for reply in replies],
            "probability": [
                100 * reply.answer.probabilities[0].value if reply.answer else None
                for reply in replies
            ],
            "proponent": [
                snippet(card.text.plain, _CELL_LENGTH) if card and card.text else reply.problem
                for card, reply in zip(firsts, replies, strict=True)
            ],
            "label": [card.label if card else "" for card in firsts],
            "influence": [card.influence if card else None for card in firsts],
            "trust": [card.trust if card else "" for card in firsts],
        }
    )
