"""The Try page: the form, the questions to the worker, and the answers.

The input is a text, a CSV file of texts or an image, with the label whose loss is explained; or the
validation item that the URL names. For several texts, a table chooses the one explained below it.
Questions wait in the session until the worker is ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from turnover.dashboard.engine import Worker
from turnover.dashboard.errors.answer_view import (
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
from turnover.dashboard.errors.edit import show_edit
from turnover.dashboard.errors.worker import ask, when_ready
from turnover.dashboard.shared.cards import card_controls, sides
from turnover.dashboard.shared.flag_form import current_flags, flag_problem
from turnover.dashboard.shared.notice import heading, problem, quiet, said
from turnover.errors import TurnoverError
from turnover.explain.explanation import marked_target
from turnover.explain.html import chip_html, image_html, marked_html, safe
from turnover.explain.words import run_pieces
from turnover.runs.run import Run

ITEM, _LINKED = "error", "try-linked"
_IMAGES = ["png", "jpg", "jpeg", "webp"]
_PREDICTED = "The predicted one"
_TOPS = (5, 10, 20)


def ask_for_questions(run: Run) -> tuple[Question, ...]:
    """Draw the form; returns its questions when it is sent and valid: one, or one for each row of a
    CSV file.
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
    """The question on the validation item that the URL names, once; a message if there is no such
    item.
    """
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


# The answer

_MOST = 10


def show_prediction(run: Run, question: Question, answer: Answer) -> None:
    """Input and prediction."""
    left, right = st.columns([6, 5], gap="medium")
    with left:
        title = "Your text" if question.text else "Your image, as the model sees it"
        heading(f"Validation item {question.item}" if question.item else title)
        st.html(f'<div class="to-target">{_question_html(run, question, answer)}</div>')
    with right:
        heading(f"Predicted: {answer.predicted}")
        st.html(
            '<div class="to-chances">'
            f"{''.join(map(_chance_html, range(_MOST), answer.probabilities))}</div>"
        )


def show_behind(run: Run, answer: Answer) -> None:
    """The explanation: its sentences and the cards."""
    flags = current_flags(run)
    explanation = answer.explanation
    said(explanation.sentence)
    quiet(explanation.units, explanation.yardstick, f"Computed in {answer.seconds:.2f} s.")
    flag_problem()
    sides(explanation, flags, lambda card: card_controls(run, card, flags.get(card.position)))


def _question_html(run: Run, question: Question, answer: Answer) -> str:
    if question.text:
        return marked_html(
            marked_target(question.text, answer.explanation.proponents, pieces=run_pieces(run))
        )
    given = chip_html(f"your label: {question.label}") if question.label else ""
    return image_html(image_of(run, question), 144, "your image, as the model sees it") + given


def _chance_html(rank: int, chance: Probability) -> str:
    """One class: its name, a bar and the percentage; the first is the prediction."""
    first = ' class="to-first"' if rank == 0 else ""
    bar = (
        '<div class="to-bar" aria-hidden="true"><i '
        f'style="width:{100 * chance.value:.1f}%"></i></div>'
    )
    return (
        f"<span{first}>{safe(chance.label)}</span>{bar}<span "
        f'class="to-percent">{chance.value:.1%}</span>'
    )


# Several texts

ROW, _TABLE = "try-row", "try-table"


def choose_row(replies: Sequence[Reply]) -> int:
    """Draw the table; returns the chosen row, from 0."""
    heading(
        f"{len(replies)} texts",
        "Each with its strongest proponent; influence in nats, on the loss of the label that you "
        "chose above.",
    )
    above = st.container()
    number = int(st.selectbox("Explain row", range(1, len(replies) + 1), key=ROW, width=140))
    st.session_state[_TABLE] = {
        "selection": {"rows": [number - 1], "columns": [], "cells": [(number - 1, "text")]}
    }
    with above:
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


# The questions

_STATE = "try-state"


@dataclass(frozen=True)
class _Batch:
    """The last questions on a run, numbered, and their replies."""

    run: str
    number: int
    questions: tuple[Question, ...]
    replies: tuple[Reply, ...] = ()


def ask_later(run: Run, questions: tuple[Question, ...]) -> None:
    """Store questions, which are asked once the worker is ready."""
    before = st.session_state.get(_STATE)
    st.session_state[_STATE] = _Batch(
        str(run.folder), before.number + 1 if before else 0, questions
    )
    st.session_state[ROW] = 1


def show_reply(run: Run, worker: Worker) -> None:
    """The state of the engine, a failure, or the answer."""
    batch = _last_batch(run)
    meanwhile = (
        "Your question is asked as soon as it is ready."
        if batch and not batch.replies
        else "You can already write."
    )
    when_ready(worker, meanwhile, partial(_reply, run, worker))


def _last_batch(run: Run) -> _Batch | None:
    """The last questions on this run."""
    last = st.session_state.get(_STATE)
    return last if last and last.run == str(run.folder) else None


def _reply(run: Run, worker: Worker) -> None:
    batch = _last_batch(run)
    if batch is None:
        quiet("The model is ready.")
        return
    if not batch.replies:
        batch = _ask_all(run, worker, batch)
    row = choose_row(batch.replies) if len(batch.replies) > 1 else 0
    reply = batch.replies[row]
    if reply.answer is None:
        problem("No answer", reply.problem)
        return
    show_prediction(run, reply.question, reply.answer)
    show_edit(run, worker, reply.question, reply.answer, f"{batch.number}-{row}")
    show_behind(run, reply.answer)


def _ask_all(run: Run, worker: Worker, batch: _Batch) -> _Batch:
    """Ask the questions in turn, and store the replies."""
    total = len(batch.questions)
    with st.spinner(
        "Looking for the training examples behind it"
        if total == 1
        else f"Looking for the training examples behind {total} texts"
    ):
        batch = replace(
            batch, replies=tuple(ask(run, worker, question) for question in batch.questions)
        )
    st.session_state[_STATE] = batch
    return batch
