"""A change of one's own input and what it moved: parts left out, and before and after side by
side.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from turnover.dashboard.views.answer import Answer, Question, image_of
from turnover.data.images import png_bytes, png_pixels
from turnover.errors import TurnoverError
from turnover.explain.explanation import Card
from turnover.explain.html import signed
from turnover.explain.words import snippet
from turnover.runs.run import Run

GRID = 4
"""An image is cut into so many rows and columns of patches."""

MOST_WORDS, MOST_SENTENCES = 60, 30
"""A text of more words is cut into sentences, of which so many can be left out: a longer wait would
be none for a page.
"""

_NAME = 40
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SENTENCE = re.compile(r"[^.!?\n]*\w[^.!?\n]*[.!?]*")
_LEAST = 1e-12


@dataclass(frozen=True)
class InputPart:
    """A word, a sentence or a patch: what it is called, and the question without it."""

    name: str
    question: Question


@dataclass(frozen=True)
class Weight:
    """What leaving one part out does: the label's probability then, and by how much its loss rises
    (nats).
    """

    name: str
    probability: float
    loss: float


@dataclass(frozen=True)
class Change:
    """A class's probability, or a training item's influence in nats, before and after; None where
    it is not known.
    """

    name: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Moved:
    """What an edit moved: probabilities (the largest changes first), the loss in words, and the
    influences of training items.
    """

    chances: tuple[Change, ...]
    loss: str
    items: tuple[tuple[Card | None, Card], ...]


def unit_of(question: Question) -> str:
    """What the parts of an input are: `word`, `sentence` or `patch`."""
    if question.image:
        return "patch"
    return "word" if len(_WORD.findall(question.text)) <= MOST_WORDS else "sentence"


def parts_of(run: Run, question: Question, label: str) -> tuple[InputPart, ...]:
    """The parts of an input that can be left out: words or the first sentences of a text, patches
    of an image; questions ask for `label`.

    A patch of a drawing becomes empty paper, one of a photograph the photograph's mean colour.

    Raises:
        TurnoverError: if the image cannot be read.
    """
    asked = replace(question, label=label)
    return tuple(
        _patches(run, asked) if question.image else _pieces(asked, *_UNITS[unit_of(question)])
    )


def parts_request(parts: Sequence[InputPart]) -> dict[str, Any]:
    """The worker's request for the predictions without each part."""
    if parts[0].question.text:
        return {"texts": [part.question.text for part in parts]}
    return {"images": [base64.b64encode(part.question.image).decode("ascii") for part in parts]}


def weigh(answer: Answer, parts: Sequence[InputPart], reply: dict[str, Any]) -> tuple[Weight, ...]:
    """What each part does for the explained label, in order of the parts.

    Raises:
        TurnoverError: if the reply is not what a worker says.
    """
    label, before = answer.explanation.target, loss_of(answer, answer.explanation.target)
    try:
        chances = [float(chances[label]) for chances in reply["probabilities"]]
        return tuple(
            Weight(part.name, chance, _loss(chance) - before)
            for part, chance in zip(parts, chances, strict=True)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TurnoverError(
            f"the engine's answer cannot be read ({type(error).__name__}: {error}); ask again"
        ) from None


def edited(question: Question, answer: Answer, text: str) -> Question:
    """The question for another text: the same label, and the influence of the training items that
    were shown.
    """
    return followed(replace(question, text=text), answer)


def followed(question: Question, answer: Answer) -> Question:
    """A question that can be compared with an answer."""
    cards = answer.explanation.proponents + answer.explanation.opponents
    return replace(
        question,
        label=answer.explanation.target,
        item="",
        also=tuple(card.position for card in cards),
    )


def compare(before: Answer, after: Answer) -> Moved:
    """An answer beside that to an edit which `followed` it."""
    label, old = (
        before.explanation.target,
        {chance.label: chance.value for chance in before.probabilities},
    )
    chances = [
        Change(chance.label, old.get(chance.label), chance.value) for chance in after.probabilities
    ]
    losses = loss_of(before, label), loss_of(after, label)
    shown = {
        card.position: card for card in before.explanation.proponents + before.explanation.opponents
    }
    items: list[tuple[Card | None, Card]] = [
        (shown[card.position], card) for card in after.also if card.position in shown
    ]
    new = [
        (None, card)
        for card in after.explanation.proponents + after.explanation.opponents
        if card.position not in shown
    ]
    return Moved(
        chances=tuple(sorted(chances, key=lambda one: -abs((one.after or 0) - (one.before or 0)))),
        loss=(
            f"Loss of “{label}”: {losses[0]:.3f} before, {losses[1]:.3f} after "
            f"({signed(losses[1] - losses[0], 3)} nats)."
        ),
        items=(
            *sorted(
                items,
                key=lambda pair: -abs(pair[1].influence - (pair[0].influence if pair[0] else 0)),
            ),
            *new,
        ),
    )


def loss_of(answer: Answer, label: str) -> float:
    """The loss of a label in nats: minus the logarithm of its probability."""
    return _loss(
        next((chance.value for chance in answer.probabilities if chance.label == label), 0.0)
    )


def _loss(chance: float) -> float:
    return -math.log(max(chance, _LEAST))


_UNITS = {"word": (_WORD, MOST_WORDS), "sentence": (_SENTENCE, MOST_SENTENCES)}


def _pieces(question: Question, piece: re.Pattern[str], most: int) -> Iterator[InputPart]:
    text = question.text
    for number, match in zip(range(1, most + 1), piece.finditer(text), strict=False):
        left, right = text[: match.start()], text[match.end() :]
        rest = left + (right.lstrip(" ") if left.endswith(" ") or not left else right)
        if rest.strip():
            yield InputPart(
                f"{number}. {snippet(match.group(), _NAME)}", replace(question, text=rest)
            )


def _patches(run: Run, question: Question) -> Iterator[InputPart]:
    pixels = png_pixels(image_of(run, question))
    blank = pixels.mean((0, 1)).round().astype(np.uint8) if pixels.ndim == 3 else np.uint8(0)
    down, right = (
        [length * step // GRID for step in range(GRID + 1)] for length in pixels.shape[:2]
    )
    for row in range(GRID):
        for column in range(GRID):
            without = pixels.copy()
            without[down[row] : down[row + 1], right[column] : right[column + 1]] = blank
            yield InputPart(
                f"row {row + 1}, column {column + 1}",
                replace(question, image=png_bytes(without), name="edited", fitted=True),
            )
