"""Try your own: a text or an image, its prediction, and the training items behind it."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.errors.try_own import (
    ask_for_questions,
    ask_later,
    asked_by_link,
    show_reply,
)
from turnover.dashboard.shared.notice import no_influence, quiet
from turnover.dashboard.state import current_run, worker_of

opened = current_run()
quiet(
    f"See what the model makes of {'a text' if opened.run.kind == 'text' else 'an image'} of yours,"
    " and which training examples made it say so."
)
if opened.influence_problem:
    no_influence(opened.run, opened.influence_problem)
    st.stop()
worker = worker_of(opened.run)
worker.start()
questions = ask_for_questions(opened.run) or asked_by_link(opened.run)
if questions:
    ask_later(opened.run, questions)
show_reply(opened.run, worker)
