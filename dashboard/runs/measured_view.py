"""The view of one measure of a run (`turnover evaluate`): each method's quality, and its seconds.

The ceiling is the highest reachable value: for a
rank correlation with measured losses, the square root of their reliability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from turnover.research.evaluate.results import (
    AUC,
    LDS,
    MEASURES,
    RANK,
    SHOWN,
    SPEARMAN,
    TARGETS,
    TURNOVER,
    Result,
    ResultRow,
    setting,
)

_MAIN = {"lds": LDS, "loo": TARGETS, "injected": AUC, "agreement": SPEARMAN}
"""The figure that is plotted for a measure; for other measures, the first figure."""

_CHANCE = {LDS: 0.0, TARGETS: 0.0, SPEARMAN: 0.0, AUC: 0.5, RANK: 0.5}
"""The value of a random ranking, by figure."""

_LOW = (RANK,)
"""Figures for which lower is better."""

OURS, BASELINE = "turn-over dropout", "other methods"


@dataclass(frozen=True)
class Point:
    """A method in the plot: its name, `OURS` or `BASELINE`, whether pages show its estimates, and
    its value with the 95 % interval.
    """

    method: str
    kind: str
    shown: bool
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Measured:
    """The view of one measure.

    Attributes:
        question: what the measure asks, in a sentence.
        figure: the plotted figure; `axis` adds which direction is better.
        points: best first; methods without the figure appear in the table only, with their note.
        ceiling: the highest reachable value; None if unknown.
        chance: the value of a random ranking; None if unknown.
        table: the numbers, in the same order.
        setting: the settings of the measurement, in a line.
        alt: the plot in words.
        stale: what has changed since the measurement, or "".
    """

    name: str
    question: str
    figure: str
    axis: str
    points: tuple[Point, ...]
    ceiling: float | None
    chance: float | None
    table: pd.DataFrame
    setting: str
    alt: str
    stale: str


def in_order(results: Sequence[Result]) -> list[Result]:
    """Results in the order of `MEASURES`, then others by name."""
    ranks = {name: rank for rank, name in enumerate(MEASURES)}
    return sorted(results, key=lambda result: (ranks.get(result.measure, len(ranks)), result.name))


def build_measured(result: Result) -> Measured:
    """The view of one result."""
    figures = list(dict.fromkeys(name for row in result.rows for name in row.figures))
    wanted = _MAIN.get(result.measure, "")
    figure = wanted if wanted in figures or not figures else figures[0]
    known = sorted(
        (row for row in result.rows if figure in row.figures),
        key=lambda row: row.figures[figure].value * (1 if figure in _LOW else -1),
    )
    points = tuple(_point(row, figure) for row in known)
    ceiling = _ceiling(result, figure)
    question = MEASURES.get(result.measure, result.measure.replace("-", " "))
    return Measured(
        name=result.name,
        question=f"{question[:1].upper()}{question[1:]}{'?' if result.measure in MEASURES else ''}",
        figure=figure,
        axis=f"{figure} ({'lower' if figure in _LOW else 'higher'} is better)",
        points=points,
        ceiling=ceiling,
        chance=_CHANCE.get(figure),
        table=_table([*known, *(row for row in result.rows if row not in known)], figures),
        setting=f"Measured with {setting(result.facts)}.",
        alt=_alt(figure, points, ceiling),
        stale=result.stale,
    )


def _point(row: ResultRow, figure: str) -> Point:
    estimate, kind = row.figures[figure], OURS if TURNOVER in row.method else BASELINE
    shown = row.method.endswith(SHOWN)
    return Point(row.method, kind, shown, estimate.value, estimate.low, estimate.high)


def _ceiling(result: Result, figure: str) -> float | None:
    """The highest reachable value: the recorded ceiling, else the root of the reliability; None if
    unknown.
    """
    if (ceiling := _fraction(result, "ceiling")) is not None:
        return ceiling
    reliability = _fraction(result, f"reliability_{figure}")
    return None if reliability is None else max(0.0, reliability) ** 0.5


def _fraction(result: Result, name: str) -> float | None:
    value = result.facts.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _table(rows: list[ResultRow], figures: list[str]) -> pd.DataFrame:
    """A table of methods: figures, with bounds where there is an interval, seconds and notes."""
    shown = pd.DataFrame({"Method": [row.method for row in rows]})
    for name in figures:
        values = [row.figures.get(name) for row in rows]
        shown[name] = [None if value is None else value.value for value in values]
        if any(value is not None and value.low is not None for value in values):
            shown[f"{name}, 95 %"] = [
                "" if value is None or value.low is None else f"{value.low:.3f} to {value.high:.3f}"
                for value in values
            ]
    shown["Training, s"] = [row.train_seconds for row in rows]
    shown["Estimating, s"] = [row.estimate_seconds for row in rows]
    notes = [row.note for row in rows]
    return shown.assign(Note=notes) if any(notes) else shown


def _alt(figure: str, points: tuple[Point, ...], ceiling: float | None) -> str:
    if not points:
        return "No method gave a number."
    best, shown = points[0], next((point for point in points if point.shown), None)
    words = f"{figure} of {len(points)} methods; best: {best.method}, {best.value:.2f}"
    if shown is not None and shown is not best:
        words += f"; what pages show: {shown.value:.2f}"
    return words + ("" if ceiling is None else f"; the most that can be reached: {ceiling:.2f}")
