"""The Cleanse page: does it help? The measured curve at the left, what would go at the right.

Choices live in the URL. Retraining is a job; what was tried can be taken over as flags, which one
click in the tray takes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from turnover.dashboard.cleanse.cleanse_view import (
    LISTED,
    REPEATS,
    Curve,
    Figure,
    Going,
    Preview,
    build_curve,
    build_offer,
    build_preview,
    decided_of,
    is_new,
    is_whole,
    most_harmful,
    so_far,
    taken_over_note,
)
from turnover.dashboard.shared.address import whole_number
from turnover.dashboard.shared.flag_form import flag_problem, flags_of, stored
from turnover.dashboard.shared.jobs import begin_job, show_jobs
from turnover.dashboard.shared.jobs_view import jobs_with
from turnover.dashboard.shared.notice import chart, heading, notice, problem, quiet, wrong_field
from turnover.dashboard.shared.own_data_view import path_problem, whole
from turnover.dashboard.state import runs_folder, scores_of
from turnover.data.sources.text import CLASSES
from turnover.errors import TurnoverError
from turnover.explain.html import chip_html, image_html, safe
from turnover.flags import Flag
from turnover.jobs import Job, find_jobs
from turnover.runs.run import Run
from turnover.workflows.cleansing_results import (
    ELEC,
    OWN,
    Cleansed,
    Scores,
    curve_of,
    has_scores,
    read_cleansings,
)
from turnover.workflows.cleansing_words import NO, UNCLEAR, YES

if TYPE_CHECKING:
    import plotly.graph_objects as go

_NAMES = {OWN: "The run’s own", ELEC: "Reviews of electronics (Elec)"}
_DONE = "cleanse-taken-over"
_LOOKS = ("#2f74ad", "#8c95a3", "#b0591c")
"""Of the lines, in the order of the view; with contrast 3:1 on the light and the dark page."""


def choose_validation(run: Run) -> tuple[str, str]:
    """The validation set, and the folder of its files, "" for the run's own; asked for where a run
    can be cleansed for more than its own.
    """
    if run.kind != "text" or tuple(run.classes) != CLASSES:
        return OWN, ""
    chosen = st.segmented_control(
        "Validation items",
        list(_NAMES.values()),
        default=_NAMES[OWN],
        required=True,
        key="validation",
        bind="query-params",
    )
    if chosen != _NAMES[ELEC]:
        return OWN, ""
    folder = (
        st.text_input(
            "Folder with the files",
            key="elec-path",
            bind="query-params",
            placeholder="with valid.csv and test.csv",
        )
        or ""
    ).strip()
    if folder and (wrong := path_problem(folder, Path.is_dir, "folder")):
        wrong_field(wrong)
        return ELEC, ""
    return ELEC, whole(folder) if folder else ""


def scores_for(run: Run, validation: str) -> Scores | None:
    """By what a preview sorts before anything is measured; None if there is nothing yet."""
    if not has_scores(run, validation):
        return None
    try:
        return scores_of(run, validation)
    except TurnoverError as error:
        problem("These influences cannot be used", str(error))
        return None


# What retraining came to


def show_curve(
    run: Run, validation: str, path: str, scores: Scores | None, flags: Mapping[int, Flag]
) -> Cleansed | None:
    """The verdict and the curve, or the button that measures it; returns what was measured."""
    measured = curve_of(run, validation)
    path = path or (scores.path if scores else "")
    heading("Does it help?")
    if measured:
        _verdict(measured)
        _figures(build_curve(measured))
    at_work = _jobs(run, validation)
    if not at_work and (validation == OWN or path):
        _offers(run, validation, path, measured, flags)
    elif not at_work:
        notice("Not measured on these reviews yet", "Name the folder with their files above.")
    for text in read_cleansings(run)[1]:
        problem("A result cannot be shown", text)
    return measured


def _verdict(measured: Cleansed) -> None:
    if measured.stale:
        notice("This is out of date", f"{measured.stale} Retrain to know what is so now.")
    finding = build_curve(measured).verdict
    if finding is None:
        return
    doubt = {YES: "", NO: " to-doubt", UNCLEAR: " to-doubt"}.get(finding.word, "")
    st.html(
        f'<p class="to-verdict{doubt}" data-turnover="verdict"><strong>{finding.word}</strong> '
        f"{safe(finding.sentence)}</p>"
    )


def _figures(curve: Curve) -> None:
    if not curve.figures:
        return
    names = [name for name, _ in curve.figures[0].lines]
    marks = zip(("circle", "square", "diamond"), names, strict=False)
    st.html(
        '<p class="to-legend">'
        + "".join(f'<span><i class="to-{mark}"></i>{safe(name)}</span>' for mark, name in marks)
        + '<span><i class="to-dots"></i>nothing removed</span></p>'
    )
    for column, figure in zip(st.columns(2), curve.figures, strict=True):
        with column:
            chart(_drawn(figure), figure.alt)
    quiet(curve.setting)


def _drawn(figure: Figure) -> go.Figure:
    """Points with their intervals by share, beside the level of nothing removed."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    factor, form = (100, ".1f") if figure.percent else (1, ".3f")
    for (name, points), colour in zip(figure.lines, _LOOKS, strict=False):
        reach = {
            side: [0 if end is None else factor * abs(end - point.value) for point, end in ends]
            for side, ends in (
                ("array", [(point, point.high) for point in points]),
                ("arrayminus", [(point, point.low) for point in points]),
            )
        }
        bars = {"type": "data", "symmetric": False, "thickness": 1.25, "width": 4}
        drawn.add_scatter(
            x=[point.name for point in points],
            y=[factor * point.value for point in points],
            error_y=bars | reach,
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2},
            marker={"size": 8, "symbol": {_LOOKS[1]: "square", _LOOKS[2]: "diamond"}.get(colour)},
            hovertemplate=f"%{{x}}: %{{y:{form}}}<extra></extra>",
        )
    drawn.add_hline(
        y=factor * figure.whole,
        line={"dash": "dot", "width": 1.5, "color": "gray"},
    )
    drawn.update_layout(
        height=260,
        margin={"l": 0, "r": 0, "t": 32, "b": 0},
        title={
            "text": f"{figure.title}{', %' if figure.percent else ''}",
            "x": 0,
            "y": 0.98,
            "font": {"size": 14},
        },
        showlegend=False,
        xaxis={
            "title": "Training items removed",
            "type": "category",
            "categoryarray": figure.names,
            "range": [-0.5, len(figure.names) - 0.5],
        },
    )
    return drawn


# Retraining


def _jobs(run: Run, validation: str) -> bool:
    """The jobs on this run, with the curve so far; returns whether one is at work."""

    def find() -> list[Job]:
        return jobs_with(find_jobs(runs_folder()), "cleanse", run.folder)

    def meanwhile() -> None:
        steps = [job.steps[0] for job in find() if job.state.active]
        if partial := so_far(curve_of(run, validation, finished=False), steps):
            quiet("So far:")
            _figures(build_curve(partial))

    jobs = find()
    at_work = any(job.state.active for job in jobs)
    if at_work:
        quiet("Being measured. This page need not stay open.")
    if jobs:
        show_jobs(find, meanwhile if at_work else None)
    return at_work


def _offers(
    run: Run, validation: str, path: str, measured: Cleansed | None, flags: Mapping[int, Flag]
) -> None:
    """The buttons that retrain: for what is not measured yet, and under *More* anything."""
    if run.untrainable:
        problem("Nothing can be trained again", run.untrainable)
        return
    try:
        decisions = decided_of(flags, run)
    except TurnoverError as error:
        problem("The flags cannot be trained on", str(error))
        decisions = None
    if not is_whole(measured) or is_new(decisions, measured):
        offer = build_offer(run, validation, path, measured, decisions)
        if st.button(offer.label, key="cleanse-retrain"):
            begin_job(list(offer.step), f"Cleanse {run.name}")
        return
    with st.expander("More trainings"):
        repeats = whole_number(
            "Trainings each", 2, 50, 2 * REPEATS, key="repeats", bind="query-params", width=140
        )
        offer = build_offer(run, validation, path, measured, decisions, int(repeats))
        if st.button(offer.label, key="cleanse-more"):
            begin_job(list(offer.step), f"Cleanse {run.name}: {repeats} trainings each")


# What would go


def show_preview(
    run: Run,
    validation: str,
    scores: Scores | None,
    measured: Cleansed | None,
    flags: Mapping[int, Flag],
) -> None:
    """The share, what it would remove, and the button that takes it over as flags."""
    heading("What would go")
    chosen = measured.facts["chosen"] if measured and not measured.stale else None
    percent = st.slider(
        "Share of the training items",
        1,
        20,
        min(20, max(1, round(100 * chosen))) if chosen else 5,
        format="%d %%",
        key="share",
        bind="query-params",
    )
    if scores is None:
        quiet("What would go is known once something is measured on these reviews.")
        return
    share = percent / 100
    try:
        preview = build_preview(run, most_harmful(run, share, measured, scores), flags)
    except TurnoverError as error:
        problem("Nothing can be removed so", str(error))
        return
    classes = "".join(
        f"<span>{chip_html(name)} {gone:,} of {there:,}</span>"
        for name, gone, there in preview.classes
    )
    st.html(f'<p class="to-said">{safe(preview.sentence)}</p><div class="to-facts">{classes}</div>')
    if measured is None or measured.stale:
        quiet("Not measured yet: measuring sorts by half of the validation items, this by all.")
    _take_over(run, preview, taken_over_note(share, validation))
    items = "".join(map(_going_html, preview.items))
    named = f'class="to-going to-{run.kind}s" tabindex="0" aria-label="What would go"'
    st.html(f"<ul {named}>{items}</ul>")
    more = len(preview.positions) - len(preview.items)
    if more > 0:
        quiet(f"The first {LISTED} are shown, the most harmful first; {more:,} more would go.")


def _going_html(item: Going) -> str:
    looks = "wrong" if item.otherwise else "flag"
    decided = f'<span class="to-chip to-{looks}">{safe(item.decided)}</span>'
    content = (
        image_html(item.image, 56, f"training image labelled {item.label}")
        if item.image
        else f'<span dir="auto">{safe(item.text)}</span>'
    )
    chips = f"{chip_html(item.label)}{decided if item.decided else ''}"
    return f'<li title="{safe(item.id)}">{content}<div>{chips}</div></li>'


def _take_over(run: Run, preview: Preview, note: str) -> None:
    new = preview.undecided
    st.button(
        f"Take over {len(new):,} items as flags" if new else "All of them are decided",
        key="cleanse-take-over",
        on_click=_store,
        args=(run, new, note),
        disabled=not new,
    )
    flag_problem()
    if words := st.session_state.pop(_DONE, ""):
        quiet(words)


def _store(run: Run, positions: tuple[int, ...], note: str) -> None:
    with stored():
        flags = flags_of(run)
        known = flags.current()  # somebody may have decided meanwhile
        undecided = [position for position in positions if position not in known]
        flags.put_many(undecided, "drop", note=note)
        st.session_state[_DONE] = (
            f"{len(undecided):,} training items are flagged to drop; Review, at the top, undoes it."
        )
