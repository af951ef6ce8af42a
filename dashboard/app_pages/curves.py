"""Curves: masked, flipped and both validation losses, epoch by epoch."""

from __future__ import annotations

import streamlit as st

from dashboard.components.figure import curves_figure
from dashboard.components.notice import heading, quiet, said
from dashboard.state import current_run
from dashboard.views.curves import HOW_TO_READ, build_curves

curves = build_curves(current_run().run)
quiet("How the losses went in training, and whether the flipped masks really see unlearned items.")
with st.grid(4, min_column_width=150):
    st.metric("Validation accuracy", f"{curves.validation_accuracy:.1%}", border=True)
    st.metric("Plain twin accuracy", f"{curves.plain_accuracy:.1%}", border=True)
    st.metric("Flipped loss", f"{curves.flipped:.3f}", border=True)
    st.metric("Unowned loss", f"{curves.unowned:.3f}", border=True)
quiet("At the kept epoch. The plain twin is the same network, trained alike without turn-over dropout.")
st.plotly_chart(curves_figure(curves), width="stretch", alt=curves.alt, config={"displaylogo": False, "displayModeBar": False})
heading("How to read this")
said(HOW_TO_READ)
heading("The same as numbers", "Mean losses in nats; accuracy of the full network on the validation items.")
numbers = {name: st.column_config.NumberColumn(format="%.3f") for name in ("Masked", "Flipped", "Unowned", "Validation")}
st.dataframe(
    curves.table,
    column_config={**numbers, "Accuracy": st.column_config.NumberColumn(format="percent")},
    hide_index=True,
    width="stretch",
    height="content",
    alt="Losses and accuracy per epoch",
)
