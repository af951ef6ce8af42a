"""*Try your own* in the headline: a text, a table of texts or an image, asked about like an error.

What is given becomes items of the list at once. The process that holds the model starts with the
first of them; the page stays usable while it loads, and asks for what is shown.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from turnover.dashboard.engine import Worker
from turnover.dashboard.errors.explorer import explorer_of
from turnover.dashboard.errors.list_view import Place
from turnover.dashboard.errors.own_view import (
    MAX_ROWS,
    Collection,
    Own,
    given_of,
    predicted,
    predictions_request,
)
from turnover.dashboard.errors.worker import ask, when_ready
from turnover.dashboard.shared.popover import close, popover
from turnover.dashboard.state import Opened, worker_of
from turnover.errors import TurnoverError
from turnover.runs.run import Run

_OPEN, _TEXT, _FILE = "try", "try-text", "try-file"
_IMAGES = ["png", "jpg", "jpeg", "webp"]
_KEPT = 100
"""Collections that are kept for all tabs."""


def collection_of(opened: Opened) -> Collection:
    """What the tab, or the one whose address it was given, asked of a run."""
    known = _kept().get((str(opened.run.folder), explorer_of(opened.run).yours))
    return known.answered_by(opened.number) if known else Collection(opened.number)


@st.cache_resource(show_spinner=False)
def _kept() -> dict[tuple[str, str], Collection]:
    """The collections of all tabs, by run and token."""
    return {}


def try_button(opened: Opened) -> None:
    """The button in the headline, with its form while it is open."""
    with st.container(key="headline"):
        form = popover("Try your own", _OPEN)
    if form.open:
        with form, st.form("try-form", border=False):
            _fields(opened.run)
            st.form_submit_button("Explain", on_click=_ask, args=(opened,))


def _fields(run: Run) -> None:
    if run.kind == "image":
        st.file_uploader("An image (PNG, JPEG or WebP)", type=_IMAGES, key=_FILE)
        return
    hint = "Paste a text like those the model was trained on"
    st.text_area("Your text", key=_TEXT, height=110, placeholder=hint)
    files = f"Or a .txt file, or a .csv with up to {MAX_ROWS} texts"
    st.file_uploader(files, type=["txt", "csv"], key=_FILE)


def _ask(opened: Opened) -> None:
    """Put what was given into the list, and go there."""
    state, run = st.session_state, opened.run
    file = state.get(_FILE)
    collection, explorer = collection_of(opened), explorer_of(run)
    given = given_of(run, state.get(_TEXT) or "", file and (file.getvalue(), file.name))
    first, kept = collection.add(given), _kept()
    kept[str(run.folder), collection.token] = collection
    while len(kept) > _KEPT:
        kept.pop(next(iter(kept)), None)
    explorer.yours = collection.token
    place = explorer.place
    explorer.go(Place(sort=place.sort, item=first, more=place.more, containing=place.containing))
    close(_OPEN)


def answer_shown(opened: Opened, collection: Collection, item: str) -> None:
    """Ask the model about an item of one's own that is shown and has no answer yet."""
    own = collection.items.get(item)
    if own is None or own.question is None or own.answer or own.problem:
        return
    worker = worker_of(opened.run)
    worker.start()
    meanwhile = "Yours is asked as soon as it is ready."
    when_ready(worker, meanwhile, partial(_answer, opened.run, worker, collection, own))


def _answer(run: Run, worker: Worker, collection: Collection, own: Own) -> None:
    with st.spinner("Asking the model"):
        others = collection.unknown
        if len(others) > 1:
            for one in _predicted(worker, others):
                collection.put(one)
        asked: Any = own.question
        collection.put(own.with_reply(ask(run, worker, asked)))


def _predicted(worker: Worker, owns: list[Own]) -> list[Own]:
    """Several with their predictions, or as they are: each says itself what is wrong with it."""
    try:
        return predicted(owns, worker.ask(predictions_request(owns)))
    except TurnoverError:
        return []
