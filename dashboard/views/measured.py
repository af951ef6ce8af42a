"""One measure of a run (`turnover evaluate`) as a picture: quality against seconds, a point for
every method, and the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from turnover.cli.evaluate import MEASURES, setting
from turnover.research.evaluate.results import (
    AS_SHOWN,
    AUC,
    LDS,
    RANK,
    SPEARMAN,
    TARGETS,
    TURNOVER,
    Result,
    ResultRow,
)

_MAIN = {"lds": LDS, "loo": TARGETS, "injected": AUC, "agreement": SPEARMAN}
"""The figure of a measure that its picture shows; of any other, the first one."""

_CHANCE = {LDS: 0.0, TARGETS: 0.0, SPEARMAN: 0.0, AUC: 0.5, RANK: 0.5}
"""What a method that knows nothing has."""

_SHORTEST = 0.001
_LOW = (RANK,)
"""Figures of which less is better."""

OURS, BASELINE = "turn-over", "other method"


@dataclass(frozen=True)
class Point:
    """A method in the picture: its number in the list, best first; quality with its 95 % interval;
    seconds of training and of estimating.

    `x` is their sum as it is drawn: no less than a millisecond, since a logarithm knows no 0.
    """

    number: int
    method: str
    kind: str
    shown: bool
    value: float
    low: float | None
    high: float | None
    training: float
    estimating: float

    @property
    def x(self) -> float:
        return max(_SHORTEST, self.training + self.estimating)


@dataclass(frozen=True)
class Measured:
    """All that is shown of one measure.

    Attributes:
        question: what was asked, in a sentence.
        figure: what the picture shows of each method, and `axis` with what is better.
        points: best first; methods without the figure are left out and stand in the table with
            their note.
        ceiling: the most that can be reached; None where nobody knows.
        chance: what a method that knows nothing has; None where nobody knows.
        table: the numbers, the same order.
        setting: what was measured with, in a line.
        alt: the picture in words.
        stale: what has changed since, or "".
        command: what measures again.
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
    command: str


def in_order(found: Sequence[Result]) -> list[Result]:
    """Results in the order in which the measures are listed, what says most first; any other after
    them, by name.
    """
    places = {name: place for place, name in enumerate(MEASURES)}
    return sorted(found, key=lambda result: (places.get(result.measure, len(places)), result.name))


def build_measured(result: Result, folder: str) -> Measured:
    """The picture of one result of the run in `folder`."""
    figures = list(dict.fromkeys(name for row in result.rows for name in row.figures))
    wanted = _MAIN.get(result.measure, "")
    figure = wanted if wanted in figures or not figures else figures[0]
    known = sorted(
        (row for row in result.rows if figure in row.figures),
        key=lambda row: row.figures[figure].value * (1 if figure in _LOW else -1),
    )
    points = tuple(_point(number, row, figure) for number, row in enumerate(known, start=1))
    masked = " --masked" if result.name.endswith("-masked") else ""
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
        table=_table(
            [*known, *(row for row in result.rows if figure not in row.figures)],
            figures,
            len(known),
        ),
        setting=f"Measured with {setting(result.facts)}.",
        alt=_alt(figure, points, ceiling),
        stale=result.stale,
        command=f"turnover evaluate --run {folder} --measure {result.measure}{masked}",
    )


def _point(number: int, row: ResultRow, figure: str) -> Point:
    found, kind = row.figures[figure], OURS if TURNOVER in row.method else BASELINE
    return Point(
        number,
        row.method,
        kind,
        row.method.endswith(AS_SHOWN),
        found.value,
        found.low,
        found.high,
        row.train_seconds,
        row.estimate_seconds,
    )


def _ceiling(result: Result, figure: str) -> float | None:
    """The most that a rank correlation with measured losses can reach, the root of their
    reliability; None where that is not known.
    """
    if (ceiling := _fraction(result, "ceiling")) is not None:
        return ceiling
    reliability = _fraction(result, f"reliability_{figure}")
    return None if reliability is None else max(0.0, reliability) ** 0.5


def _fraction(result: Result, name: str) -> float | None:
    value = result.facts.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _table(rows: list[ResultRow], figures: list[str], numbered: int) -> pd.DataFrame:
    """Numbers, methods, figures with the bounds of those that have an interval, seconds and
    notes.
    """
    shown = pd.DataFrame(
        {
            "No.": [number if number <= numbered else None for number in range(1, len(rows) + 1)],
            "Method": [row.method for row in rows],
        }
    )
    for name in figures:
        found = [row.figures.get(name) for row in rows]
        shown[name] = [None if one is None else one.value for one in found]
        if any(one is not None and one.low is not None for one in found):
            shown[f"{name}, 95 %"] = [
                "" if one is None or one.low is None else f"{one.low:.3f} to {one.high:.3f}"
                for one in found
            ]
    shown["Training, s"] = [row.train_seconds for row in rows]
    shown["Estimating, s"] = [row.estimate_seconds for row in rows]
    notes = [row.note for row in rows]
    return shown.assign(Note=notes) if any(notes) else shown


def _alt(figure: str, points: tuple[Point, ...], ceiling: float | None) -> str:
    if not points:
        return "No method gave a number."
    best, shown = points[0], next((point for point in points if point.shown), None)
    words = (
        f"{figure} against seconds for {len(points)} methods; best: {best.method}, {best.value:.2f}"
    )
    if shown is not None and shown is not best:
        words += f"; what pages show: {shown.value:.2f}, number {shown.number}"
    return words + ("" if ceiling is None else f"; the most that can be reached: {ceiling:.2f}")
