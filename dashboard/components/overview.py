"""Pieces of the Overview: what the run is, how far to trust it, and the errors to begin with."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from turnover.dashboard.components.links import TRUST_PAGE, errors_link
from turnover.dashboard.components.notice import heading, no_influence, quiet
from turnover.dashboard.components.trust_words import verdict
from turnover.dashboard.state import Opened
from turnover.dashboard.views.overview import Start
from turnover.dashboard.views.runs import share_words
from turnover.dashboard.views.trust import GOAL, sentence_of
from turnover.report.facts import run_facts
from turnover.report.fragments import chip_html, image_html, mark_html, safe
from turnover.report.words import snippet
from turnover.runs import Run


def show_accuracy(run: Run, errors: int) -> None:
    """Accuracy with and without turn-over dropout, and how many errors there are."""
    results = run.manifest["results"]
    with st.grid(4, min_column_width=150):
        st.metric("Validation accuracy", f"{results['validation_accuracy']:.1%}", border=True, help="With turn-over dropout")
        st.metric("Plain twin accuracy", share_words(results["plain_accuracy"]), border=True, help="The same network, trained alike without turn-over dropout")
        st.metric("Errors", f"{errors:,}", border=True, help=f"Of {len(run.validation):,} validation items")
        st.metric("Members", f"{results['members']:,}", border=True, help="Models that differ in masks, initialisation and batches")


def show_signal(opened: Opened) -> None:
    """Whether single influences of the run can be read, or that there are none yet."""
    if opened.certainty is None:
        no_influence(opened.run, opened.influence_problem)
    else:
        verdict(sentence_of(opened.certainty), opened.certainty.share >= GOAL)
        st.page_link(TRUST_PAGE, label="How far to trust this run")


def show_starts(run: Run, starts: Sequence[Start]) -> None:
    """The errors to begin with, each with its reason and a link."""
    heading("Three errors to begin with" if len(starts) > 2 else "Errors to begin with")
    with st.grid(len(starts), min_column_width=260):
        for start in starts:
            with st.container(border=True, gap="xsmall"):
                st.html(_start_html(start))
                errors_link(run, f"Open error {start.item.rank + 1:,}", item=start.item.id)


def show_facts(opened: Opened) -> None:
    """What the run is, as far as its manifests say."""
    heading("This run")
    facts = run_facts(opened.run, with_influence=not opened.influence_problem)
    st.html(f'<dl class="to-about">{"".join(f"<div><dt>{safe(name)}</dt><dd>{safe(value)}</dd></div>" for name, value in facts.items())}</dl>')
    if opened.run.manifest.get("leaks") == []:
        quiet("Nothing is listed that leaks from one training item’s half of the network into the other.")


def _start_html(start: Start) -> str:
    item = start.item
    if item.image:
        body = image_html(item.image, 96, f"validation image of class {item.label}, predicted {item.predicted}")
    else:
        body = f'<div class="to-text" dir="auto">{safe(snippet(item.text, 220))}</div>'
    facts = f'{chip_html(item.label)}<span class="to-arrow">→</span>{chip_html(item.predicted, "wrong")}{mark_html(item.planted)}'
    return f'{body}<div class="to-facts">{facts}<span class="to-id">{safe(item.id)}</span></div><p class="to-quiet">{safe(start.why)}</p>'
