"""The figure of the Cleanse page: how the training items' mean influences are distributed, and which of them go."""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING

from turnover.dashboard.views.cleanse import Plan

if TYPE_CHECKING:
    import plotly.graph_objects as go

_LOOKS = {True: ("removed", "#b0591c", "/"), False: ("kept", "#2f74ad", "")}
"""Mid-tones that keep 3:1 on the light and on the dark page; what goes is hatched as well."""


def scores_figure(plan: Plan) -> go.Figure:
    """Bars of counts, on a scale of tens, since a few items lie far out."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for removed, (name, colour, shape) in _LOOKS.items():
        own = [one for one in plan.bins if one.removed is removed]
        figure.add_bar(
            x=[(one.low + one.high) / 2 for one in own],
            y=[one.count for one in own],
            width=[one.high - one.low for one in own],
            name=name,
            marker={"color": colour, "pattern": {"shape": shape, "fgcolor": "white", "fillmode": "overlay", "size": 6}, "line": {"width": 0}},
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
        yaxis={"title": "Training items", "type": "log", "dtick": 1, "range": [-0.5, log10(max(one.count for one in plan.bins)) + 0.15]},
    )
    return figure
