"""One measured figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A figure, its unit, and the goal it is held against ('' for none)."""

    case: str
    measure: str
    value: float
    unit: str
    goal: str = ""


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| case | measure | value | goal |", "| --- | --- | ---: | --- |"]
    for row in rows:
        value = f"{row.value:,.0f}" if row.value >= 1000 else f"{row.value:.4g}"
        lines.append(f"| {row.case} | {row.measure} | {value} {row.unit} | {row.goal} |")
    return "\n".join(lines)
