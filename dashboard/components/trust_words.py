"""The top of the Trust page: the sentence, the numbers, and what the words on the cards mean in this run."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.notice import heading, quiet
from turnover.dashboard.views.trust import Trust
from turnover.report.fragments import safe


def show_trust(trust: Trust) -> None:
    """The sentence in large print, and the numbers behind it."""
    verdict(trust.sentence, trust.readable)
    with st.grid(4, min_column_width=150):
        for number in trust.numbers:
            st.metric(number.name, number.value, border=True, help=number.help)


def verdict(sentence: str, good: bool) -> None:
    """A sentence in large print, with a rule in the colour of good or of bad news beside it."""
    st.html(f'<p class="to-verdict {"" if good else "to-doubt"}">{safe(sentence)}</p>')


def show_words(trust: Trust) -> None:
    """Strong, weak and the rest, in plain words, and what is known of them."""
    heading("What the words on the cards mean here")
    items = "".join(f"<dt>{safe(word.word)}</dt><dd>{safe(word.meaning)}{f' <em>{safe(word.here)}</em>' if word.here else ''}</dd>" for word in trust.words)
    st.html(f'<dl class="to-words">{items}</dl>')
    quiet(*trust.checked)
