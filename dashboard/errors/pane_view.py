"""One error with its teachers and opponents, as data that the browser draws.

Numbers are in units that a newcomer knows: a strength of 5 is five times what a usual training item
of the same class does to this error. Nats, standard errors and trust words are in `hover`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from turnover.dashboard.errors.own_view import Own
from turnover.dashboard.shared.content_view import content_data, doubt_data
from turnover.data.images import png_pixels
from turnover.errors import TurnoverError, counted
from turnover.explain.causes import Causes
from turnover.explain.explanation import Card, ErrorItem, Explanation, explain_error
from turnover.explain.html import parts_words, signed
from turnover.explain.parts import patches
from turnover.explain.reasons import CLASS, CUE, LABEL, TEACHERS, Cause
from turnover.explain.words import mark, run_pieces, visible
from turnover.flags import Flag
from turnover.runs.proofs import Proof, proofs_of, verdicts
from turnover.runs.run import PREDICTION, Run

TOP = 5
"""Teachers and opponents that are shown, each."""

_LIMIT = 3000
"""Characters of a text that are shown here; *More* has the rest."""

_OTHERS = 3
"""Classes that are named with their probabilities beside the predicted one."""


def pane(run: Run, item: ErrorItem, causes: Causes | None) -> dict[str, Any]:
    """An error for the browser; without teachers, and with the reason, where the run has no
    influence on it (`causes` is None where it has none at all).
    """
    cause = causes.by_error[item.position] if causes else None
    facts = _facts(run, item, cause)
    if causes is None or cause is None:
        return facts
    try:
        explanation = explain_error(run, item, PREDICTION, TOP, _LIMIT, cause.words, causes.doubts)
    except TurnoverError as error:
        return facts | {"why": str(error)}
    return facts | _told(run, item, cause, explanation)


def own_pane(run: Run, own: Own) -> dict[str, Any]:
    """A text or an image of one's own for the browser; `waiting` while it has no answer yet."""
    item, answer = own.item, own.answer
    facts = _facts(run, item, answer.cause if answer else None) | {"own": True, "name": own.name}
    if answer is None or answer.cause is None:
        return facts | {"problem": visible(own.problem), "waiting": not own.problem}
    others = [
        f"{visible(name)} {chance:.0%}"
        for name, chance in [*answer.probabilities.items()][1 : 1 + _OTHERS]
    ]
    told = _told(run, item, answer.cause, answer.explanation)
    return facts | told | {"warning": answer.warning, "others": ", ".join(others)}


def _facts(run: Run, item: ErrorItem, cause: Cause | None) -> dict[str, Any]:
    """An item without its teachers."""
    words, pieces = cause.words if cause else (), run_pieces(run)
    text = mark(item.text, words, limit=_LIMIT, pieces=pieces) if item.text else None
    told = {"why": "", "cause": "", "reason": "", "teachers": [], "opponents": []}
    return told | {
        "id": item.id,
        "position": item.position,
        "label": visible(item.label),
        "predicted": visible(item.predicted),
        "probability": f"{item.probability:.0%}" if item.predicted else "",
        "injected": visible(item.injected),
        "content": content_data(text, item.image),
        "boxes": _boxes(item.image, cause.regions if cause else ()),
        "twin": bool(item.twin),
        # a cue explains why the model is sure, so it is no evidence against the label
        "doubt": doubt_data(run, cause.doubt if cause and cause.kind != CUE else None),
    }


def _told(run: Run, item: ErrorItem, cause: Cause, explanation: Explanation) -> dict[str, Any]:
    """Why, and the training items on both sides."""
    why, reason = why_words(run, item, cause), cause.sentence
    if explanation.advice and cause.kind not in (CUE, LABEL):
        why = "Too noisy to tell."
        reason = f"{explanation.certainty} {explanation.advice} Groups may tell more."
    return {
        "why": why,
        "cause": cause.group,
        "reason": reason,
        "teachers": [_card(run, card) for card in explanation.proponents[:TOP]],
        "opponents": [_card(run, card) for card in explanation.opponents[:TOP]],
    }


def _boxes(image: bytes, regions: Iterable[int]) -> list[list[float]]:
    """Where patches lie in an image: left, top, width and height in per cent of it."""
    if not image or not regions:
        return []
    pixels = png_pixels(image)
    height, width = pixels.shape[:2]
    places = patches(pixels)
    return [
        [
            round(100 * part / whole, 2)
            for part, whole in (
                (across.start, width),
                (down.start, height),
                (across.stop - across.start, width),
                (down.stop - down.start, height),
            )
        ]
        for down, across in (places[number] for number in regions)
    ]


def why_words(run: Run, item: ErrorItem, cause: Cause) -> str:
    """Why the model got an error wrong, in few words; `Cause.sentence` has the evidence."""
    if cause.kind == CUE:
        name = f"“{' '.join(cause.words)}”" if cause.words else "The outlined region"
        return (
            f"{name} taught this: without it, “{visible(item.predicted)}” "
            f"{item.probability:.0%} → {cause.without or 0:.0%}."
        )
    if cause.kind == LABEL and cause.doubt:
        return f"Label in doubt: probably “{visible(cause.doubt.label)}”."
    if cause.kind == TEACHERS:
        return f"{counted(len(cause.teachers), 'doubtful label')} taught this."
    if cause.kind == CLASS:
        return "The whole class taught this."
    if not cause.group:
        return cause.sentence
    return "No clear cause."


def times_words(times: float | None) -> str:
    """A multiple of a usual item, with a decimal where it is small; "" if unknown."""
    return "" if times is None else f"{times:,.{0 if times >= 2 else 1}f} × usual"


def _card(run: Run, card: Card) -> dict[str, Any]:
    """A training item; `share` and `tick`, its influence and a usual one, are of the largest shown
    in per cent.
    """
    error = "" if card.std_error is None else f" ± {card.std_error:.3f}"
    nats = f"{signed(card.influence, 3)}{error} {run.unit}{', ' * bool(card.trust)}{card.trust}"
    return {
        "position": card.position,
        "id": card.id,
        "label": visible(card.label),
        "injected": visible(card.injected),
        "content": content_data(card.text, card.image),
        "strength": times_words(card.times),
        "share": round(100 * card.share, 1),
        "tick": round(min(100, 100 * card.share / card.times), 1) if card.times else 0,
        "uncertain": card.uncertain,
        "doubt": doubt_data(run, card.doubt),
        "hover": "\n".join(filter(None, (nats, parts_words(card)))),
    }


def decisions(flags: dict[int, Flag], panes: Iterable[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """The flags in force on the training items of some panes, by position."""
    shown = {card["position"] for one in panes for card in (*one["teachers"], *one["opponents"])}
    return {
        str(position): {
            "action": flag.action,
            "label": visible(flag.new_label),
            "note": flag.note,
            "by": visible(flag.by),
        }
        for position, flag in flags.items()
        if position in shown
    }


def proof_facts(
    proofs: Sequence[Proof], items: Iterable[ErrorItem], causes: Causes | None
) -> dict[str, dict[str, Any]]:
    """What retraining showed of some errors, by id: of why, and of training items by position."""
    shown = {}
    for item in items:
        own = proofs_of(proofs, item.position)
        sentence = causes.by_error[item.position].sentence if causes and own else ""
        why = next((proof for proof in own if sentence and proof.why == sentence), None)
        shown[item.id] = {
            "why": why
            and {
                "verdict": why.verdict,
                "words": visible(why.words(item.predicted)),
                "hover": why.numbers,
            },
            "items": {str(position): verdict for position, verdict in verdicts(own).items()},
        }
    return {id: facts for id, facts in shown.items() if facts["items"]}
