"""One method, measured: its figures, what it cost, and the table they all stand in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """A number; `low` and `high` bound 95 %, where somebody resampled."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return f"{self.value:.3f}" if self.low is None else f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Row:
    """One method's figures by name, and the seconds of its training and of its estimate; a method that was refused has a note and no figure."""

    method: str
    train_seconds: float
    estimate_seconds: float
    figures: dict[str, Figure] = field(default_factory=dict)
    note: str = ""


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    columns = list(dict.fromkeys(name for row in rows for name in row.figures))
    lines = [f"| method | {' | '.join(columns)} | training, s | estimate, s | |", f"| --- |{' ---: |' * (len(columns) + 2)} --- |"]
    for row in rows:
        figures = " | ".join(str(row.figures.get(name, "")) for name in columns)
        lines.append(f"| {row.method} | {figures} | {row.train_seconds:.1f} | {row.estimate_seconds:.1f} | {row.note} |")
    return "\n".join(lines)
