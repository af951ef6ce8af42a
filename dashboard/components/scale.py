"""One training item taken at random beside an error, so that the scale of its proponents and opponents is felt."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.cards import influence_bar, influence_html
from turnover.report.errors import ErrorItem
from turnover.report.explanation import Card, Explanation
from turnover.report.fragments import chip_html, image_html, safe
from turnover.report.words import snippet

_DRAW = "draw"
_TEXT = 90
_ALT = "training image taken at random"


def current_draw(item: ErrorItem) -> int:
    """The number of the random item that is shown; another error begins at 0 again, so that a link shows the same."""
    drawn, number = st.session_state.get(_DRAW, (item.id, 0))
    return int(number) if drawn == item.id else 0


def show_random(item: ErrorItem, explanation: Explanation) -> None:
    """The random item, with a button for another one."""
    card = explanation.random
    if card is None:
        return
    with st.container(gap=None):
        st.html(_random_html(card, explanation.decimals))
        st.button("Another random item", key="another-random", type="tertiary", on_click=_another, args=(item,))


def _random_html(card: Card, decimals: int) -> str:
    """Its influence with a bar as the cards have them, and what it is, in little room."""
    body = f'<span class="to-id" dir="auto">{safe(snippet(card.text.plain, _TEXT))}</span>' if card.text else image_html(card.image, 32, _ALT)
    return (
        f'<div class="to-random">For scale, one taken at random: {influence_html(card, decimals)}{influence_bar(card)}'
        f'<div class="to-foot">{chip_html(card.label)}{body}</div></div>'
    )


def _another(item: ErrorItem) -> None:
    st.session_state[_DRAW] = (item.id, current_draw(item) + 1)
