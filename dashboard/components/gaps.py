"""The choice of an epoch, by a click on the curves or by keyboard, and the training items with the largest gap there."""

from __future__ import annotations

import streamlit as st

from turnover.dashboard.components.figure import curves_figure
from turnover.dashboard.components.notice import heading
from turnover.dashboard.views.curves import Curves
from turnover.dashboard.views.gaps import Gap, largest_gaps
from turnover.report.fragments import chip_html, image_html, mark_html, safe
from turnover.runs import Run

EPOCH, _CHART = "epoch", "curves-chart"


@st.fragment
def explore_gaps(run: Run, curves: Curves) -> None:
    """The figure, which can be clicked, and the items at the chosen epoch."""
    place = st.container()
    heading("Items with the largest gap", "Training items that the model only knows because it learned them; wrong labels are often among them.")
    epoch = _choose_epoch(curves)
    with place:
        draw_curves(curves, epoch)
    st.html(_table_html(largest_gaps(run, epoch)))


def draw_curves(curves: Curves, epoch: int | None = None) -> None:
    """The figure; with a chosen `epoch`, a click on a point chooses another."""
    figure, config = curves_figure(curves, epoch), {"displaylogo": False, "displayModeBar": False}
    if epoch is None:
        st.plotly_chart(figure, width="stretch", alt=curves.alt, config=config)
    else:
        st.plotly_chart(figure, width="stretch", key=_CHART, on_select=_picked, selection_mode="points", alt=curves.alt, config=config)


def _choose_epoch(curves: Curves) -> int:
    """The epoch in the URL, the kept one if there is none or one that the run has not."""
    wanted = st.session_state.get(EPOCH, st.query_params.get(EPOCH))
    if str(wanted) not in map(str, curves.epochs):
        st.session_state[EPOCH] = str(curves.kept)
    return int(st.selectbox("After epoch", [str(epoch) for epoch in curves.epochs], key=EPOCH, bind="query-params", width=140))


def _picked() -> None:
    points = st.session_state[_CHART]["selection"]["points"]
    if points:
        st.session_state[EPOCH] = str(int(points[0]["x"]))


def _table_html(gaps: tuple[Gap, ...]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Training item", "Masked loss", "Flipped loss", "Gap"))
    rows = "".join(
        f'<tr><th scope="row">{_item_html(gap)}</th><td>{gap.masked:.3f}</td><td>{gap.flipped:.3f}</td><td><strong>{gap.value:.3f}</strong></td></tr>'
        for gap in gaps
    )
    return f'<table class="to-groups to-numbers"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _item_html(gap: Gap) -> str:
    alt = f"training image labelled {gap.label}"
    body = image_html(gap.image, 40, alt) if gap.image else f'<span dir="auto">{safe(gap.text)}</span>'
    return f'{chip_html(gap.label)} {body} <span class="to-id">{safe(gap.id)}</span> {mark_html(gap.planted)}'
