"""What is reached below list and pane, one at a time, and drawn only while it is open."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from turnover.dashboard.engine import Worker
from turnover.dashboard.errors.answer_view import Reply, item_question
from turnover.dashboard.errors.edit import show_edit
from turnover.dashboard.errors.markdown_view import error_link, issue_markdown
from turnover.dashboard.errors.regions import show_regions
from turnover.dashboard.errors.worker import ask, when_ready
from turnover.dashboard.shared.address import trust_link
from turnover.dashboard.shared.cards import card_controls, sides
from turnover.dashboard.shared.flag_form import current_flags, flag_problem
from turnover.dashboard.shared.groups import show_groups
from turnover.dashboard.shared.notice import problem, quiet, said
from turnover.dashboard.state import Opened, worker_of
from turnover.errors import TurnoverError
from turnover.explain.explanation import ErrorItem, explain_error
from turnover.explain.html import marked_html
from turnover.explain.words import mark, run_pieces
from turnover.runs.proofs import proofs_of, read_proofs, verdicts
from turnover.runs.run import PREDICTION, TRUTH

_OPEN, _CHOICE, _ANSWER = "more", "more-choice", "more-answer"
_TOP = 10


def show_more(opened: Opened, item: ErrorItem) -> None:
    """The choice of what to look at, and that."""
    expander = st.expander("More", key=_OPEN, on_change="rerun")
    if not expander.open:
        return
    parts: dict[str, Callable[[Opened, ErrorItem], None]] = {
        "Groups": _groups,
        "Change it": _change,
        "Why not the true label?": _truth,
        "All numbers": _numbers,
        "Copy as Markdown": _markdown,
    }
    if item.image:
        parts = {"Regions": _regions, **parts}
    with expander:
        chosen = st.segmented_control(
            "More",
            list(parts),
            default="Groups",
            required=True,
            key=_CHOICE,
            label_visibility="collapsed",
        )
        try:
            parts.get(chosen or "", _groups)(opened, item)
        except TurnoverError as error:
            problem("This error has no influence", str(error))


def _groups(opened: Opened, item: ErrorItem) -> None:
    show_groups(opened.run, item)


def _truth(opened: Opened, item: ErrorItem) -> None:
    _sides(opened, item, TRUTH)


def _numbers(opened: Opened, item: ErrorItem) -> None:
    """The teachers with nats, standard errors and trust words."""
    _sides(opened, item, PREDICTION)


def _sides(opened: Opened, item: ErrorItem, meaning: str) -> None:
    run, flags = opened.run, current_flags(opened.run)
    explanation = explain_error(run, item, meaning, _TOP)
    said(explanation.sentence)
    quiet(explanation.units, explanation.yardstick)
    if explanation.advice:
        trust_link(run)
    flag_problem()
    proofs = proofs_of(read_proofs(run)[0], item.position) if meaning == PREDICTION else []
    known = verdicts(proofs)
    sides(
        explanation,
        flags,
        lambda card: card_controls(run, card, flags.get(card.position)),
        lambda card: _verdict_html(known.get(card.position, "")),
    )


def _verdict_html(verdict: str) -> str:
    """What retraining without a training item and others showed; "" if that was not tried."""
    return verdict and f'<p class="to-quiet">retraining: {verdict}</p>'


def _regions(opened: Opened, item: ErrorItem) -> None:
    run, flags = opened.run, current_flags(opened.run)
    explanation = explain_error(run, item, PREDICTION, 5)
    regions = show_regions(run, item, explanation)
    sides(explanation, flags, lambda card: None, regions)


def _change(opened: Opened, item: ErrorItem) -> None:
    """The text or image to be changed, with each word or patch left out in turn."""
    if opened.influence_problem:
        raise TurnoverError(opened.influence_problem)
    worker = worker_of(opened.run)
    worker.start()
    when_ready(worker, "It can be changed as soon as it is.", partial(_edit, opened, worker, item))


def _edit(opened: Opened, worker: Worker, item: ErrorItem) -> None:
    run = opened.run
    if item.text:
        st.html(marked_html(mark(item.text, (), pieces=run_pieces(run))))
    key, reply = st.session_state.get(_ANSWER, ("", None))
    if key != f"{run.folder} {item.id}":
        reply = ask(run, worker, item_question(run, item.id))
        st.session_state[_ANSWER] = (f"{run.folder} {item.id}", reply)
    assert isinstance(reply, Reply)
    if reply.answer is None:
        problem("No answer", reply.problem)
    else:
        show_edit(run, worker, reply.question, reply.answer, f"error-{item.id}")


def _markdown(opened: Opened, item: ErrorItem) -> None:
    quiet("For an issue tracker or a chat; the button in the corner copies it.")
    run, known = opened.run, opened.causes
    if known is None:
        raise TurnoverError(opened.influence_problem)
    explanation = explain_error(run, item, PREDICTION, 5, doubts=known.doubts)
    why, link = known.by_error[item.position].sentence, st.context.url or ""
    proofs, link = proofs_of(read_proofs(run)[0], item.position), error_link(link, run.name, item)
    st.code(
        issue_markdown(run.name, item, why, explanation, link, proofs),
        language=None,
        wrap_lines=True,
        height=320,
    )
