"""The chosen error, what its numbers mean, and the training items behind it."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.card_controls import card_controls
from turnover.dashboard.components.cards import sides
from turnover.dashboard.components.flag_keys import flag_keys
from turnover.dashboard.components.issue import issue_text
from turnover.dashboard.components.notice import problem, quiet, said
from turnover.dashboard.components.question import ITEM
from turnover.dashboard.components.regions import show_regions
from turnover.dashboard.components.scale import current_draw, show_random
from turnover.dashboard.state import RUN_KEY, Opened
from turnover.errors import TurnoverError
from turnover.flags import Flag
from turnover.report.errors import ErrorItem
from turnover.report.explanation import PREDICTION, TRUTH, Explanation, explain_error, marked_target
from turnover.report.fragments import chip_html, image_html, mark_html, marked_html, safe
from turnover.report.pieces import run_cut
from turnover.report.words import Cut, mark
from turnover.runs import Run

_TOPS = (5, 10, 20)
_TRY_PAGE = "app_pages/try_own.py"


def show_item(opened: Opened, item: ErrorItem) -> Explanation | None:
    """The error itself and the choice of what to explain; returns the explanation, None if the run has no influence."""
    place = st.container()
    explanation = None if opened.influence_problem else _explain(opened.run, item)
    with place:
        st.html(_item_html(item, explanation, run_cut(opened.run)))
    return explanation


def show_training_items(run: Run, item: ErrorItem, explanation: Explanation, flags: dict[int, Flag]) -> None:
    """What can be done with all of them, the sentences that give the numbers their meaning, and the cards."""
    with st.container(horizontal=True, vertical_alignment="center"):
        flag_keys(run, explanation, flags)
        issue_text(run, item, explanation)
        st.page_link(_TRY_PAGE, label="Change it and see what moves", query_params={RUN_KEY: run.name, ITEM: item.id})
    regions = show_regions(run, item, explanation)
    sides(explanation, flags, lambda card: card_controls(run, card, flags.get(card.position)), regions)


def _explain(run: Run, item: ErrorItem) -> Explanation | None:
    with st.container(horizontal=True, vertical_alignment="top"):
        meaning = st.segmented_control("Influence on the", [PREDICTION, TRUTH], default=PREDICTION, required=True, key="meaning", bind="query-params")
        top = st.selectbox("Items per side", _TOPS, key="top", bind="query-params", width=140)
    try:
        explanation = explain_error(run, item, meaning or PREDICTION, top, draw=current_draw(item))
    except TurnoverError as error:
        problem("This error has no influence", str(error))
        return None
    said(explanation.sentence)
    quiet(explanation.units, explanation.yardstick)
    show_random(item, explanation)
    return explanation


def _item_html(item: ErrorItem, explanation: Explanation | None, cut: Cut | None) -> str:
    """The error: its text or image, and what the model made of it."""
    if item.image:
        body = image_html(item.image, 144, f"validation image of class {item.label}, predicted {item.predicted}")
    else:
        body = marked_html(marked_target(item.text, explanation.proponents, cut=cut) if explanation else mark(item.text, ()))
    planted = mark_html(item.planted)
    facts = (
        f'<span>true label {chip_html(item.label)}</span><span class="to-arrow">→</span>'
        f"<span>predicted {chip_html(item.predicted, 'wrong')} with probability {item.probability:.0%}</span>{planted}"
        f'<span class="to-id">{safe(item.id)}</span>'
    )
    return f'<div class="to-target">{body}<div class="to-facts">{facts}</div></div>'
