"""The view model of edits: an input with a part removed or changed, and the effect.

The parts of an input are the words of a text, or its sentences where it has more than `MOST_WORDS`
words, or the patches of an image (`turnover.explain.parts`). The weight of a part is the rise in
the loss of the explained label, −log of its probability, when the part is removed. Influence grows
with the loss, so before and after an edit training items are compared by rank and share.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from turnover.dashboard.errors.answer_view import Answer, Question, Standing, in_base64
from turnover.data.images import png_bytes, png_pixels
from turnover.errors import TurnoverError
from turnover.explain.explanation import Card
from turnover.explain.parts import patch_name, without_patches
from turnover.explain.words import WORD, snippet

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
    """The effect of an edit: probabilities (largest changes first), and training items with their
    standing before (None if not shown then) and after, those that moved most first.
    """

    chances: tuple[Change, ...]
    items: tuple[tuple[Card, Standing | None, Standing], ...]


def unit_of(question: Question) -> str:
    """The kind of an input's parts: `word`, `sentence` or `patch`."""
    if question.image:
        return "patch"
    return "word" if len(WORD.findall(question.text)) <= MOST_WORDS else "sentence"


def parts_of(question: Question, label: str) -> tuple[InputPart, ...]:
    """The removable parts of an input: words or the first sentences of a text, patches of an image.
    Their questions are about `label`.

    A removed patch of a grey image becomes 0, one of a colour image the image's mean colour.

    Raises:
        TurnoverError: if the image cannot be read.
    """
    labelled = replace(question, label=label)
    return tuple(
        _patches(labelled) if question.image else _pieces(labelled, *_UNITS[unit_of(question)])
    )


def parts_request(parts: Sequence[InputPart]) -> dict[str, Any]:
    """The worker's request for the prediction without each part."""
    if parts[0].question.text:
        return {"texts": [part.question.text for part in parts]}
    return {"images": [in_base64(part.question.image) for part in parts]}


def weigh(answer: Answer, parts: Sequence[InputPart], reply: dict[str, Any]) -> tuple[Weight, ...]:
    """The weight of each part for the explained label, in order of the parts.

    Raises:
        TurnoverError: if the reply is malformed.
    """
    label = answer.explanation.target
    before = _loss(answer.probabilities.get(label, 0.0))
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
        why=False,
        also=tuple(card.position for card in cards),
    )


def compare(before: Answer, after: Answer) -> Moved:
    """Compare an answer with the answer to an edit whose question is `followed` or `edited`."""
    old = before.probabilities
    chances = [Change(name, old.get(name), chance) for name, chance in after.probabilities.items()]
    explained = after.explanation
    cards = {card.position: card for card in (*explained.proponents, *explained.opponents)}
    cards |= {card.position: card for card in after.also}
    items = [
        (card, before.standings.get(position), after.standings[position])
        for position, card in cards.items()
    ]
    return Moved(
        tuple(sorted(chances, key=lambda one: -abs((one.after or 0) - (one.before or 0)))),
        tuple(sorted(items, key=lambda item: (item[1] is None, -_moved(*item[1:])))),
    )


def _moved(before: Standing | None, after: Standing) -> float:
    """By how much the share of a training item changed."""
    shares = [one.share if one.towards else -one.share for one in (before, after) if one]
    return abs(shares[-1] - shares[0])


def standing_words(standing: Standing | None) -> str:
    """A standing for a person."""
    if standing is None:
        return "not among its strongest"
    side = "for" if standing.towards else "against"
    return f"no. {standing.rank:,} {side}, {standing.share:.1%}"


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


def _patches(question: Question) -> Iterator[InputPart]:
    for number, without in enumerate(without_patches(png_pixels(question.image))):
        yield InputPart(patch_name(number), replace(question, image=png_bytes(without)))
