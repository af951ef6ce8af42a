"""The form of the Try page: a text, a file of texts or an image of one's own, and the class that is
meant.

The answer of the Try page: the prediction with its probabilities, and the training items behind it.

The table of many texts: a click, an arrow key or the select box chooses the one that is explained
below.

Asks the worker as soon as it is ready, and shows its reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from turnover.dashboard.components.cards import card_controls, sides
from turnover.dashboard.components.edit import show_edit
from turnover.dashboard.components.flag_form import current_flags, flag_problem
from turnover.dashboard.components.flags import flags_bar
from turnover.dashboard.components.notice import heading, problem, quiet, said
from turnover.dashboard.components.worker import ask, when_ready
from turnover.dashboard.engine import Worker
from turnover.dashboard.views.answer import (
    MAX_ROWS,
    Answer,
    Probability,
    Question,
    Reply,
    batch_questions,
    batch_table,
    image_of,
    image_question,
    item_question,
    text_question,
)
from turnover.errors import TurnoverError
from turnover.explain.explanation import marked_target
from turnover.explain.html import chip_html, image_html, marked_html, safe
from turnover.explain.words import run_splitter
from turnover.runs.run import Run

ITEM, _LINKED = "error", "try-linked"
_IMAGES = ["png", "jpg", "jpeg", "webp"]
_PREDICTED = "The predicted one"
_TOPS = (5, 10, 20)


def ask_for_questions(run: Run) -> tuple[Question, ...]:
    """The form; returns what is asked when it is sent and can be used: one question, or one for
    each row of a CSV file.
    """
    with st.form("try-form"):
        text, upload = "", None
        if run.kind == "text":
            text = (
                st.text_area(
                    "Your text",
                    key="try-text",
                    height=130,
                    placeholder="Paste a text like those the model was trained on",
                )
                or ""
            )
            upload = st.file_uploader(
                f"Or a .txt file, or a CSV of up to {MAX_ROWS} texts (column text)",
                type=["txt", "csv"],
                key="try-file",
            )
        else:
            upload = st.file_uploader(
                "Your image (PNG, JPEG or WebP)", type=_IMAGES, key="try-image"
            )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            label = st.selectbox(
                "Influence on the loss of", [_PREDICTED, *run.classes], key="try-label", width=240
            )
            top = st.selectbox("Items per side", _TOPS, key="try-top", width=140)
            sent = st.form_submit_button("Explain")
    if not sent:
        return ()
    file, meant = _content(upload), None if label == _PREDICTED else label
    try:
        if file and file[1].lower().endswith(".csv"):
            return batch_questions(*file, meant, top)
        return (
            (
                text_question(text, file, meant, top)
                if run.kind == "text"
                else image_question(run, file, meant, top)
            ),
        )
    except TurnoverError as error:
        problem("This cannot be explained", str(error))
        return ()


def asked_by_link(run: Run) -> tuple[Question, ...]:
    """The validation item that the URL names, once; a line says so if there is no such item."""
    item = st.query_params.get(ITEM, "")
    try:
        question = item_question(run, item) if item else None
    except TurnoverError as error:
        problem("This cannot be explained", str(error))
        return ()
    if question is None or st.session_state.get(_LINKED) == (str(run.folder), item):
        return ()
    st.session_state[_LINKED] = (str(run.folder), item)
    return (question,)


def _content(upload: UploadedFile | None) -> tuple[bytes, str] | None:
    return (upload.getvalue(), upload.name) if upload else None


_MOST = 10


def show_prediction(run: Run, question: Question, answer: Answer) -> None:
    """Input and prediction."""
    left, right = st.columns([6, 5], gap="medium")
    with left:
        own = "Your text" if question.text else "Your image, as the model sees it"
        heading(f"Validation item {question.item}" if question.item else own)
        st.html(f'<div class="to-target">{_question_html(run, question, answer)}</div>')
    with right:
        heading(f"Predicted: {answer.predicted}")
        st.html(
            '<div class="to-chances">'
            f"{''.join(map(_chance_html, range(_MOST), answer.probabilities))}</div>"
        )


def show_behind(run: Run, answer: Answer) -> None:
    """What the numbers mean, and the cards."""
    flags = current_flags(run)
    flags_bar(run, len(flags))
    explanation = answer.explanation
    said(explanation.sentence)
    quiet(explanation.units, explanation.yardstick, f"Computed in {answer.seconds:.2f} s.")
    flag_problem()
    sides(explanation, flags, lambda card: card_controls(run, card, flags.get(card.position)))


def _question_html(run: Run, question: Question, answer: Answer) -> str:
    if question.text:
        return marked_html(
            marked_target(question.text, answer.explanation.proponents, cut=run_splitter(run))
        )
    given = chip_html(f"your label: {question.label}") if question.label else ""
    return image_html(image_of(run, question), 144, "your image, as the model sees it") + given


def _chance_html(place: int, chance: Probability) -> str:
    """One class: its name, a bar and the percentage; the first is the prediction."""
    first = ' class="to-first"' if place == 0 else ""
    bar = (
        '<div class="to-bar" aria-hidden="true"><i '
        f'style="width:{100 * chance.value:.1f}%"></i></div>'
    )
    return (
        f"<span{first}>{safe(chance.label)}</span>{bar}<span "
        f'class="to-percent">{chance.value:.1%}</span>'
    )


ROW, _TABLE = "try-row", "try-table"


def choose_row(replies: Sequence[Reply]) -> int:
    """The table, and which of its rows (from 0) is chosen."""
    heading(
        f"{len(replies)} texts",
        "Each with its strongest proponent; influence in nats, on the loss of the label that you "
        "chose above.",
    )
    place = st.container()
    number = int(st.selectbox("Explain row", range(1, len(replies) + 1), key=ROW, width=140))
    st.session_state[_TABLE] = {
        "selection": {"rows": [number - 1], "columns": [], "cells": [(number - 1, "text")]}
    }
    with place:
        st.dataframe(
            batch_table(replies),
            key=_TABLE,
            on_select=_picked,
            selection_mode=("single-row", "single-cell"),
            column_config={
                "text": st.column_config.TextColumn("Text", width=240),
                "predicted": st.column_config.TextColumn("Predicted"),
                "probability": st.column_config.NumberColumn("Prob.", format="%.0f%%"),
                "proponent": st.column_config.TextColumn("Strongest proponent", width=240),
                "label": st.column_config.TextColumn("Its label"),
                "influence": st.column_config.NumberColumn("Influence", format="%+.3f"),
                "trust": st.column_config.TextColumn("Trust"),
            },
            hide_index=True,
            lazy=False,
            alt=(
                "Your texts with their predictions; choosing one shows the training items behind it"
            ),
        )
    return number - 1


def _picked() -> None:
    selection = st.session_state[_TABLE]["selection"]
    rows = [cell[0] for cell in selection["cells"]] or selection["rows"]
    if rows:
        st.session_state[ROW] = rows[0] + 1


_STATE = "try-state"


@dataclass(frozen=True)
class _Asked:
    """The last questions, by number, and what came back to each of them."""

    run: str
    number: int
    questions: tuple[Question, ...]
    replies: tuple[Reply, ...] = ()


def ask_later(run: Run, questions: tuple[Question, ...]) -> None:
    """Note questions; they are asked as soon as the worker is ready."""
    before = st.session_state.get(_STATE)
    st.session_state[_STATE] = _Asked(
        str(run.folder), before.number + 1 if before else 0, questions
    )
    st.session_state[ROW] = 1


def show_reply(run: Run, worker: Worker) -> None:
    """What there is to show: the engine warming up, a failure, or the answer."""
    asked = _asked(run)
    meanwhile = (
        "Your question is asked as soon as it is ready."
        if asked and not asked.replies
        else "You can already write."
    )
    when_ready(worker, meanwhile, partial(_reply, run, worker))


def _asked(run: Run) -> _Asked | None:
    """What was asked of this run."""
    asked = st.session_state.get(_STATE)
    return asked if asked and asked.run == str(run.folder) else None


def _reply(run: Run, worker: Worker) -> None:
    asked = _asked(run)
    if asked is None:
        quiet("The model is ready.")
        return
    if not asked.replies:
        asked = _ask_all(run, worker, asked)
    row = choose_row(asked.replies) if len(asked.replies) > 1 else 0
    reply = asked.replies[row]
    if reply.answer is None:
        problem("No answer", reply.problem)
        return
    show_prediction(run, reply.question, reply.answer)
    show_edit(run, worker, reply.question, reply.answer, f"{asked.number}-{row}")
    show_behind(run, reply.answer)


def _ask_all(run: Run, worker: Worker, asked: _Asked) -> _Asked:
    """Ask one question after the other; an answer that is there stays there."""
    total = len(asked.questions)
    with st.spinner(
        "Looking for the training examples behind it"
        if total == 1
        else f"Looking for the training examples behind {total} texts"
    ):
        asked = replace(
            asked, replies=tuple(ask(run, worker, question) for question in asked.questions)
        )
    st.session_state[_STATE] = asked
    return asked
