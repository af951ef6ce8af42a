"""The cards of proponents and opponents."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from turnover.dashboard.components.notice import notice, said
from turnover.flags import Flag
from turnover.report.explanation import Card, Explanation
from turnover.report.fragments import chip_html, image_html, mark_html, marked_html, safe, signed, trust_html


def flag_html(flag: Flag | None) -> str:
    """What was decided on a training item."""
    if flag is None:
        return ""
    words = {"drop": "flagged: drop", "keep": "flagged: keep"}.get(flag.action, f"flagged: relabel to {flag.new_label}")
    return chip_html(words, "flag")


def influence_html(card: Card, decimals: int) -> str:
    """An influence ± its standard error, and how far to trust it."""
    error = "" if card.standard_error is None else f'<span class="to-error"> ± {card.standard_error:.{decimals}f}</span>'
    return f'<span class="to-number to-{_side(card)}">{signed(card.influence, decimals)}{error}{trust_html(card.trust)}</span>'


def influence_bar(card: Card) -> str:
    """An influence as a bar, in shares of the largest shown."""
    return f'<div class="to-bar to-{_side(card)}" aria-hidden="true"><i style="width:{100 * card.share:.0f}%"></i></div>'


def _side(card: Card) -> str:
    return "for" if card.influence > 0 else "against"


def card_html(card: Card, decimals: int) -> str:
    """A card's content: label, influence, how far to trust it, and the item."""
    body = marked_html(card.text) if card.text else image_html(card.image, 96, f"training image labelled {card.label}")
    return f'<div class="to-line">{chip_html(card.label)}{influence_html(card, decimals)}</div>{influence_bar(card)}{body}'


def foot_html(card: Card, flag: Flag | None) -> str:
    """A card's last line: its id, and what is known and decided about it."""
    planted = mark_html(card.planted)
    return f'<div class="to-foot"><span class="to-id">{safe(card.id)}</span>{planted}{flag_html(flag)}</div>'


def sides(explanation: Explanation, flags: dict[int, Flag], below: Callable[[Card], None], more: Callable[[Card], str] | None = None) -> None:
    """How many training items can be trusted, then proponents and opponents side by side.

    `below` draws the control at the foot of a card; `more` gives HTML that follows a card's own.
    """
    if explanation.advice:
        notice(explanation.certainty, explanation.advice)
    else:
        said(explanation.certainty)
    columns = st.columns(2, gap="medium")
    headings = (("Proponents", f"pushed towards “{explanation.target}”"), ("Opponents", f"pushed away from “{explanation.target}”"))
    for column, (title, meaning), cards in zip(columns, headings, (explanation.proponents, explanation.opponents), strict=True):
        with column:
            st.html(f'<h2 class="to-side">{title} <span>{safe(meaning)}</span></h2>')
            _card_list(cards, explanation.decimals, flags, below, more)


def _card_list(cards: Sequence[Card], decimals: int, flags: dict[int, Flag], below: Callable[[Card], None], more: Callable[[Card], str] | None) -> None:
    if not cards:
        st.html('<p class="to-quiet">No training item has an influence of this sign.</p>')
        return
    place = st.container(gap="small") if cards[0].text else st.grid("auto", min_column_width=150, gap="small")
    for card in cards:
        with place.container(border=True, gap="xsmall"):
            st.html(card_html(card, decimals) + (more(card) if more else ""))
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.html(foot_html(card, flags.get(card.position)))
                below(card)
