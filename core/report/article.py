"""One mistake on the page: the item, its proponents and opponents for both meanings of influence; and the list of all."""

from __future__ import annotations

from collections.abc import Sequence

from turnover.report.errors import ErrorItem
from turnover.report.explanation import PREDICTION, TRUTH, Card, Explanation, explain_error, marked_target
from turnover.report.fragments import chip_html, image_html, mark_html, marked_html, safe, signed, trust_html
from turnover.report.pieces import run_cut
from turnover.report.words import Cut, snippet
from turnover.runs import Run

CHARACTERS = 4000
"""Of a text, at most so many are on the page."""

_ID, _NAME = 80, 60


def index_html(items: Sequence[ErrorItem]) -> str:
    """Links to all mistakes of the page, one or more."""
    lines = []
    for place, item in enumerate(items, start=1):
        content = image_html(item.image, 40, "") if item.image else f'<span class="snippet" dir="auto">{safe(snippet(item.text, 110))}</span>'
        verdict = f'<span class="verdict">{safe(_name(item.label))} → {safe(_name(item.predicted))}</span>'
        lines.append(f'<li><a href="#mistake-{place}"><span class="place">{place}</span>{content}{verdict}</a></li>')
    kind = "images" if items[0].image else "texts"
    summary = f"All {len(items)} at a glance"
    return f'<nav aria-label="Mistakes"><details class="index"><summary>{summary}</summary><ol class="{kind}">{"".join(lines)}</ol></details></nav>'


def error_html(run: Run, item: ErrorItem, place: int, top: int) -> str:
    """The mistake number `place`: what it is, and who taught it.

    Raises:
        TurnoverError: if the run has no usable influence for this item.
    """
    prediction, truth = (explain_error(run, item, meaning, top, CHARACTERS) for meaning in (PREDICTION, TRUTH))
    planted = mark_html(item.planted)
    return (
        f'<article id="mistake-{place}" aria-labelledby="title-{place}"><h3 id="title-{place}"><span class="place">{place}</span> '
        f"{chip_html(_name(item.label))} taken for {chip_html(_name(item.predicted), 'wrong')}</h3>"
        f'<div class="target">{_target_html(item, prediction, run_cut(run))}</div>'
        f'<p class="foot">predicted with probability {item.probability:.0%}{planted}<span class="id">{safe(snippet(item.id, _ID))}</span></p>'
        f"<section>{_heading('prediction', 'wrong', prediction)}{_sides_html(prediction)}</section>"
        f"<details><summary>{_heading('truth', 'true', truth)}</summary>{_sides_html(truth)}</details></article>"
    )


def _target_html(item: ErrorItem, explanation: Explanation, cut: Cut | None) -> str:
    if item.image:
        return image_html(item.image, 160, f"validation image of class {_name(item.label)}, predicted {_name(item.predicted)}")
    return marked_html(marked_target(item.text, explanation.proponents, CHARACTERS, cut))


def _heading(meaning: str, which: str, explanation: Explanation) -> str:
    return f"<h4>Influence on the {meaning} <span>loss of the {which} label “{safe(_name(explanation.target))}”</span></h4>"


def _sides_html(explanation: Explanation) -> str:
    """Proponents and opponents, with how many can be trusted and what a random training item does."""
    cards = (*explanation.proponents, *explanation.opponents)
    scale = max((abs(card.influence) + (card.standard_error or 0) for card in cards), default=0) or 1
    target = f"“{safe(_name(explanation.target))}”"
    sides = (("for", "Proponents", "towards", explanation.proponents), ("against", "Opponents", "away from", explanation.opponents))
    made = "".join(
        f'<section class="{side}"><h5>{title} <span>pushed {where} {target}</span></h5>{_cards_html(shown, explanation.decimals, scale)}</section>'
        for side, title, where, shown in sides
    )
    sure = f"<p>{explanation.certainty}</p>" if not explanation.advice else f"<p><strong>{explanation.certainty}</strong> {explanation.advice}</p>"
    return f'<div class="certainty">{sure}</div><div class="sides">{made}</div><p class="quiet">{explanation.yardstick}</p>'


def _cards_html(cards: Sequence[Card], decimals: int, scale: float) -> str:
    if not cards:
        return '<p class="quiet">No training item has an influence of this sign.</p>'
    kind = "texts" if cards[0].text else "images"
    return f'<ol class="cards {kind}">{"".join(_card_html(card, decimals, scale) for card in cards)}</ol>'


def _card_html(card: Card, decimals: int, scale: float) -> str:
    """A training item: its influence ± standard error and how far to trust it, label, contents and id."""
    error = "" if card.standard_error is None else f' <span class="error">± {card.standard_error:.{decimals}f}</span>'
    content = marked_html(card.text) if card.text else image_html(card.image, 96, f"training image labelled {_name(card.label)}")
    planted = mark_html(card.planted)
    return (
        f'<li><p class="line"><span class="number">{signed(card.influence, decimals)}{error}{trust_html(card.trust)}</span>{chip_html(_name(card.label))}</p>'
        f'{_bar_html(card, scale)}{content}<p class="foot"><span class="id">{safe(snippet(card.id, _ID))}</span>{planted}</p></li>'
    )


def _bar_html(card: Card, scale: float) -> str:
    """The influence as a bar, and one standard error each way as a thin line on it; both in shares of `scale`."""
    size, error = abs(card.influence) / scale, (card.standard_error or 0) / scale
    first = max(0.0, size - error)
    line = f'<b style="left:{first:.1%};width:{size + error - first:.1%}"></b>' if error else ""
    return f'<div class="bar" aria-hidden="true"><i style="width:{size:.1%}"></i>{line}</div>'


def _name(label: str) -> str:
    """A class name of sensible length; not escaped yet."""
    return snippet(label, _NAME)
