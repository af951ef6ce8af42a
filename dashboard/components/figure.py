"""The figure of the training curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from turnover.dashboard.views.curves import Curves, Series

if TYPE_CHECKING:
    import plotly.graph_objects as go

_DASHES = {"masked": "solid", "flipped": "solid", "unowned": "dash", "validation": "dot"}
_SYMBOLS = {"masked": "circle", "flipped": "diamond", "unowned": "diamond-open", "validation": "square"}
_COLOURS = {"masked": "#3b82bd", "flipped": "#cf6f2d", "unowned": "#8f70c4", "validation": "#4b9668"}
"""Mid-tones that keep 3:1 on the light and on the dark page: a figure is made before its theme is known."""

_GAP = "rgba(207, 111, 45, .14)"


def curves_figure(curves: Curves, epoch: int | None = None) -> go.Figure:
    """The figure of a run's curves; a chosen epoch is marked beside the kept one."""
    figure = losses_figure(curves.epochs, curves.series, curves.kept)
    if epoch not in (None, curves.kept):
        figure.add_vline(x=epoch, line={"width": 1, "color": "gray"}, annotation_text="chosen", annotation_position="top left")
    return figure


def losses_figure(epochs: Sequence[int], series: Sequence[Series], kept: int | None, height: int = 440) -> go.Figure:
    """One line a loss, told apart by dash and marker as well as by colour; the gap between masked and flipped shaded, and the kept epoch, if any, marked."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for line in series:
        figure.add_scatter(
            x=epochs,
            y=line.values,
            name=line.name,
            mode="lines+markers",
            line={"dash": _DASHES[line.column], "width": 2.5, "color": _COLOURS[line.column]},
            marker={"symbol": _SYMBOLS[line.column], "size": 8},
            fill="tonexty" if line.column == "flipped" else None,
            fillcolor=_GAP,
            unselected={"marker": {"opacity": 1}},
            hovertemplate="%{y:.3f}",
        )
    if kept is not None:
        figure.add_vline(x=kept, line={"dash": "dot", "width": 1.5, "color": "gray"}, annotation_text="kept", annotation_position="top right")
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 48, "b": 0},
        legend={"orientation": "h", "y": 1 + 62 / height, "x": 0, "title": None, "traceorder": "normal"},
        hovermode="x unified",
        xaxis={"title": "Epoch", "dtick": max(1, len(epochs) // 12), "zeroline": False},
        yaxis={"title": "Loss (nats)", "rangemode": "tozero"},
    )
    return figure
