"""Proponents and opponents of one target, with everything that must be said beside them.

A number without its meaning misleads, so an explanation carries, besides the cards, a sentence on whose loss is meant and
what the sign says, how the estimate was made, and how large a random training item's influence is.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from core.ranking import finite
from core.report.errors import ErrorItem
from core.report.words import LIMIT, MarkedText, content_words, mark, recurring_words
from core.runs import Ranked, Run

PREDICTION, TRUTH = "prediction", "truth"
_SAMPLE = 50


@dataclass(frozen=True)
class Card:
    """One training item beside a target; `share` is its influence as a share of the largest shown."""

    position: int
    id: str
    label: str
    influence: float
    standard_error: float | None
    share: float
    planted: str
    text: MarkedText | None
    image: bytes


@dataclass(frozen=True)
class Explanation:
    """What is shown of a target's ranking; `target` is the class whose loss is meant."""

    target: str
    sentence: str
    units: str
    yardstick: str
    decimals: int
    proponents: tuple[Card, ...]
    opponents: tuple[Card, ...]


def explain_error(run: Run, item: ErrorItem, meaning: str, top: int, limit: int = LIMIT) -> Explanation:
    """The training items behind a misclassified validation item.

    Args:
        run: with influence.
        item: the error.
        meaning: `prediction` (loss of the predicted label) or `truth` (loss of the true label).
        top: how many of each side.
        limit: characters of a text that are kept.

    Raises:
        TurnoverError: if the run has no usable influence for this item.
    """
    ranked = run.influence.ranked(item.position, meaning)
    sides = [[_ranked_card(run, ranked, place, words_of(item.text), limit) for place in places] for places in ranked.ends(top)]
    proponents, opponents = with_shares(sides[0], sides[1])
    return Explanation(
        target=item.predicted if meaning == PREDICTION else item.label,
        sentence=meaning_sentence(item, meaning),
        units=units_sentence(run.influence.estimator, int(run.manifest["results"]["members"])),
        yardstick=yardstick_sentence(ranked, len(run.train)),
        decimals=decimals_for(proponents + opponents),
        proponents=proponents,
        opponents=opponents,
    )


def words_of(text: str) -> frozenset[str]:
    """The words of a target that are marked in its cards."""
    return content_words(text)


def marked_target(text: str, proponents: Collection[Card], limit: int = LIMIT) -> MarkedText:
    """A target's text, with the words marked that at least two of its proponents share."""
    others = [card.text.plain for card in proponents if card.text]
    return mark(text, recurring_words(text, others), limit=limit)


def meaning_sentence(item: ErrorItem, meaning: str) -> str:
    """Whose loss is meant, and what the sign says."""
    if meaning == PREDICTION:
        return (
            f"Influence on the prediction: the loss of the wrong label “{item.predicted}”. "
            "Positive: learning this training item pushed the model towards the mistake. Negative: away from it."
        )
    return (
        f"Influence on the truth: the loss of the true label “{item.label}”. "
        "Positive: learning this training item pushed the model towards the right answer. Negative: away from it."
    )


def units_sentence(estimator: str, members: int) -> str:
    """What the numbers are."""
    made = f"the mean over {members} members" if members > 1 else "of the one member"
    smoothed = ", smoothed over similar training items with the same label" if estimator == "smoothed" else ""
    error = "; ± is one standard error" if members > 1 else "; one member has no standard error"
    return f"In nats of loss: {made}{smoothed}{error}."


def yardstick_sentence(ranked: Ranked, train_size: int) -> str:
    """How large the influence of a training item taken at random is."""
    if len(ranked.values) < train_size:
        least = float(np.abs(ranked.values).min()) if len(ranked.values) else 0.0
        return f"This run keeps the two ends of each ranking only: any other training item is below ±{rounded(least)}."
    return f"A random training item: about ±{rounded(float(ranked.values.std()))} (standard deviation over all {train_size:,})."


def usual_yardstick(run: Run) -> str:
    """How large the influence of a random training item usually is on a validation item of this run; "" if it cannot be said."""
    part = run.influence
    if part.manifest["layout"] != "full" or not part.targets:
        return ""
    step = max(1, len(part.targets) // _SAMPLE)
    usual = float(np.median(part.array("truth_estimate")[::step].std(axis=1)))
    return f"A random training item on a validation item: about ±{rounded(usual)} (standard deviation, median of {len(part.targets[::step])} items)."


def rounded(value: float) -> str:
    """A number with two significant digits, never in powers of ten."""
    if not value:
        return "0"
    return f"{value:.{max(0, 1 - math.floor(math.log10(abs(value))))}f}"


def decimals_for(cards: Collection[Card]) -> int:
    """Decimals that give the largest influence at least two digits, and never fewer than three."""
    largest = max((abs(card.influence) for card in cards), default=0.0)
    return 3 if largest >= 0.01 or largest == 0 else min(8, 1 - math.floor(math.log10(largest)))


def with_shares(proponents: Collection[Card], opponents: Collection[Card]) -> tuple[tuple[Card, ...], tuple[Card, ...]]:
    """The cards with `share` filled in over both sides."""
    largest = max((abs(card.influence) for card in (*proponents, *opponents)), default=0.0) or 1.0
    return tuple(_shared(card, largest) for card in proponents), tuple(_shared(card, largest) for card in opponents)


def _shared(card: Card, largest: float) -> Card:
    return Card(**{**vars(card), "share": abs(card.influence) / largest})


def _ranked_card(run: Run, ranked: Ranked, place: int, words: frozenset[str], limit: int) -> Card:
    position = int(ranked.instances[place])
    item = run.item("train", position)
    return Card(
        position=position,
        id=str(item["id"]),
        label=run.classes[int(item["label"])],
        influence=float(ranked.values[place]),
        standard_error=finite(ranked.errors[place]),
        share=0.0,
        planted=str(item["planted"]),
        text=mark(str(item["text"]), words, limit=limit) if run.kind == "text" else None,
        image=bytes(item["image"]) if run.kind == "image" else b"",
    )
