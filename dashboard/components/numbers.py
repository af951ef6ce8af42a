"""Whole numbers that live in the URL, where anybody can write anything."""

from __future__ import annotations

from typing import Any

import streamlit as st

from turnover.dashboard.components.notice import problem


def whole_number(label: str, *arguments: Any, **options: Any) -> Any:
    """`st.number_input` for whole numbers; on one that no float can hold, on which Streamlit fails, the page says so and ends."""
    try:
        return st.number_input(label, *arguments, **options)
    except OverflowError:
        problem("This address cannot be read", f"Its number for “{label}” is too large; open the page without it, or write a smaller one.")
        st.stop()
