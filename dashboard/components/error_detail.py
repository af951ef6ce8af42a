"""The chosen error and the training items behind it.

Keys for work through many errors: F flags the strongest unflagged proponent to drop, U takes that
flag back. A popover, drawn when opened, holds the error as Markdown. The session records which
errors were shown. A note appears where the influences are too noisy to be read one by one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamlit as st

from turnover.dashboard.components.address import TRUST_PAGE
from turnover.dashboard.components.cards import card_controls, current_draw, show_random, sides
from turnover.dashboard.components.flag_form import flags_of, stored
from turnover.dashboard.components.notice import problem, quiet, said
from turnover.dashboard.components.regions import show_regions
from turnover.dashboard.components.try_own import ITEM
from turnover.dashboard.state import RUN_KEY, Opened
from turnover.dashboard.views.errors import (
    Visits,
    error_link,
    issue_markdown,
    progress_sentence,
    visit,
)
from turnover.errors import TurnoverError
from turnover.explain.causes import causes
from turnover.explain.explanation import Card, ErrorItem, Explanation, explain_error, marked_target
from turnover.explain.html import chip_html, image_html, mark_html, marked_html, safe
from turnover.explain.words import mark, run_pieces
from turnover.flags import Flag
from turnover.models.encoders import Pieces
from turnover.runs.run import PREDICTION, TRUTH, Run

_LAST = "flags-by-key"
_HELP = "Flags the strongest proponent shown that has no flag yet: drop it from the training set"


def flag_keys(run: Run, explanation: Explanation, flags: dict[int, Flag]) -> None:
    """The two buttons, which show their keys."""
    target = next((card for card in explanation.proponents if card.position not in flags), None)
    last = _last(run, flags)
    st.button(
        "Drop the strongest",
        key="key-drop",
        shortcut="F",
        on_click=_drop,
        args=(run, target),
        disabled=target is None,
        help=_HELP,
    )
    st.button(
        "Take back",
        key="key-back",
        shortcut="U",
        on_click=_back,
        args=(run, last),
        disabled=last is None,
    )


def _last(run: Run, flags: dict[int, Flag]) -> Flag | None:
    """The last flag set by key on this run that is still in force unchanged."""
    in_force = [
        (folder, flag)
        for folder, flag in st.session_state.get(_LAST, [])
        if folder != str(run.folder) or flags.get(flag.instance) == flag
    ]
    st.session_state[_LAST] = in_force
    return next((flag for folder, flag in reversed(in_force) if folder == str(run.folder)), None)


def _drop(run: Run, card: Card) -> None:
    with stored():
        st.session_state[_LAST].append((str(run.folder), flags_of(run).put(card.position, "drop")))


def _back(run: Run, flag: Flag) -> None:
    with stored():
        flags_of(run).clear(flag.instance)


def issue_text(run: Run, item: ErrorItem, explanation: Explanation) -> None:
    """The popover with the error as Markdown."""
    popover = st.popover("Copy as Markdown", key="issue", on_change="rerun", type="tertiary")
    if popover.open:
        with popover:
            meaning = st.session_state.get("meaning") or PREDICTION
            quiet("For an issue tracker or a chat; the button in the corner copies it.")
            link = error_link(st.context.url or "", run.name, item, meaning)
            why = causes(run).by_error[item.position].sentence
            st.code(
                issue_markdown(run.name, item, why, explanation, meaning, link),
                language=None,
                wrap_lines=True,
                height=320,
            )


_TOPS = (5, 10, 20)
_TRY_PAGE = "app_pages/try_own.py"


def show_item(opened: Opened, item: ErrorItem) -> Explanation | None:
    """Draw the error and the choice of what to explain; returns the explanation, None if there is
    no influence.
    """
    above = st.container()
    explanation = None if opened.influence_problem else _explain(opened.run, item)
    with above:
        st.html(_item_html(item, explanation, run_pieces(opened.run)))
    return explanation


def show_training_items(
    run: Run, item: ErrorItem, explanation: Explanation, flags: dict[int, Flag]
) -> None:
    """The buttons for all training items, and the cards."""
    with st.container(horizontal=True, vertical_alignment="center"):
        flag_keys(run, explanation, flags)
        issue_text(run, item, explanation)
        st.page_link(
            _TRY_PAGE,
            label="Change it and see what moves",
            query_params={RUN_KEY: run.name, ITEM: item.id},
        )
    regions = show_regions(run, item, explanation)
    sides(
        explanation, flags, lambda card: card_controls(run, card, flags.get(card.position)), regions
    )


def _explain(run: Run, item: ErrorItem) -> Explanation | None:
    with st.container(horizontal=True, vertical_alignment="top"):
        meaning = st.segmented_control(
            "Influence on the",
            [PREDICTION, TRUTH],
            default=PREDICTION,
            required=True,
            key="meaning",
            bind="query-params",
        )
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


def _item_html(item: ErrorItem, explanation: Explanation | None, pieces: Pieces | None) -> str:
    """The error: its text or image, with the true and the predicted label."""
    if item.image:
        body = image_html(
            item.image, 144, f"validation image of class {item.label}, predicted {item.predicted}"
        )
    else:
        body = marked_html(
            marked_target(item.text, explanation.proponents, pieces=pieces)
            if explanation
            else mark(item.text, (), pieces=pieces)
        )
    injected = mark_html(item.injected)
    facts = (
        f'<span>true label {chip_html(item.label)}</span><span class="to-arrow">→</span>'
        f"<span>predicted {chip_html(item.predicted, 'wrong')} with probability "
        f"{item.probability:.0%}</span>{injected}"
        f'<span class="to-id">{safe(item.id)}</span>'
    )
    return f'<div class="to-target">{body}<div class="to-facts">{facts}</div></div>'


_KEY = "visits"


def progress(run: Run, shown: ErrorItem, matching: Sequence[ErrorItem]) -> str:
    """Record that an error is shown; returns the progress through the matching errors."""
    known = st.session_state.setdefault(_KEY, {})
    visits = known[str(run.folder)] = visit(
        known.get(str(run.folder), Visits()), shown.id, time.monotonic()
    )
    return progress_sentence(visits, [item.id for item in matching])


def trust_note(opened: Opened, explanation: Explanation) -> None:
    """A note on what to read instead, if no single influence of this error, or of any error of the
    run, is distinguishable from noise.
    """
    certainty = opened.certainty
    if certainty is None or (certainty.share and not explanation.advice):
        return
    whose = "of this error" if certainty.share else "of any error of this run"
    reason = (
        f"The influences {whose} are too noisy to read one by one."
        if certainty.known
        else "Nothing tells single influences of one member from noise."
    )
    quiet(f"{reason} Look at groups of training items, or train again with more members.")
    st.page_link(TRUST_PAGE, label="How far to trust this run")
