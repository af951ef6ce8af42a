"""The list of jobs: progress, errors, and buttons to cancel, resume and forget; and a line on
those at work for every page.

Both are refreshed while a job is active.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

import streamlit as st

from turnover.dashboard.shared.address import RUNS_PAGE
from turnover.dashboard.shared.jobs_view import JobCard, job_cards
from turnover.dashboard.shared.notice import problem
from turnover.dashboard.state import RUN_KEY, runs_folder
from turnover.errors import TurnoverError
from turnover.explain.html import safe
from turnover.jobs import Job, cancel_job, find_jobs, forget_job, resume_job, start_job

_PROBLEM = "job-problem"
_LOOK_AGAIN = 1.0
_LINE_AGAIN = 3.0


def show_jobs(find: Callable[[], list[Job]], meanwhile: Callable[[], object] | None = None) -> None:
    """The jobs that `find` returns, newest first; while one is active, they and what `meanwhile`
    draws are refreshed every second.
    """
    active = _active(find())
    st.fragment(_jobs, run_every=_LOOK_AGAIN if active else None)(find, meanwhile, active)


def begin_job(step: list[str], label: str) -> None:
    """Start a job of one step, or show why it cannot start."""
    try:
        start_job(runs_folder(), [step], label)
    except TurnoverError as error:
        problem("The job did not start", str(error))
        return
    st.rerun()


def _jobs(
    find: Callable[[], list[Job]], meanwhile: Callable[[], object] | None, active: set[str]
) -> None:
    jobs = find()
    if _active(jobs) != active:
        # the whole page: there may be a new run, a new result, or nothing left to wait for
        st.rerun()
    message = st.session_state.pop(_PROBLEM, "")
    if message:
        problem("That was not possible", message)
    for card in job_cards(jobs):
        _card(card)
    if meanwhile:
        meanwhile()


def show_line() -> None:
    """What is at work, in the sidebar of every page, with a link to the jobs; nothing if nothing
    is.
    """
    if _active(find_jobs(runs_folder())):
        st.fragment(_line, run_every=_LINE_AGAIN)()


def _line() -> None:
    jobs = [job for job in find_jobs(runs_folder()) if job.state.active]
    if not jobs:
        st.html('<p class="to-quiet" role="status">The work is done.</p>')
    else:
        card = job_cards(jobs)[-1]
        more = f" {len(jobs) - 1} more." if jobs[1:] else ""
        line = safe(card.line[:120].rstrip("."))
        text = f"<strong>{safe(card.title[:60])}</strong> {line}.{more}"
        st.html(f'<p class="to-quiet" dir="auto">{text}</p>{_progress(card)}')
    # the run stays chosen, since widgets hold it
    st.page_link(RUNS_PAGE, label="Jobs and runs")


def _active(jobs: list[Job]) -> set[str]:
    return {job.id for job in jobs if job.state.active}


def _card(card: JobCard) -> None:
    with st.container(border=True, gap="xsmall"):
        st.html(
            f'<div class="to-line"><strong dir="auto">{safe(card.title[:200])}</strong><span '
            f'class="to-chip">{safe(card.state)}</span></div><p '
            f'class="to-quiet">{safe(card.line[:1000])}</p>'
        )
        if card.share is not None:
            st.html(_progress(card))
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            _buttons(card)
        if card.log:
            st.html(
                '<details class="to-more"><summary>What it said last</summary><pre '
                f'class="to-log">{_lines(card.log)}</pre></details>'
            )


def _progress(card: JobCard) -> str:
    if card.share is None:
        return ""
    return (
        '<div class="to-progress" role="progressbar" aria-label="Progress of the step at work" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{100 * card.share:.0f}">'
        f'<i style="width:{100 * card.share:.1f}%"></i></div>'
    )


def _buttons(card: JobCard) -> None:
    key = f"job-{card.job.id}"
    # a link of the browser's own: Streamlit's would add the run to the URL's, or refuse to drop
    # what widgets hold there
    if card.run:
        where = f"./?{urlencode({RUN_KEY: card.run})}"
        link = f'<a class="to-link" href="{where}" target="_self">Open the run</a>'
        st.html(link, width="content")
    if card.can_cancel:
        st.button("Cancel", key=f"{key}-cancel", on_click=_do, args=(cancel_job, card.job))
    if card.can_resume:
        st.button("Resume", key=f"{key}-resume", on_click=_do, args=(resume_job, card.job))
    if not card.job.state.active:
        st.button(
            "Forget",
            key=f"{key}-forget",
            on_click=_do,
            args=(forget_job, card.job),
            type="tertiary",
        )


def _lines(text: str) -> str:
    return "\n".join(map(safe, text.splitlines()))


def _do(what: Callable[[Job], object], job: Job) -> None:
    try:
        what(job)
    except TurnoverError as error:
        st.session_state[_PROBLEM] = str(error)
