"""One error with its teachers and opponents, as data that the browser draws.

Numbers are in units that a newcomer knows: a strength of 5 is five times what a usual training item
of the same class does to this error. Nats, standard errors and trust words are in `hover`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from turnover.attribution.estimators.significance import STRONG
from turnover.dashboard.errors.list_view import data_url
from turnover.errors import TurnoverError, counted
from turnover.explain.explanation import (
    Card,
    ErrorItem,
    Explanation,
    explain_error,
    marked_target,
)
from turnover.explain.html import signed
from turnover.explain.words import MarkedText, mark, run_pieces, visible
from turnover.flags import Flag
from turnover.runs.run import PREDICTION, Run

TOP = 5
"""Teachers and opponents that are shown, each."""

_LIMIT = 3000
"""Characters of a text that are shown here; *More* has the rest."""

Usual = dict[str, float]
"""For each class, the influence of a usual training item on an error, in nats."""


def pane(run: Run, item: ErrorItem, with_influence: bool) -> dict[str, Any]:
    """An error for the browser; without teachers, and with the reason, where the run has no
    influence on it.
    """
    explanation, why = None, ""
    try:
        if with_influence:
            explanation = explain_error(run, item, PREDICTION, TOP, _LIMIT)
    except TurnoverError as error:
        why = str(error)
    proponents = explanation.proponents if explanation else ()
    pieces = run_pieces(run)
    text = (
        marked_target(item.text, proponents, _LIMIT, pieces)
        if proponents
        else mark(item.text, (), limit=_LIMIT, pieces=pieces)
    )
    facts = {
        "id": item.id,
        "label": visible(item.label),
        "predicted": visible(item.predicted),
        "probability": f"{item.probability:.0%}",
        "injected": visible(item.injected),
        "content": _content(text if item.text else None, item.image),
    }
    if explanation is None:
        return facts | {"why": why, "teachers": [], "opponents": [], "known": False}
    usual = usual_influences(run, item)
    scale = explanation.scale
    return facts | {
        "why": why_sentence(item, explanation, usual),
        "teachers": [_card(card, usual, scale) for card in explanation.proponents],
        "opponents": [_card(card, usual, scale) for card in explanation.opponents],
        "known": True,
    }


def usual_influences(run: Run, item: ErrorItem) -> Usual:
    """The mean size of the influence of a training item on an error's prediction, by class; {}
    where a run keeps only the ends of each ranking, which are not usual.
    """
    ranked, labels = run.influence.ranked(item.position, PREDICTION), run.train["label"].to_numpy()
    if len(ranked.values) < len(labels):
        return {}
    sizes = np.abs(ranked.values)
    own = labels[ranked.instances]
    return {
        name: float(sizes[own == label].mean())
        for label, name in enumerate(run.classes)
        if (own == label).any()
    }


def why_sentence(item: ErrorItem, explanation: Explanation, usual: Usual) -> str:
    """Why the model got an error wrong, in one sentence."""
    if explanation.advice:
        return "No single training item can be told from noise here; look at groups under More."
    same = sum(card.label == item.predicted for card in explanation.proponents)
    strength = strength_words(explanation.proponents[0], usual) if explanation.proponents else ""
    first = f"; the first counts {strength} a usual one" if strength else ""
    these = counted(same, f"training {'image' if item.image else 'text'}")
    return f"{these} labelled “{visible(item.predicted)}” taught this{first}."


def strength_words(card: Card, usual: Usual) -> str:
    """How many times a usual item of its class a card counts, as in "5 ×"; "" if unknown."""
    return (
        f"{rounded_times(abs(card.influence) / usual[card.label])} ×"
        if usual.get(card.label)
        else ""
    )


def rounded_times(times: float) -> str:
    """A multiple, with a decimal where it is small."""
    return f"{times:.1f}" if times < 1.95 else f"{times:,.0f}"


def _card(card: Card, usual: Usual, scale: float) -> dict[str, Any]:
    """A training item; `share` and `tick`, its influence and a usual one, are of the largest shown
    in per cent.
    """
    times = strength_words(card, usual)
    error = "" if card.std_error is None else f" ± {card.std_error:.3f}"
    return {
        "position": card.position,
        "id": card.id,
        "label": visible(card.label),
        "injected": visible(card.injected),
        "content": _content(card.text, card.image),
        "strength": f"{times} usual" if times else "",
        "share": round(100 * abs(card.influence) / scale, 1),
        "tick": round(min(100, 100 * usual.get(card.label, 0) / scale), 1),
        "uncertain": card.trust not in ("", STRONG),
        "doubt": None,
        "hover": f"{signed(card.influence, 3)}{error} nats{', ' * bool(card.trust)}{card.trust}",
    }


def _content(text: MarkedText | None, png: bytes) -> dict[str, Any]:
    """A text in pieces, each `[text, marked]`, what unfolds and what is not sent; or an image."""
    if text is None:
        return {"image": data_url(png)}
    return {"head": _pieces(text.head), "tail": _pieces(text.tail), "left": text.left_out}


def _pieces(segments: Iterable[Any]) -> list[list[Any]]:
    return [
        [f" [cut here: the model reads {part.window} tokens] ", 2]
        if part.window
        else [visible(part.text), int(part.marked)]
        for part in segments
    ]


# Decisions


@dataclass(frozen=True)
class Decided:
    """A flag in force, in words for a card."""

    action: str
    label: str
    note: str
    by: str


def decisions(flags: dict[int, Flag], panes: Iterable[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """The flags in force on the training items of some panes, by position."""
    shown = {card["position"] for one in panes for card in (*one["teachers"], *one["opponents"])}
    return {
        str(position): vars(Decided(flag.action, visible(flag.new_label), flag.note, flag.by))
        for position, flag in flags.items()
        if position in shown
    }
