"""One measured figure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A figure, its unit, and the goal it is held against ('' for none)."""

    case: str
    measure: str
    value: float
    unit: str
    goal: str = ""
