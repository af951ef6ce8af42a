"""The Cleanse page: choice of the validation set and share, the planned removal, and retraining.

Choices live in the URL. The figure is a histogram of the training items' mean influences, with the
removed items marked; adopting the removal stores it as flags to drop.
"""

from __future__ import annotations

from math import log10
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from turnover.dashboard.cleanse.cleanse_view import (
    LISTED,
    Removal,
    adoption_note,
    build_adoption,
    build_plan,
    build_retrained,
    is_of,
)
from turnover.dashboard.shared.address import trust_link, whole_number
from turnover.dashboard.shared.jobs import begin_job, show_jobs
from turnover.dashboard.shared.jobs_view import jobs_with
from turnover.dashboard.shared.notice import (
    chart,
    heading,
    notice,
    problem,
    quiet,
    said,
    wrong_field,
)
from turnover.dashboard.shared.own_data_view import path_problem, whole
from turnover.dashboard.state import runs_folder, scores_of
from turnover.data.sources.text import CLASSES
from turnover.errors import TurnoverError
from turnover.flags import Flag, Flags
from turnover.jobs import Job, find_jobs
from turnover.runs.run import Run
from turnover.workflows.cleansing_results import (
    ELEC,
    OWN,
    Cleansed,
    Scores,
    has_scores,
    read_cleansings,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go


_NAMES = {OWN: "The run’s own", ELEC: "Reviews of electronics (Elec)"}


def choose_scores(run: Run) -> tuple[str, Scores | None]:
    """The chosen validation set and the scores on it; the scores are None, with a hint how to
    compute them, if there are none yet.
    """
    validation = OWN
    if run.kind == "text" and tuple(run.classes) == CLASSES:
        chosen = st.segmented_control(
            "Cleanse for",
            list(_NAMES.values()),
            default=_NAMES[OWN],
            required=True,
            key="validation",
            bind="query-params",
        )
        validation = next(
            name for name, words in _NAMES.items() if words == (chosen or _NAMES[OWN])
        )
    if has_scores(run, validation):
        try:
            return validation, scores_of(run, validation)
        except TurnoverError as error:
            problem("These influences cannot be used", str(error))
            if validation == OWN:
                return validation, None
    else:
        notice(
            "No influences on these reviews yet",
            "Name the folder with valid.csv and test.csv, and they are computed in some seconds.",
        )
    _compute(run, validation)
    return validation, None


def choose_share() -> float:
    """The share of the training items to remove, from 0 to 1."""
    return (
        st.slider("Share removed, %", 0.1, 30.0, 1.0, 0.1, "%.1f", key="share", bind="query-params")
        / 100
    )


def _compute(run: Run, validation: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        folder = (
            st.text_input("Folder with the files", key="elec-path", bind="query-params") or ""
        ).strip()
        wrong = path_problem(folder, Path.is_dir, "folder") if folder else ""
        if st.button("Compute influences", disabled=not folder or bool(wrong), key="cleanse-score"):
            step = [
                "cleanse",
                "--run",
                str(run.folder),
                "--validation",
                validation,
                "--path",
                whole(folder),
                "--score-only",
            ]
            begin_job(step, f"Influences of {run.name} on {validation}")
    if wrong:
        wrong_field(wrong)


# The planned removal

_LOOKS = {True: ("removed", "#b0591c", "/"), False: ("kept", "#2f74ad", "")}
"""Mid-tones with contrast 3:1 on the light and the dark page; removed items are hatched as well."""


def scores_figure(plan: Removal) -> go.Figure:
    """A histogram with a logarithmic count axis, since a few items lie far out."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for removed, (name, colour, shape) in _LOOKS.items():
        bins = [bar for bar in plan.bins if bar.removed is removed]
        figure.add_bar(
            x=[(bar.low + bar.high) / 2 for bar in bins],
            y=[bar.count for bar in bins],
            width=[bar.high - bar.low for bar in bins],
            name=name,
            marker={
                "color": colour,
                "pattern": {"shape": shape, "fgcolor": "white", "fillmode": "overlay", "size": 6},
                "line": {"width": 0},
            },
            hovertemplate="%{y} items at %{x:.3f} nats",
        )
    figure.add_vline(x=plan.threshold, line={"dash": "dot", "width": 1.5, "color": "gray"})
    figure.update_layout(
        height=320,
        margin={"l": 0, "r": 0, "t": 36, "b": 0},
        legend={"orientation": "h", "y": 1.15, "x": 0, "title": None},
        bargap=0.05,
        barmode="overlay",
        xaxis={"title": "Mean influence (nats); negative hurts", "zeroline": True},
        yaxis={
            "title": "Training items",
            "type": "log",
            "dtick": 1,
            "range": [-0.5, log10(max(bar.count for bar in plan.bins)) + 0.15],
        },
    )
    return figure


_DONE = "cleanse-adopted"


def show_plan(
    run: Run, scores: Scores, fraction: float, validation: str, flags: dict[int, Flag]
) -> bool:
    """Draw the planned removal; returns whether there is one."""
    try:
        plan = build_plan(run, scores, fraction, flags)
    except TurnoverError as error:
        problem("Nothing can be removed so", str(error))
        return False
    chart(scores_figure(plan), plan.alt)
    said(plan.summary)
    said(plan.effect)
    quiet(plan.caution)
    trust_link(run)
    only = f"; the first {LISTED:,} are listed" if len(plan.positions) > LISTED else ""
    heading(
        "What goes",
        f"The most harmful first{only}. Influence on the loss of the true labels, in nats ± "
        "standard error.",
    )
    st.dataframe(
        plan.table,
        column_config={
            "Influence": st.column_config.NumberColumn(format="%.3f"),
            "±": st.column_config.NumberColumn(format="%.3f"),
            "Image": st.column_config.ImageColumn(width="small"),
            "Text": st.column_config.TextColumn(width="large"),
        },
        hide_index=True,
        height="content" if len(plan.table) <= 8 else 320,
        lazy=False,
        alt="The training items that go",
    )
    with st.expander("By class"):
        share = {"Share": st.column_config.NumberColumn(format="percent")}
        st.dataframe(
            plan.classes,
            column_config=share,
            hide_index=True,
            lazy=False,
            alt="How many items of each class there are and go",
        )
    _adopt(run, plan, flags, adoption_note(fraction, validation))
    return True


def _adopt(run: Run, plan: Removal, flags: dict[int, Flag], note: str) -> None:
    """A button in a popover, as a confirmation before anything is stored."""
    adoption, stored = build_adoption(plan, flags), st.session_state.pop(_DONE, "")
    with st.popover("Adopt the removal as flags"):
        said(adoption.sentence)
        label, new = f"Flag {len(adoption.positions):,} to drop", adoption.positions
        st.button(
            label, key="cleanse-adopt", on_click=_store, args=(run, new, note), disabled=not new
        )
    if stored:
        said(stored)


def _store(run: Run, positions: tuple[int, ...], note: str) -> None:
    try:
        store = Flags(run.folder)
        # somebody may have decided meanwhile
        undecided = [position for position in positions if position not in store.current()]
        store.put_many(undecided, "drop", note=note)
        st.session_state[_DONE] = f"{len(undecided):,} training items were flagged to drop."
    except TurnoverError as error:
        st.session_state[_DONE] = f"Nothing was stored: {error}"


# Retraining

KEY = "cleansing"


def ask_for_retraining(
    run: Run, scores: Scores, fraction: float, validation: str, flags: dict[int, Flag]
) -> None:
    """The fields and the button for retraining."""
    heading(
        "Does it help? Retrain and see",
        "Models without turn-over dropout, from the same seeds: on all items, without as many "
        "random ones, and cleansed.",
    )
    if validation == OWN:
        quiet(
            "Half of the validation items choose what goes, the other half measures; so what goes "
            "may differ a little from the list above."
        )
    decided = sum(flag.action != "keep" for flag in flags.values())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        repeats = whole_number("Seeds", 1, 50, 4, key="repeats", bind="query-params", width=140)
        with_flags = (
            st.checkbox(f"Also on your {decided:,} flags", key="with-flags", bind="query-params")
            if decided
            else False
        )
        begin = st.button("Retrain", key="cleanse-retrain")
    if not decided:
        quiet(
            "Flag training items to drop or to relabel, and a condition with your flags can be "
            "trained as well."
        )
    if begin:
        step = [
            "cleanse",
            "--run",
            str(run.folder),
            "--fraction",
            f"{fraction:.4g}",
            "--repeats",
            str(repeats),
            "--validation",
            validation,
        ]
        step += [] if validation == OWN else ["--path", scores.path]
        step += ["--flags"] if with_flags else []
        begin_job(
            step,
            f"Cleanse {run.name}: {fraction:.1%}, {repeats} "
            f"seeds{', with flags' if '--flags' in step else ''}",
        )


def show_retraining(run: Run) -> None:
    """The jobs on this run with their results so far, and the finished results."""

    def find() -> list[Job]:
        return jobs_with(find_jobs(runs_folder()), "cleanse", run.folder)

    if find():
        show_jobs(find, lambda: _so_far(run.folder))
    cleansings, problems = read_cleansings(run)
    for text in problems:
        problem("A result cannot be shown", text)
    finished = [cleansed for cleansed in cleansings if cleansed.finished]
    if finished:
        names = [cleansed.name for cleansed in finished]
        if st.session_state.get(KEY) not in (None, *names):
            st.session_state[KEY] = names[0]
        chosen = (
            st.selectbox("Result", names, key=KEY, bind="query-params", width=320)
            if len(names) > 1
            else names[0]
        )
        _show(next(cleansed for cleansed in finished if cleansed.name == chosen))


def _so_far(folder: Path) -> None:
    """The results so far of the running jobs."""
    at_work = [
        job.steps[0]
        for job in jobs_with(find_jobs(runs_folder()), "cleanse", folder)
        if job.state.active
    ]
    partial = [
        cleansed
        for cleansed in read_cleansings(Run(folder))[0]
        if not cleansed.finished and any(is_of(cleansed, step) for step in at_work)
    ]
    if partial:
        quiet("So far:")
        _table(partial[0])


def _show(cleansed: Cleansed) -> None:
    view = build_retrained(cleansed)
    heading("What retraining came to", view.setting)
    if view.stale:
        notice("These numbers are out of date", f"{view.stale} Retrain to know what is so now.")
    for sentence in view.sentences:
        said(sentence)
    _table(cleansed)
    quiet(
        "± standard deviation over seeds. Differences are paired by seed, with a 95 % interval and "
        "p of a paired t-test."
    )


def _table(cleansed: Cleansed) -> None:
    frame = build_retrained(cleansed).table
    st.dataframe(
        frame,
        hide_index=True,
        height="content",
        lazy=False,
        alt="Accuracy and loss of each condition",
    )
