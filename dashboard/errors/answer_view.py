"""What is asked of the process that holds the model, and its replies as answers with cards.

A question is a text or an image, with the label whose loss the influence is on.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from turnover.errors import TurnoverError
from turnover.explain.doubt import Doubt
from turnover.explain.explanation import (
    Card,
    ErrorItem,
    Explanation,
    certainty_sentences,
    decimals_of,
    units_sentence,
    usual_yardstick,
    with_shares,
)
from turnover.explain.reasons import Cause
from turnover.explain.words import mark, run_pieces
from turnover.runs.run import Run


@dataclass(frozen=True)
class Question:
    """A text, or an image as a PNG in the form of the training images, and what to explain.

    Attributes:
        label: the class whose loss the influence is on; None for the predicted class.
        top: proponents and opponents that are wanted, each.
        also: positions of training items whose influence is wanted wherever they rank.
        why: whether the cause of the prediction is wanted, which takes about a second.
    """

    text: str = ""
    image: bytes = b""
    label: str | None = None
    top: int = 10
    also: tuple[int, ...] = ()
    why: bool = False

    @property
    def request(self) -> dict[str, Any]:
        """The worker's request."""
        content = {"image": in_base64(self.image), "fitted": True} if self.image else {}
        also = {"also": list(self.also)} if self.also else {}
        why = {"why": True} if self.why else {}
        asked = {"label": self.label, "top": self.top}
        return {**(content or {"text": self.text}), **asked, **also, **why}


def in_base64(content: bytes) -> str:
    """Bytes for a request."""
    return base64.b64encode(content).decode("ascii")


def question_of(item: ErrorItem) -> Question:
    """The question on an item as it is."""
    return Question(text=item.text, image=item.image)


@dataclass(frozen=True)
class Standing:
    """Where a training item stands among all that push the same way: its rank, from 1, and its
    share of what they do together; `towards` the label or away from it.
    """

    rank: int
    share: float
    towards: bool


@dataclass(frozen=True)
class Answer:
    """A prediction and its explanation.

    Attributes:
        probabilities: of the classes, the largest first.
        standings: of the training items that are shown, by position.
        also: the cards that the question asked for.
        cause: why the model says so; None where that was not asked.
        warning: why the answer means little, or "".
    """

    predicted: str
    probabilities: dict[str, float]
    explanation: Explanation
    standings: dict[int, Standing]
    also: tuple[Card, ...]
    cause: Cause | None
    warning: str


@dataclass(frozen=True)
class Reply:
    """The result for one question: an answer, or why there is none."""

    question: Question
    answer: Answer | None = None
    problem: str = ""


def build_answer(run: Run, reply: dict[str, Any]) -> Answer:
    """The answer in the worker's reply to a question.

    Raises:
        TurnoverError: if the reply is malformed.
    """
    try:
        cause = _cause(reply["cause"])
        sides = reply["proponents"], reply["opponents"], reply.get("also", [])
        cards = [
            [_card(run, entry, cause.words if cause else ()) for entry in side] for side in sides
        ]
        chances = {str(name): float(value) for name, value in reply["probabilities"].items()}
        label, meaning = str(reply["label"]), str(reply["meaning"])
        return Answer(
            predicted=str(reply["predicted"]),
            probabilities=dict(sorted(chances.items(), key=lambda pair: -pair[1])),
            explanation=_explanation(run, reply, _sentence(label, meaning), cards),
            standings={
                int(entry["position"]): Standing(
                    int(entry["rank"]), float(entry["share"]), entry["influence"] >= 0
                )
                for side in sides
                for entry in side
            },
            also=tuple(cards[2]),
            cause=cause,
            warning=str(reply["warning"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TurnoverError(
            f"the engine's answer cannot be read ({type(error).__name__}: {error}); ask again"
        ) from None


def _explanation(
    run: Run, reply: dict[str, Any], sentence: str, cards: list[list[Card]]
) -> Explanation:
    proponents, opponents = with_shares(cards[0], cards[1])
    members, train_size = int(run.manifest["results"]["members"]), len(run.train)
    certainty, advice = certainty_sentences(reply["trust"], train_size, train_size, members)
    return Explanation(
        target=str(reply["label"]),
        sentence=sentence,
        units=units_sentence(str(reply["estimator"]), members),
        yardstick=usual_yardstick(run),
        certainty=certainty,
        advice=advice,
        decimals=decimals_of([card.influence for card in proponents + opponents]),
        proponents=proponents,
        opponents=opponents,
    )


def _sentence(label: str, meaning: str) -> str:
    whose = "the predicted label" if meaning == "prediction" else "the label"
    return (
        f"Influence on the loss of {whose} “{label}”. Positive: learning this training item pushed "
        "the model towards it. Negative: away from it."
    )


def _cause(facts: dict[str, Any] | None) -> Cause | None:
    if facts is None:
        return None
    lists = {name: tuple(facts[name]) for name in ("words", "regions", "teachers")}
    return Cause(**{"error": -1, **facts, **lists, "doubt": None})


def _card(run: Run, entry: dict[str, Any], words: Iterable[str]) -> Card:
    position, error, doubt = int(entry["position"]), entry["std_error"], entry.get("doubt")
    text, marked = entry.get("text"), frozenset(words)
    return Card(
        position=position,
        id=str(entry["id"]),
        label=str(entry["label"]),
        influence=float(entry["influence"]),
        std_error=None if error is None else float(error),
        trust=str(entry["trust"] or ""),
        share=0.0,
        injected=str(run.item("train", position)["planted"]),
        text=None if text is None else mark(str(text), marked, pieces=run_pieces(run)),
        image=base64.b64decode(entry["image"]) if "image" in entry else b"",
        times=entry["strength"],
        doubt=Doubt(**doubt) if doubt else None,
        common=entry.get("common"),
        mates=float(entry.get("mates", 0)),
    )
