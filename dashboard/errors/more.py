"""What is reached below list and pane, one at a time, and drawn only while it is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import streamlit as st

from turnover.dashboard.engine import Worker
from turnover.dashboard.errors.answer_view import Answer, Reply, question_of
from turnover.dashboard.errors.edit import show_edit
from turnover.dashboard.errors.explorer import MORE, PART, PARTS, more_changed
from turnover.dashboard.errors.markdown_view import issue_markdown, item_link
from turnover.dashboard.errors.own_view import Collection
from turnover.dashboard.errors.regions import show_regions
from turnover.dashboard.errors.worker import ask, when_ready
from turnover.dashboard.shared.address import trust_link
from turnover.dashboard.shared.cards import card_controls, sides
from turnover.dashboard.shared.flag_form import current_flags, flag_problem
from turnover.dashboard.shared.groups import show_groups
from turnover.dashboard.shared.notice import problem, quiet, said
from turnover.dashboard.state import Opened, worker_of
from turnover.errors import TurnoverError
from turnover.explain.explanation import ErrorItem, Explanation, explain_error
from turnover.runs.proofs import proofs_of, read_proofs, verdicts
from turnover.runs.run import PREDICTION, TRUTH

_ANSWER = "more-answer"
_TOP = 10


def show_more(opened: Opened, item: ErrorItem, collection: Collection) -> None:
    """The choice of what to look at, and that; nothing for an own item without an answer."""
    own = collection.items.get(item.id) if item.position < 0 else None
    if own and not own.answer:
        return
    changed, state = partial(more_changed, opened.run), st.session_state
    expander = st.expander("More", key=MORE, on_change=changed)
    if not expander.open:
        return
    parts: dict[str, Callable[[], None]] = {
        "groups": lambda: show_groups(opened.run, item, changed),
        "change": lambda: _with_model(opened, partial(_change, opened, item)),
        "truth": partial(_truth, opened, item),
        "numbers": lambda: _sides(
            opened,
            partial(_explained, opened, item, PREDICTION),
            verdicts(proofs_of(read_proofs(opened.run)[0], item.position)),
        ),
        "markdown": partial(_markdown, opened, item, ""),
    }
    if opened.run.scored:
        del parts["change"]
    elif item.image:
        parts["regions"] = lambda: show_regions(opened.run, item, _explained(opened, item))
    if own and own.answer:
        parts |= _of_own(opened, item, own.answer, collection.token)
        del parts["groups"]
    with expander:
        if state.get(PART) not in parts:
            state[PART] = next(iter(parts))
        chosen = st.segmented_control(
            "More",
            [name for name in PARTS if name in parts],
            format_func=PARTS.__getitem__,
            required=True,
            key=PART,
            on_change=changed,
            label_visibility="collapsed",
        )
        try:
            parts[str(chosen)]()
        except TurnoverError as error:
            problem("This has no influence", str(error))


def _of_own(
    opened: Opened, item: ErrorItem, answer: Answer, token: str
) -> dict[str, Callable[[], None]]:
    """The parts that are others for an item of one's own."""
    parts: dict[str, Callable[[], None]] = {
        "change": lambda: _with_model(opened, lambda worker: _edit(opened, worker, item, answer)),
        "truth": lambda: _with_model(opened, partial(_other_label, opened, item, answer)),
        "numbers": partial(_sides, opened, lambda: answer.explanation),
        "markdown": partial(_markdown, opened, item, token, answer),
    }
    if item.image:
        parts["regions"] = lambda: show_regions(opened.run, item, answer.explanation)
    return parts


def _explained(opened: Opened, item: ErrorItem, meaning: str = PREDICTION) -> Explanation:
    doubts = opened.causes.doubts if opened.causes else None
    return explain_error(opened.run, item, meaning, _TOP, doubts=doubts)


def _truth(opened: Opened, item: ErrorItem) -> None:
    _sides(opened, partial(_explained, opened, item, TRUTH))


def _other_label(opened: Opened, item: ErrorItem, answer: Answer, worker: Worker) -> None:
    """What speaks for a label that the model did not give to an item of one's own."""
    others = [name for name in answer.probabilities if name != answer.predicted]
    label = st.selectbox("Why not", others, key=f"why-not-{item.id}", width=240)
    reply = _reply_to(opened, worker, item, str(label))
    if reply.answer is None:
        raise TurnoverError(reply.problem)
    explanation = reply.answer.explanation
    _sides(opened, lambda: explanation)


def _sides(
    opened: Opened, explain: Callable[[], Explanation], proved: Mapping[int, str] | None = None
) -> None:
    """Both sides, with nats, standard errors, what is uncertain, and the verdicts of proofs by
    training item.
    """
    run, flags, explanation = opened.run, current_flags(opened.run), explain()
    said(explanation.sentence)
    quiet(explanation.units, explanation.yardstick)
    if explanation.advice:
        trust_link(run)
    flag_problem()
    sides(
        explanation,
        flags,
        lambda card: card_controls(run, card, flags.get(card.position)),
        lambda card: _verdict_html((proved or {}).get(card.position, "")),
    )


def _verdict_html(verdict: str) -> str:
    """What retraining without a training item and others showed; "" if that was not tried."""
    return verdict and f'<p class="to-quiet">retraining: {verdict}</p>'


# What the model is asked


def _with_model(opened: Opened, draw: Callable[[Worker], None]) -> None:
    """Draw what needs the model, once it is loaded."""
    if opened.influence_problem:
        raise TurnoverError(opened.influence_problem)
    worker = worker_of(opened.run)
    worker.start()
    when_ready(worker, "It can be changed as soon as it is.", partial(draw, worker))


def _reply_to(opened: Opened, worker: Worker, item: ErrorItem, label: str | None = None) -> Reply:
    """The model's answer on an item as it is; kept while the item stays the same."""
    question = replace(question_of(item), label=label)
    about, (known, reply) = (opened.number, question), st.session_state.get(_ANSWER, (None, None))
    if known != about:
        reply = ask(opened.run, worker, question)
        st.session_state[_ANSWER] = (about, reply)
    assert isinstance(reply, Reply)
    return reply


def _change(opened: Opened, item: ErrorItem, worker: Worker) -> None:
    reply = _reply_to(opened, worker, item)
    if reply.answer is None:
        problem("No answer", reply.problem)
    else:
        _edit(opened, worker, item, reply.answer)


def _edit(opened: Opened, worker: Worker, item: ErrorItem, answer: Answer) -> None:
    """The text or image to be changed, with each word or patch left out in turn."""
    show_edit(opened.run, worker, question_of(item), answer, f"{opened.number}-{item.id}")


def _markdown(opened: Opened, item: ErrorItem, token: str, answer: Answer | None = None) -> None:
    quiet("For an issue tracker or a chat; the button in the corner copies it.")
    causes, run = opened.causes, opened.run
    cause = answer.cause if answer else causes and causes.by_error[item.position]
    if not cause:
        raise TurnoverError(opened.influence_problem)
    explanation = answer.explanation if answer else _explained(opened, item)
    proofs = () if answer else proofs_of(read_proofs(run)[0], item.position)
    link = item_link(st.context.url or "", run.name, item.id, token)
    st.code(
        issue_markdown(run.name, item, cause.sentence, explanation, link, proofs),
        language=None,
        wrap_lines=True,
        height=320,
    )
