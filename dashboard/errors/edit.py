"""An edit of an item and its effect: changed text, one part removed, or each in turn.

Shows probabilities and the standing of training items before and after the edit, and the weight of
each part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from turnover.dashboard.engine import Worker
from turnover.dashboard.errors.answer_view import Answer, Question, Reply
from turnover.dashboard.errors.edits_view import (
    Change,
    InputPart,
    Moved,
    Weight,
    compare,
    edited,
    followed,
    parts_of,
    parts_request,
    standing_words,
    unit_of,
    weigh,
)
from turnover.dashboard.errors.regions import patches_html
from turnover.dashboard.errors.worker import ask
from turnover.dashboard.shared.notice import problem, quiet, said
from turnover.errors import TurnoverError
from turnover.explain.explanation import Card
from turnover.explain.html import chip_html, image_html, safe
from turnover.explain.words import snippet
from turnover.runs.run import Run

_MOST, _TEXT, _LEAST = 10, 110, 0.0005


def show_moved(reply: Reply, moved: Moved) -> None:
    """The probabilities after the edit beside the original's; and an edited image."""
    answer = reply.answer
    assert answer
    if reply.question.image:
        st.html(image_html(reply.question.image, 96, "the image, edited"))
    said(f"After the edit: “{answer.predicted}”.{' ' * bool(answer.warning)}{answer.warning}")
    st.html(f'<div class="to-chances">{"".join(map(_chance_html, moved.chances[:_MOST]))}</div>')


def show_items(moved: Moved) -> None:
    """A row for each training item, those that moved most first."""
    heads = ("Training item", "Before", "After")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    rows = "".join(
        f'<tr><th scope="row">{_item_html(card)}</th><td>{standing_words(before)}</td>'
        f"<td>{standing_words(after)}</td></tr>"
        for card, before, after in moved.items[:_MOST]
    )
    body = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    st.html(f'<table class="to-groups to-numbers">{body}</table>')
    quiet("Rank among all training items that push the same way, and share of their push.")


def show_weights(image: bytes, weights: Sequence[Weight], target: str) -> None:
    """What the model says without each part, the largest changes first; on an `image` (b"" for a
    text) also as colours of its patches.
    """
    largest = max(abs(weight.loss) for weight in weights) or 1.0
    if image:
        drawn = image_html(
            image, 160, "the image; patches that matter are in colour, and listed beside it"
        )
        st.html(patches_html(drawn, 160, [weight.loss for weight in weights]))
    telling = [
        weight
        for weight in sorted(weights, key=lambda weight: -abs(weight.loss))
        if abs(weight.loss) >= _LEAST
    ]
    lines = "".join(_weight_html(weight, largest) for weight in telling[:_MOST])
    st.html(f'<div class="to-chances">{lines}</div>')
    quiet(
        f"How sure of “{target}” the model is without each part. Blue: the part speaks for it, "
        "orange: against it."
    )


def _chance_html(change: Change) -> str:
    before = "?" if change.before is None else f"{change.before:.1%}"
    bar = (
        '<div class="to-bar" aria-hidden="true"><i '
        f'style="width:{100 * (change.after or 0):.1f}%"></i></div>'
    )
    return (
        f'<span>{safe(change.name)}</span>{bar}<span class="to-percent">{before} → '
        f"{change.after or 0:.1%}</span>"
    )


def _weight_html(weight: Weight, largest: float) -> str:
    side = "for" if weight.loss > 0 else "against"
    bar = (
        f'<div class="to-bar to-{side}" aria-hidden="true"><i '
        f'style="width:{100 * abs(weight.loss) / largest:.0f}%"></i></div>'
    )
    return (
        f'<span dir="auto">{safe(weight.name)}</span>{bar}<span '
        f'class="to-percent">{weight.probability:.1%}</span>'
    )


def _item_html(card: Card) -> str:
    body = (
        f'<span dir="auto">{safe(snippet(card.text.plain, _TEXT))}</span>'
        if card.text
        else image_html(card.image, 40, f"training image labelled {card.label}")
    )
    return f'{chip_html(card.label)} {body} <span class="to-id">{safe(card.id)}</span>'


# The form

_STATE = "edit"


@dataclass(frozen=True)
class _Edit:
    """The edit of one answer (named by `key`) and its reply; `weights` are None until computed."""

    key: str
    question: Question | None = None
    reply: Reply | None = None
    weights: tuple[Weight, ...] | None = None
    weighing: bool = False


def show_edit(run: Run, worker: Worker, question: Question, answer: Answer, key: str) -> None:
    """The form, and beside it the effect of the edit."""
    target = answer.explanation.target
    quiet(f"All numbers stay about “{target}”, so that they can be compared.")
    parts = parts_of(question, target)
    left, right = st.columns([6, 5], gap="medium")
    with left:
        _form(question, answer, parts, key)
    edit = _current(key)
    if edit.question and edit.reply is None:
        edit = _keep(replace(edit, reply=ask(run, worker, edit.question)))
    if edit.weighing:
        edit = _weighed(worker, answer, parts, edit)
    if edit.weights:
        with left:
            show_weights(question.image, edit.weights, target)
    if edit.reply and edit.reply.answer:
        moved = compare(answer, edit.reply.answer)
        with right:
            show_moved(edit.reply, moved)
        show_items(moved)
    elif edit.reply:
        with right:
            problem("No answer", edit.reply.problem)


def _form(question: Question, answer: Answer, parts: tuple[InputPart, ...], key: str) -> None:
    """The fields and buttons for an edit."""
    if question.text:
        with st.form(f"edit-form-{key}", border=False):
            st.text_area("Edited", value=question.text, key=f"edited-{key}", height=110)
            st.form_submit_button("Ask again", on_click=_ask_edit, args=(question, answer, key))
    if not parts:
        return
    what = unit_of(question)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = [part.name for part in parts]
        chosen = f"part-{key}"
        st.selectbox(
            f"Leave out a {what}",
            names,
            index=None,
            key=chosen,
            on_change=_leave_out,
            args=(answer, parts, key),
            width=240,
        )
        st.button(
            f"Leave out each {what} in turn", key=f"weigh-{key}", on_click=_weigh, args=(key,)
        )


def _current(key: str) -> _Edit:
    edit = st.session_state.get(_STATE)
    return edit if edit and edit.key == key else _Edit(key)


def _keep(edit: _Edit) -> _Edit:
    st.session_state[_STATE] = edit
    return edit


def _ask_edit(question: Question, answer: Answer, key: str) -> None:
    _keep(
        replace(
            _current(key),
            question=edited(question, answer, st.session_state[f"edited-{key}"] or ""),
            reply=None,
        )
    )


def _leave_out(answer: Answer, parts: tuple[InputPart, ...], key: str) -> None:
    part = next((part for part in parts if part.name == st.session_state[f"part-{key}"]), None)
    _keep(
        replace(
            _current(key), question=followed(part.question, answer) if part else None, reply=None
        )
    )


def _weigh(key: str) -> None:
    _keep(replace(_current(key), weighing=True))


def _weighed(worker: Worker, answer: Answer, parts: tuple[InputPart, ...], edit: _Edit) -> _Edit:
    edit = replace(edit, weighing=False)
    try:
        with st.spinner("Asking without each part"):
            return _keep(
                replace(edit, weights=weigh(answer, parts, worker.ask(parts_request(parts))))
            )
    except TurnoverError as error:
        problem("No answer", str(error))
        return _keep(edit)
