"""The Map page: the map with its choices, and the summed influence of the items chosen on it.

The figure has a marker for each item, distinguished by shape (training item, validation item,
error) and by colour. UMAP takes minutes, so it runs as a job, and is offered only if installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from turnover.dashboard.shared.address import errors_link, training_link
from turnover.dashboard.shared.choice_view import ANY
from turnover.dashboard.shared.groups import show_sums
from turnover.dashboard.shared.jobs import begin_job, show_jobs
from turnover.dashboard.shared.jobs_view import jobs_with
from turnover.dashboard.shared.notice import chart, heading, notice, problem, quiet, said
from turnover.dashboard.shared.tables import thumbnail
from turnover.dashboard.state import Opened, runs_folder
from turnover.dashboard.training_data.map_view import (
    ALL,
    COLOURS,
    COMPONENTS,
    ERROR,
    FEATURES,
    INFLUENCES,
    LISTED,
    PROJECTIONS,
    RIGHT,
    SELF,
    TRAINING,
    UMAP,
    WAYS,
    Chosen,
    Colours,
    Member,
    Points,
    by_of,
    choose_group,
    colours,
    losses_of,
    members_of,
    missing_umap,
    narrowed,
    sums_of,
)
from turnover.errors import TurnoverError, counted
from turnover.explain.explanation import ErrorItem
from turnover.explain.groups import Summable
from turnover.explain.html import safe
from turnover.jobs import Job, State, find_jobs
from turnover.runs.maps import has_umap
from turnover.runs.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go


SYMBOLS = {TRAINING: "circle", RIGHT: "diamond-open", ERROR: "x"}
_SIZES = {TRAINING: 6, RIGHT: 6, ERROR: 10}
_COLOURS = (
    "#3b82bd",
    "#cf6f2d",
    "#4b9668",
    "#8f70c4",
    "#c0504d",
    "#94785a",
    "#c25e9a",
    "#8f8a24",
    "#1f8f9c",
    "#6b7fd7",
)
_GREY = "#808080"
"""Mid-tones with contrast 3:1 on the light and the dark page, and grey for the rest."""


def map_figure(points: Points, colours: Colours, highlighted: np.ndarray | None) -> go.Figure:
    """One legend entry per colour. `highlighted` `(items,)` marks the items in full colour, all if
    None; item numbers are `customdata`.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    if colours.values is not None:
        known = np.isfinite(colours.values)
        scale = {"colorscale": "Viridis", "colorbar": {"title": {"text": "nats"}, "thickness": 12}}
        marker = {"color": colours.values[known], **scale}
        _add(figure, points, ~known, highlighted, "validation items", {"color": _GREY})
        _add(figure, points, known, highlighted, "training items", marker)
    elif colours.groups is not None:
        for group, name in enumerate(colours.names):
            colour = _COLOURS[group] if group < len(_COLOURS) else _GREY
            _add(figure, points, colours.groups == group, highlighted, name, {"color": colour})
    figure.update_layout(
        height=560,
        margin={"l": 0, "r": 0, "t": 56, "b": 0},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None},
        legend_itemsizing="constant",
        hovermode="closest",
        dragmode="lasso",
        xaxis={"title": "First direction", "zeroline": False},
        yaxis={"title": "Second direction", "zeroline": False},
    )
    return figure


def _add(
    figure: go.Figure,
    points: Points,
    chosen: np.ndarray,
    highlighted: np.ndarray | None,
    name: str,
    marker: dict[str, Any],
) -> None:
    """Add the chosen points under one name, one trace per shape: plotly validates a list of shapes
    one by one, which is slow.
    """
    kinds = [kind for kind in SYMBOLS if (chosen & (points.kinds == kind)).any()]
    for kind in kinds:
        indices = np.flatnonzero(chosen & (points.kinds == kind))
        figure.add_scatter(
            x=points.places[indices, 0],
            y=points.places[indices, 1],
            mode="markers",
            name=safe(name),
            legendgroup=safe(name),
            showlegend=kind == kinds[0],
            marker={"symbol": SYMBOLS[kind], "size": _SIZES[kind], "opacity": 0.8, **marker},
            customdata=points.numbers[indices],
            hovertext=[safe(points.hover[index]) for index in indices],
            hoverinfo="text",
            selectedpoints=(
                None
                if highlighted is None
                else np.flatnonzero(highlighted[points.numbers[indices]])
            ),
        )


# UMAP


def choose_way() -> str:
    """One of `WAYS`."""
    return st.selectbox("Way", WAYS, key="way", bind="query-params") if has_umap() else COMPONENTS


def umap_points(opened: Opened, what: str) -> Points | None:
    """The points by UMAP; None if not computed yet, with a button that starts the job, and its
    progress.
    """
    try:
        if points := opened.umap_by(what):
            return points
    except TurnoverError as error:
        problem("These places cannot be used", str(error))
    run, by = opened.run, by_of(what)

    def find() -> list[Job]:
        return [
            job
            for job in jobs_with(find_jobs(runs_folder()), "map", run.folder)
            if job.steps[0][-1] == by and job.state is not State.DONE
        ]

    show_jobs(find)
    if not any(job.state.active for job in find()):
        notice(
            "No places by UMAP yet",
            "They take a minute or more, once, and are kept in the run. Until then the map shows "
            "principal components.",
        )
        if st.button("Make them", key="map-umap"):
            begin_job(
                ["map", "--run", str(run.folder), "--by", by], f"Map {run.name}: {by} by UMAP"
            )
    return None


# The page

_OFFERED = 500
"""Errors, clearest first, whose influences can be chosen."""


def show_map(opened: Opened) -> tuple[set[int], str, str, bool]:
    """Draw the map; returns the numbers of the items drawn around, the words and the label that
    narrow them, and whether the map shows influences.
    """
    left, middle, right = st.columns([3, 3, 5])
    what = left.selectbox("Places by", PROJECTIONS, key="places", bind="query-params")
    with left:
        way = choose_way()
    by = middle.selectbox("Colour by", COLOURS, key="colour", bind="query-params")
    label = right.selectbox(
        "Choose training items of class",
        [ANY, *opened.run.classes],
        key="of-class",
        bind="query-params",
    )
    words = _choose_words() if opened.run.kind == "text" else ""
    if opened.influence_problem and (what == INFLUENCES or by == SELF):
        notice(
            "No influence",
            "This run has none that can be used, so places are by features and colours by label.",
        )
        what, by = FEATURES, (COLOURS[0] if by == SELF else by)
    what, way, points = _points(opened, what, way)
    placed = ", placed by UMAP" if way == UMAP else ""
    event = chart(
        _figure(opened, points, (what, way, by), words, label),
        f"Map of {len(points.numbers):,} items by their {what.lower()}{placed}, coloured by "
        f"{by.lower()}; the table and the fields here choose items without it",
        key=f"map-{what}-{way}-{opened.run.name}",
        on_select="rerun",
        selection_mode=("points", "box", "lasso"),
    )
    _explain(what, points)
    drawn = {int(np.ravel(point["customdata"])[0]) for point in event["selection"]["points"]}
    return drawn, words, label, what == INFLUENCES


def _choose_words() -> str:
    words = st.text_input(
        "Choose training texts that contain",
        key="containing",
        bind="query-params",
        max_chars=200,
        placeholder="A word or a name",
    )
    return words or ""


def show_group(opened: Opened, drawn: set[int], words: str, label: str, by_influence: bool) -> None:
    """The chosen training items and their summed influence."""
    chosen = choose_group(opened.run, drawn, words, label, by_influence)
    heading("The chosen training items")
    error = None if opened.influence_problem else _choose_error(opened)
    if chosen is None:
        asked = drawn or words.strip() or label != ANY
        said(
            "No training item is chosen: draw around some, or choose other words or another class."
            if asked
            else "Draw around points on the map, or choose words or a class above it."
        )
        return
    count = len(chosen.group.instances)
    others = (
        f"; {chosen.validation:,} validation items were drawn around, too, and are skipped"
        if chosen.validation
        else ""
    )
    said(f"{counted(count, 'training item')}{others}.")
    losses = None if opened.influence_problem else _losses(opened, error)
    if losses is not None:
        _show_sums(opened, losses, chosen, error)
    _show_members(opened.run, members_of(opened.run, chosen, losses), count)


def _points(opened: Opened, what: str, way: str) -> tuple[str, str, Points]:
    """The points with their projection and way; after a message, others if these are missing."""
    try:
        points = opened.map_by(what)
    except TurnoverError as error:
        problem("Influences make no map here", str(error))
        what, points = FEATURES, opened.map_by(FEATURES)
    by_umap = umap_points(opened, what) if way == UMAP else None
    return (what, COMPONENTS, points) if by_umap is None else (what, UMAP, by_umap)


def _figure(
    opened: Opened, points: Points, kind: tuple[str, str, str], words: str, label: str
) -> go.Figure:
    """The figure with the items that match words and label in full colour; without either it is
    cached, since plotly takes .15 s for 5,000 points.
    """
    if words.strip() or label != ANY:
        highlighted = np.append(
            narrowed(opened.run, words, label), np.zeros(len(opened.run.validation), bool)
        )
        return map_figure(points, colours(opened.run, points, kind[2]), highlighted)
    if kind not in opened.drawn:
        opened.drawn[kind] = map_figure(points, colours(opened.run, points, kind[2]), None)
    return opened.drawn[kind]


def _explain(what: str, points: Points) -> None:
    left_out = (
        f" {len(points.numbers):,} items are drawn, taken at random; {points.left_out:,} are not."
        if points.left_out
        else ""
    )
    seen = (
        "what the model’s heads see of an item"
        if what == FEATURES
        else "its influences on the truth of validation items (at most 200 of them)"
    )
    others = (
        ", open diamonds validation items, crosses errors"
        if what == FEATURES
        else ", the only items that have influences"
    )
    if points.share is None:
        method = f"UMAP of {seen}: near items are alike, but how far groups lie apart says little."
    else:
        method = (
            f"Principal components of {seen}: these two directions hold {points.share:.0%} of the "
            "variance."
        )
    quiet(
        f"{method}{left_out}",
        f"Circles are training items{others}. Draw around points to choose them; a double click "
        "lets them go, and so does another map.",
        missing_umap(),
    )


def _choose_error(opened: Opened) -> ErrorItem | None:
    """The error whose influence is summed; None for all errors."""
    known = set(opened.run.influence.misclassified)
    offered = {
        error.id: error for error in opened.misclassified[:_OFFERED] if error.position in known
    }
    if st.session_state.get("target", ALL) not in (ALL, *offered):
        st.session_state["target"] = ALL
    return offered.get(
        st.selectbox("Influence on", [ALL, *offered], key="target", bind="query-params") or ALL
    )


def _losses(opened: Opened, error: ErrorItem | None) -> Summable | None:
    try:
        return opened.all_mistakes if error is None else losses_of(opened.run, error)
    except TurnoverError as failure:
        problem("Influences cannot be summed", str(failure))
        return None


def _show_sums(opened: Opened, losses: Summable, chosen: Chosen, error: ErrorItem | None) -> None:
    errors = len(opened.run.influence.misclassified)
    over = f"mean over {errors:,} errors"
    heads = (
        (f"On the predictions, {over}", f"On the truth, {over}")
        if error is None
        else (f"On the prediction, “{error.predicted}”", f"On the truth, “{error.label}”")
    )
    show_sums([sums_of(losses, chosen)], heads)
    if chosen.group.ranked:
        quiet(
            "These items were drawn around because of their influences, so random groups are no "
            "comparison."
        )
    if error is not None:
        errors_link(opened.run, f"Open error {error.rank + 1:,}", item=error.id)


def _show_members(run: Run, members: Sequence[Member], count: int) -> None:
    """A table of the chosen items; selecting a cell offers a link to the item's page."""
    kind, injected = run.kind, [member.injected for member in members]
    frame = pd.DataFrame(
        {
            "content": [
                member.text if kind == "text" else thumbnail(member.image) for member in members
            ],
            "label": [member.label for member in members],
            "influence": [member.influence for member in members],
            "injected": injected if any(injected) else None,
            "id": [member.id for member in members],
        }
    ).dropna(axis=1, how="all")
    columns: dict[str, Any] = {
        "content": (
            st.column_config.TextColumn("Text", width=220)
            if kind == "text"
            else st.column_config.ImageColumn("Image", width="small")
        ),
        "label": st.column_config.TextColumn("Label", width=80),
        "influence": st.column_config.NumberColumn(
            "Influence", format="%.4f", width=84, help="On the prediction, in nats"
        ),
        "injected": st.column_config.TextColumn("Injected"),
        "id": st.column_config.TextColumn("Id"),
    }
    event: Any = st.dataframe(
        frame,
        on_select="rerun",
        selection_mode="single-cell",
        column_config=columns,
        hide_index=True,
        lazy=False,
        alt=(
            "The chosen training items, the largest influences first; choosing one leads to its "
            "page"
        ),
    )
    if count > len(members):
        quiet(f"The first {LISTED:,} of {count:,}.")
    if cells := event["selection"]["cells"]:
        training_link(run, "Open the selected training item", members[cells[0][0]].id)
    else:
        quiet("Select a cell to open its training item.")
