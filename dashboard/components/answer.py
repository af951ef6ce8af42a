"""The answer of the Try page: the prediction with its probabilities, and the training items behind it."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.card_controls import card_controls
from turnover.dashboard.components.cards import sides
from turnover.dashboard.components.export import flags_bar
from turnover.dashboard.components.flag_form import current_flags, flag_problem
from turnover.dashboard.components.notice import heading, quiet, said
from turnover.dashboard.views.answer import Answer, Probability, Question, image_of
from turnover.report.explanation import marked_target
from turnover.report.fragments import chip_html, image_html, marked_html, safe
from turnover.report.pieces import run_cut
from turnover.runs import Run

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
        st.html(f'<div class="to-chances">{"".join(map(_chance_html, range(_MOST), answer.probabilities))}</div>')


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
        return marked_html(marked_target(question.text, answer.explanation.proponents, cut=run_cut(run)))
    given = chip_html(f"your label: {question.label}") if question.label else ""
    return image_html(image_of(run, question), 144, "your image, as the model sees it") + given


def _chance_html(place: int, chance: Probability) -> str:
    """One class: its name, a bar and the percentage; the first is the prediction."""
    first = ' class="to-first"' if place == 0 else ""
    bar = f'<div class="to-bar" aria-hidden="true"><i style="width:{100 * chance.value:.1f}%"></i></div>'
    return f'<span{first}>{safe(chance.label)}</span>{bar}<span class="to-percent">{chance.value:.1%}</span>'
