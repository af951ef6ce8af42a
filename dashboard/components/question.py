"""The form of the Try page: a text, a file of texts or an image of one's own, and the class that is meant."""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from turnover.dashboard.components.notice import problem
from turnover.dashboard.views.answer import Question, image_question, item_question, text_question
from turnover.dashboard.views.batch import MAX_ROWS, batch_questions
from turnover.errors import TurnoverError
from turnover.runs import Run

ITEM, _LINKED = "error", "try-linked"
_IMAGES = ["png", "jpg", "jpeg", "webp"]
_PREDICTED = "The predicted one"
_TOPS = (5, 10, 20)


def ask_for_questions(run: Run) -> tuple[Question, ...]:
    """The form; returns what is asked when it is sent and can be used: one question, or one for each row of a CSV file."""
    with st.form("try-form"):
        text, upload = "", None
        if run.kind == "text":
            text = st.text_area("Your text", key="try-text", height=130, placeholder="Paste a text like those the model was trained on") or ""
            upload = st.file_uploader(f"Or a .txt file, or a CSV of up to {MAX_ROWS} texts (column text)", type=["txt", "csv"], key="try-file")
        else:
            upload = st.file_uploader("Your image (PNG, JPEG or WebP)", type=_IMAGES, key="try-image")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            label = st.selectbox("Influence on the loss of", [_PREDICTED, *run.classes], key="try-label", width=240)
            top = st.selectbox("Items per side", _TOPS, key="try-top", width=140)
            sent = st.form_submit_button("Explain")
    if not sent:
        return ()
    file, meant = _content(upload), None if label == _PREDICTED else label
    try:
        if file and file[1].lower().endswith(".csv"):
            return batch_questions(*file, meant, top)
        return (text_question(text, file, meant, top) if run.kind == "text" else image_question(run, file, meant, top),)
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
