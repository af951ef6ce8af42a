"""The view model of edits on the Try page: an input with a part removed or changed, and the effect.

The parts of an input are the words of a text, or its sentences where it has more than `MOST_WORDS`
words, or the patches of an image (`turnover.explain.parts`). The weight of a part is the rise in
the loss of the explained label, in nats, when the part is removed. The loss of a label is −log of
its probability.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from turnover.dashboard.errors.answer_view import Answer, Question, image_of
from turnover.data.images import png_bytes, png_pixels
from turnover.errors import TurnoverError
from turnover.explain.explanation import Card
from turnover.explain.html import signed
from turnover.explain.parts import patch_name, without_patches
from turnover.explain.words import WORD, snippet
from turnover.runs.run import Run

MOST_WORDS, MOST_SENTENCES = 60, 30
"""A text of more words is cut into sentences, of which the first so many can be removed: more would
take too long on a page.
"""

_NAME = 40
_SENTENCE = re.compile(r"[^.!?\n]*\w[^.!?\n]*[.!?]*")
_LEAST = 1e-12


@dataclass(frozen=True)
class InputPart:
    """A word, sentence or patch: its name, and the question without it."""

    name: str
    question: Question


@dataclass(frozen=True)
class Weight:
    """The effect of removing one part: the label's probability, and the rise in its loss (nats)."""

    name: str
    probability: float
    loss: float


@dataclass(frozen=True)
class Change:
    """A class's probability before and after an edit; None where unknown."""

    name: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Moved:
    """The effect of an edit: probabilities (largest changes first), the loss in words, and the
    cards of training items before (None if not shown then) and after.
    """

    chances: tuple[Change, ...]
    loss: str
    items: tuple[tuple[Card | None, Card], ...]


def unit_of(question: Question) -> str:
    """The kind of an input's parts: `word`, `sentence` or `patch`."""
    if question.image:
        return "patch"
    return "word" if len(WORD.findall(question.text)) <= MOST_WORDS else "sentence"


def parts_of(run: Run, question: Question, label: str) -> tuple[InputPart, ...]:
    """The removable parts of an input: words or the first sentences of a text, patches of an image.
    Their questions are about `label`.

    A removed patch of a grey image becomes 0, one of a colour image the image's mean colour.

    Raises:
        TurnoverError: if the image cannot be read.
    """
    labelled = replace(question, label=label)
    return tuple(
        _patches(run, labelled) if question.image else _pieces(labelled, *_UNITS[unit_of(question)])
    )


def parts_request(parts: Sequence[InputPart]) -> dict[str, Any]:
    """The worker's request for the prediction without each part."""
    if parts[0].question.text:
        return {"texts": [part.question.text for part in parts]}
    return {"images": [base64.b64encode(part.question.image).decode("ascii") for part in parts]}


def weigh(answer: Answer, parts: Sequence[InputPart], reply: dict[str, Any]) -> tuple[Weight, ...]:
    """The weight of each part for the explained label, in order of the parts.

    Raises:
        TurnoverError: if the reply is malformed.
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
    """The question for an edited text, about the same label and with the same training items."""
    return followed(replace(question, text=text), answer)


def followed(question: Question, answer: Answer) -> Question:
    """The question comparable with an answer: same label, and the influence of its shown items."""
    cards = answer.explanation.proponents + answer.explanation.opponents
    return replace(
        question,
        label=answer.explanation.target,
        item="",
        also=tuple(card.position for card in cards),
    )


def compare(before: Answer, after: Answer) -> Moved:
    """Compare an answer with the answer to an edit whose question is `followed` or `edited`."""
    label = before.explanation.target
    old = {chance.label: chance.value for chance in before.probabilities}
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
        chances=tuple(
            sorted(chances, key=lambda change: -abs((change.after or 0) - (change.before or 0)))
        ),
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
    """The loss of a label in nats: −log of its probability."""
    return _loss(
        next((chance.value for chance in answer.probabilities if chance.label == label), 0.0)
    )


def _loss(chance: float) -> float:
    return -math.log(max(chance, _LEAST))


_UNITS = {"word": (WORD, MOST_WORDS), "sentence": (_SENTENCE, MOST_SENTENCES)}


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
    for number, without in enumerate(without_patches(png_pixels(image_of(run, question)))):
        yield InputPart(
            patch_name(number),
            replace(question, image=png_bytes(without), name="edited", fitted=True),
        )
