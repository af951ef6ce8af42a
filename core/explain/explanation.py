"""The misclassified validation items of a run, and the proponents and opponents of each.

A number without its meaning misleads. So besides the training items an explanation states whose
loss is meant and what the sign means, how the estimate was made, how many items can be trusted, and
how large a random item's influence is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from turnover.attribution.estimators import SCORES
from turnover.attribution.estimators.significance import NOISE, STRONG
from turnover.errors import counted
from turnover.explain.doubt import Doubt
from turnover.explain.words import (
    LIMIT,
    MarkedText,
    content_words,
    mark,
    recurring_words,
    run_pieces,
)
from turnover.models.encoders import Pieces
from turnover.runs.ranking import (
    clearest_first,
    finite,
    foreseen,
    ranking_trust,
    strengths,
    trust_counts,
)
from turnover.runs.run import PREDICTION, Ranked, Run

# Misclassified items


@dataclass(frozen=True)
class ErrorItem:
    """A misclassified validation item.

    `probability` is that of the (wrong) prediction; `rank` orders by clearest explanation, 0 first;
    `twin` says whether ordinary training, without masks, makes the same mistake, None if unknown.
    """

    position: int
    id: str
    label: str
    predicted: str
    probability: float
    injected: str
    rank: int
    text: str
    image: bytes
    twin: bool | None = None


def error_items(run: Run, with_influence: bool) -> tuple[ErrorItem, ...]:
    """All errors of a run: those with influences first, clearest explanation first, then the others
    by position; all by position if the run's influence cannot be used.
    """
    classes = run.classes
    positions = clearest_first(run) if with_influence else []
    explained = set(positions)
    positions += [position for position in run.misclassified_positions if position not in explained]
    items = []
    for rank, position in enumerate(positions):
        row = run.item("validation", position)
        predicted, twin = int(row["predicted"]), int(row.get("plain_predicted", -1))
        items.append(
            ErrorItem(
                position=position,
                id=str(row["id"]),
                label=classes[int(row["label"])],
                predicted=classes[predicted],
                probability=float(row[f"probability_{predicted}"]),
                injected=str(row["planted"]),
                rank=rank,
                text=str(row["text"]) if run.kind == "text" else "",
                image=bytes(row["image"]) if run.kind == "image" else b"",
                twin=None if twin < 0 else twin == predicted,
            )
        )
    return tuple(items)


# Explanations

UNCERTAIN = "Uncertain: the sign of the number cannot be told from the noise of the masks."
"""What the mark on some numbers means."""
_SAMPLE = 50


@dataclass(frozen=True)
class Card:
    """One training item beside a target; `share` is its influence relative to the largest shown,
    `trust` its trust word or "".

    `times` is how many times a usual item of its label it is (`turnover.runs.ranking.strengths`),
    None if that is unknown; `doubt` the label proposed for it where its own is in doubt; `common`
    the part of the influence that items like it have as well, None if unknown, and `mates` how many
    share its mask, mean over members.
    """

    position: int
    id: str
    label: str
    influence: float
    std_error: float | None
    trust: str
    share: float
    injected: str
    text: MarkedText | None
    image: bytes
    times: float | None = None
    doubt: Doubt | None = None
    common: float | None = None
    mates: float = 0.0

    @property
    def uncertain(self) -> bool:
        """Whether the sign of the influence cannot be told from noise."""
        return self.trust == NOISE

    @property
    def strength(self) -> str:
        """How large the influence is, for a person; "" if that is unknown."""
        return "" if self.times is None else strength_words(self.times, self.label)


def strength_words(times: float, label: str) -> str:
    """How many times a usual item of its label a training item is."""
    return f"{times:.{0 if times >= 2 else 1}f} × a usual “{label}” item"


@dataclass(frozen=True)
class Explanation:
    """What is shown of a target's ranking; `target` is the class whose loss is meant, `advice` a
    remedy where `certainty` is low.

    """

    target: str
    sentence: str
    units: str
    yardstick: str
    certainty: str
    advice: str
    decimals: int
    proponents: tuple[Card, ...]
    opponents: tuple[Card, ...]

    @property
    def scale(self) -> float:
        """The largest influence on either side with its standard error; 1 without any."""
        cards = (*self.proponents, *self.opponents)
        return max((abs(card.influence) + (card.std_error or 0) for card in cards), default=0) or 1


def explain_error(
    run: Run,
    item: ErrorItem,
    meaning: str,
    top: int,
    limit: int = LIMIT,
    words: Collection[str] | None = None,
    doubts: Mapping[int, Doubt] | None = None,
) -> Explanation:
    """The training items behind a misclassified validation item.

    Args:
        run: with influence.
        item: the error.
        meaning: `prediction` (loss of the predicted label) or `truth` (loss of the true label).
        top: how many of each side.
        limit: characters of a text that are shown.
        words: to be marked, in lower case; those of the error if None.
        doubts: training items whose label is in doubt (`turnover.explain.causes.causes`).

    Raises:
        TurnoverError: if the run has no usable influence for this item.
    """
    ranked, pieces = run.influence.ranked(item.position, meaning), run_pieces(run)
    trust, known = ranking_trust(run, ranked), doubts or {}
    common = foreseen(run, item.position, meaning)
    marked = content_words(item.text, pieces) if words is None else frozenset(words)
    members = int(run.manifest["results"]["members"])
    as_marked = partial(mark, words=marked, limit=limit, pieces=pieces)
    times = strengths(ranked, run.train["label"].to_numpy())
    sides = [
        [
            _ranked_card(
                run, ranked, index, as_marked, str(trust[index]), times[index], known, common
            )
            for index in end
        ]
        for end in ranked.ends(top)
    ]
    proponents, opponents = with_shares(*sides)
    certainty, advice = (
        (units_sentence(SCORES, members), "")
        if run.scored
        else certainty_sentences(trust_counts(trust), len(ranked.values), len(run.train), members)
    )
    return Explanation(
        target=item.predicted if meaning == PREDICTION else item.label,
        sentence=meaning_sentence(item, meaning),
        units=units_sentence(run.influence.estimator, members),
        yardstick=yardstick_sentence(ranked, len(run.train)),
        certainty=certainty,
        advice=advice,
        decimals=decimals_of([card.influence for card in proponents + opponents]),
        proponents=proponents,
        opponents=opponents,
    )


def marked_target(
    text: str, proponents: Collection[Card], limit: int = LIMIT, pieces: Pieces | None = None
) -> MarkedText:
    """A target's text, with the words marked that at least two of its proponents share, and with
    `pieces` the pieces of words.
    """
    texts = [card.text.plain for card in proponents if card.text]
    return mark(text, recurring_words(text, texts, pieces=pieces), limit=limit, pieces=pieces)


def meaning_sentence(item: ErrorItem, meaning: str) -> str:
    """Whose loss is meant, and what the sign means."""
    if meaning == PREDICTION:
        return (
            f"Influence on the prediction: the loss of the wrong label “{item.predicted}”. "
            "Positive: learning this training item pushed the model towards the mistake. "
            "Negative: away from it."
        )
    return (
        f"Influence on the truth: the loss of the true label “{item.label}”. Positive: learning "
        "this training item pushed the model towards the right answer. Negative: away from it."
    )


def units_sentence(estimator: str, members: int) -> str:
    """Units and estimate of the numbers."""
    if estimator == SCORES:
        return "In the units of another engine’s scores, whose errors nobody knows."
    error = "± is one standard error" if members > 1 else "one member has no standard error"
    return f"In nats of loss, {estimate_words(estimator, members)}; {error}."


def estimate_words(estimator: str, members: int) -> str:
    """How members' influences are combined into one number
    (`turnover.attribution.estimators.estimator`).
    """
    if estimator == SCORES:
        return "another engine’s scores"
    if members == 1:
        return "the one member’s raw influence"
    if estimator == "median":
        return f"the median over {members} members"
    return (
        f"estimated from {members} members: what similar training items share and what is each "
        "one’s own, as far as it stands out of the noise of the masks"
    )


def certainty_sentences(
    counts: dict[str, int] | None, ranked: int, train_size: int, members: int
) -> tuple[str, str]:
    """How many training items of a target can be trusted; and a remedy if there are none, else "".

    Args:
        counts: `turnover.runs.ranking.trust_counts` of the target; None if no standard error is
            known.
        ranked: how many items were counted: fewer than `train_size` where a run keeps the ends of
            each ranking.
    """
    if counts is None:
        advice = (
            "Nothing says which of these items stand out of the noise of the masks. Train with more"
            " members to know (--members)."
        )
        return "One member: no error known.", advice
    if not counts[STRONG]:
        return (
            "No single training item can be told from noise here.",
            f"More members would help: train again with more than {members} (--members).",
        )
    least = "At least " if ranked < train_size else ""
    known = f"{least}{counts[STRONG]:,} of {counted(train_size, 'training item')}"
    return f"{known} can be told from noise here.", ""


def yardstick_sentence(ranked: Ranked, train_size: int) -> str:
    """How large the influence of a random training item is."""
    if len(ranked.values) < train_size:
        least = float(np.abs(ranked.values).min()) if len(ranked.values) else 0.0
        return (
            "This run keeps the two ends of each ranking only: any other training item is below "
            f"±{rounded(least)}."
        )
    return (
        f"A random training item: about ±{rounded(float(ranked.values.std()))} (standard deviation "
        f"over all {train_size:,})."
    )


def usual_yardstick(run: Run) -> str:
    """How large the influence of a random training item usually is on a validation item of this
    run; "" if unknown.
    """
    part = run.influence
    if part.manifest["layout"] != "full" or not part.targets:
        return ""
    step = max(1, len(part.targets) // _SAMPLE)
    usual = float(np.median(part.array("truth_estimate")[::step].std(axis=1)))
    return (
        f"A random training item on a validation item: about ±{rounded(usual)} (standard deviation,"
        f" median of {len(part.targets[::step])} items)."
    )


def rounded(value: float) -> str:
    """A number with two significant digits, never in powers of ten."""
    if not value:
        return "0"
    return f"{value:.{max(0, 1 - math.floor(math.log10(abs(value))))}f}"


def decimals_of(influences: Collection[float]) -> int:
    """Decimals that give the largest influence at least two digits, and never fewer than three."""
    largest = max(map(abs, influences), default=0.0)
    return 3 if largest >= 0.01 or largest == 0 else min(8, 1 - math.floor(math.log10(largest)))


def with_shares(*sides: Collection[Card]) -> list[tuple[Card, ...]]:
    """The cards of some sides with `share` filled in, relative to the largest influence of all."""
    influences = (abs(card.influence) for side in sides for card in side)
    largest = max(influences, default=0.0) or 1.0
    return [
        tuple(replace(card, share=abs(card.influence) / largest) for card in side) for side in sides
    ]


def _ranked_card(
    run: Run,
    ranked: Ranked,
    index: int,
    as_marked: Callable[[str], MarkedText],
    trust: str,
    times: float,
    doubts: Mapping[int, Doubt],
    common: np.ndarray | None,
) -> Card:
    position = int(ranked.instances[index])
    item = run.item("train", position)
    return Card(
        position=position,
        id=str(item["id"]),
        label=run.classes[int(item["label"])],
        influence=float(ranked.values[index]),
        std_error=finite(ranked.std_errors[index]),
        trust=trust,
        share=0.0,
        injected=str(item["planted"]),
        text=as_marked(str(item["text"])) if run.kind == "text" else None,
        image=bytes(item["image"]) if run.kind == "image" else b"",
        times=finite(times),
        doubt=doubts.get(position),
        common=None if common is None else float(common[position]),
        mates=float(run.influence.mates[position]),
    )
