"""The cards of proponents and opponents, with their flag and link."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from turnover.dashboard.shared.address import training_link
from turnover.dashboard.shared.flag_form import flag_control
from turnover.dashboard.shared.notice import notice, said
from turnover.explain.explanation import Card, Explanation
from turnover.explain.html import (
    chip_html,
    image_html,
    mark_html,
    marked_html,
    safe,
    signed,
    trust_html,
)
from turnover.flags import Flag
from turnover.runs.run import Run


def flag_html(flag: Flag | None) -> str:
    """The decision on a training item as a chip."""
    if flag is None:
        return ""
    words = {"drop": "flagged: drop", "keep": "flagged: keep"}.get(
        flag.action, f"flagged: relabel to {flag.new_label}"
    )
    return chip_html(words, "flag")


def influence_html(card: Card, decimals: int) -> str:
    """An influence ± its standard error, with its trust word."""
    error = (
        ""
        if card.std_error is None
        else f'<span class="to-error"> ± {card.std_error:.{decimals}f}</span>'
    )
    return (
        f'<span class="to-number to-{_side(card)}">'
        f"{signed(card.influence, decimals)}{error}{trust_html(card.trust)}</span>"
    )


def influence_bar(card: Card) -> str:
    """An influence as a bar, relative to the largest one shown."""
    return (
        f'<div class="to-bar to-{_side(card)}" aria-hidden="true"><i '
        f'style="width:{100 * card.share:.0f}%"></i></div>'
    )


def _side(card: Card) -> str:
    return "for" if card.influence > 0 else "against"


def card_html(card: Card, decimals: int) -> str:
    """The content of a card: label, influence, trust word, and the item."""
    body = (
        marked_html(card.text)
        if card.text
        else image_html(card.image, 96, f"training image labelled {card.label}")
    )
    return (
        f'<div class="to-line">{chip_html(card.label)}{influence_html(card, decimals)}</div>'
        f"{influence_bar(card)}{body}"
    )


def foot_html(card: Card, flag: Flag | None) -> str:
    """The last line of a card: the id, the injected mark and the flag."""
    injected = mark_html(card.injected)
    return (
        '<div class="to-foot"><span '
        f'class="to-id">{safe(card.id)}</span>{injected}{flag_html(flag)}</div>'
    )


def sides(
    explanation: Explanation,
    flags: dict[int, Flag],
    below: Callable[[Card], None],
    more: Callable[[Card], str] | None = None,
) -> None:
    """Draw the certainty sentence, then proponents and opponents side by side. `below` draws the
    controls of a card; `more` returns HTML that follows the card's content.
    """
    if explanation.advice:
        notice(explanation.certainty, explanation.advice)
    else:
        said(explanation.certainty)
    columns = st.columns(2, gap="medium")
    headings = (
        ("Proponents", f"pushed towards “{explanation.target}”"),
        ("Opponents", f"pushed away from “{explanation.target}”"),
    )
    for column, (title, meaning), cards in zip(
        columns, headings, (explanation.proponents, explanation.opponents), strict=True
    ):
        with column:
            st.html(f'<h2 class="to-side">{title} <span>{safe(meaning)}</span></h2>')
            _card_list(cards, explanation.decimals, flags, below, more)


def _card_list(
    cards: Sequence[Card],
    decimals: int,
    flags: dict[int, Flag],
    below: Callable[[Card], None],
    more: Callable[[Card], str] | None,
) -> None:
    if not cards:
        st.html('<p class="to-quiet">No training item has an influence of this sign.</p>')
        return
    container = (
        st.container(gap="small")
        if cards[0].text
        else st.grid("auto", min_column_width=150, gap="small")
    )
    for card in cards:
        with container.container(border=True, gap="xsmall"):
            st.html(card_html(card, decimals) + (more(card) if more else ""))
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.html(foot_html(card, flags.get(card.position)))
                below(card)


def card_controls(run: Run, card: Card, flag: Flag | None) -> None:
    """The flag and the link of one card."""
    flag_control(run, card, flag)
    training_link(run, "Open", card.id)
