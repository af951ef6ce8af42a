"""Draws what an edit moved: probabilities and influences before and after, and what each part is worth."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from turnover.dashboard.components.cards import influence_html
from turnover.dashboard.components.notice import quiet, said
from turnover.dashboard.components.patches import patches_html
from turnover.dashboard.views.batch import Reply
from turnover.dashboard.views.edits import Change, Moved, Weight
from turnover.report.explanation import Card
from turnover.report.fragments import chip_html, image_html, marked_html, safe, signed
from turnover.report.words import mark, snippet

_MOST, _TEXT, _LEAST = 10, 110, 0.0005


def show_moved(reply: Reply, moved: Moved) -> None:
    """The edited input, and its probabilities beside the original's."""
    question, answer = reply.question, reply.answer
    assert answer
    body = marked_html(mark(question.text, ())) if question.text else image_html(question.image, 96, "your image, edited")
    st.html(f'<div class="to-edited">{body}</div>')
    said(f"After the edit: “{answer.predicted}”. {moved.loss}")
    st.html(f'<div class="to-chances">{"".join(map(_chance_html, moved.chances[:_MOST]))}</div>')


def show_items(moved: Moved, decimals: int) -> None:
    """A row for each training item, what moved most first: its influence before and after."""
    head = "".join(f'<th scope="col">{text}</th>' for text in ("Training item", "Influence before", "After"))
    rows = "".join(
        f'<tr><th scope="row">{_item_html(after)}</th><td>{_number_html(before, decimals)}</td><td>{_number_html(after, decimals)}</td></tr>'
        for before, after in moved.items[:_MOST]
    )
    if rows:
        st.html(f'<table class="to-groups"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>')


def show_weights(image: bytes, weights: Sequence[Weight], target: str) -> None:
    """What each part is worth for the label `target`: its loss without the part, the largest changes first; an `image` (if it is one) with its patches."""
    largest = max(abs(weight.loss) for weight in weights) or 1.0
    if image:
        drawn = image_html(image, 160, "your image; patches that matter are in colour, and listed beside it")
        st.html(patches_html(drawn, 160, [weight.loss for weight in weights]))
    telling = [weight for weight in sorted(weights, key=lambda one: -abs(one.loss)) if abs(weight.loss) >= _LEAST]
    lines = "".join(_weight_html(weight, largest) for weight in telling[:_MOST])
    st.html(f'<div class="to-chances">{lines}</div>')
    quiet(f"By how much the loss of “{target}” rises without the part (nats), and the probability then: + speaks for the label, − against it.")


def _chance_html(change: Change) -> str:
    before = "?" if change.before is None else f"{change.before:.1%}"
    bar = f'<div class="to-bar" aria-hidden="true"><i style="width:{100 * (change.after or 0):.1f}%"></i></div>'
    return f'<span>{safe(change.name)}</span>{bar}<span class="to-percent">{before} → {change.after or 0:.1%}</span>'


def _weight_html(weight: Weight, largest: float) -> str:
    side = "for" if weight.loss > 0 else "against"
    bar = f'<div class="to-bar to-{side}" aria-hidden="true"><i style="width:{100 * abs(weight.loss) / largest:.0f}%"></i></div>'
    return f'<span dir="auto">{safe(weight.name)}</span>{bar}<span class="to-percent">{signed(weight.loss, 3)}, {weight.probability:.1%}</span>'


def _item_html(card: Card) -> str:
    body = (
        f'<span dir="auto">{safe(snippet(card.text.plain, _TEXT))}</span>' if card.text else image_html(card.image, 40, f"training image labelled {card.label}")
    )
    return f'{chip_html(card.label)} {body} <span class="to-id">{safe(card.id)}</span>'


def _number_html(card: Card | None, decimals: int) -> str:
    return influence_html(card, decimals) if card else '<span class="to-trust">not among its strongest</span>'
