"""The map as a figure: a marker for each item, told apart by shape (training item, validation item, error) and by colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from turnover.dashboard.views.map import ERROR, RIGHT, TRAINING, Colours, Points
from turnover.report.fragments import safe

if TYPE_CHECKING:
    import plotly.graph_objects as go

SYMBOLS = {TRAINING: "circle", RIGHT: "diamond-open", ERROR: "x"}
_SIZES = {TRAINING: 6, RIGHT: 6, ERROR: 10}
_COLOURS = ("#3b82bd", "#cf6f2d", "#4b9668", "#8f70c4", "#c0504d", "#94785a", "#c25e9a", "#8f8a24", "#1f8f9c", "#6b7fd7")
_GREY = "#808080"
"""Mid-tones that keep 3:1 on the light and on the dark page, and grey for the rest."""


def map_figure(points: Points, colours: Colours, highlighted: np.ndarray | None) -> go.Figure:
    """A name in the legend for each colour; `highlighted` `(items,)` says which stay in full colour, all if None. Numbers of items are `customdata`."""
    import plotly.graph_objects as go

    figure = go.Figure()
    if colours.values is not None:
        known = np.isfinite(colours.values)
        scale = {"colorscale": "Viridis", "colorbar": {"title": {"text": "nats"}, "thickness": 12}}
        _add(figure, points, ~known, highlighted, "validation items", {"color": _GREY})
        _add(figure, points, known, highlighted, "training items", {"color": colours.values[known], **scale})
    elif colours.groups is not None:
        for group, name in enumerate(colours.names):
            colour = _COLOURS[group] if group < len(_COLOURS) else _GREY
            _add(figure, points, colours.groups == group, highlighted, name, {"color": colour})
    figure.update_layout(
        height=560,
        margin={"l": 0, "r": 0, "t": 56, "b": 0},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None, "itemsizing": "constant"},
        hovermode="closest",
        dragmode="lasso",
        xaxis={"title": "First direction", "zeroline": False},
        yaxis={"title": "Second direction", "zeroline": False},
    )
    return figure


def _add(figure: go.Figure, points: Points, chosen: np.ndarray, highlighted: np.ndarray | None, name: str, marker: dict[str, Any]) -> None:
    """The chosen points under one name, a trace for each shape: a list of shapes would be checked one by one, which takes long."""
    kinds = [kind for kind in SYMBOLS if (chosen & (points.kinds == kind)).any()]
    for kind in kinds:
        places = np.flatnonzero(chosen & (points.kinds == kind))
        figure.add_scatter(
            x=points.places[places, 0],
            y=points.places[places, 1],
            mode="markers",
            name=safe(name),
            legendgroup=safe(name),
            showlegend=kind == kinds[0],
            marker={"symbol": SYMBOLS[kind], "size": _SIZES[kind], "opacity": 0.8, **marker},
            customdata=points.numbers[places],
            hovertext=[safe(points.hover[place]) for place in places],
            hoverinfo="text",
            selectedpoints=None if highlighted is None else np.flatnonzero(highlighted[points.numbers[places]]),
        )
