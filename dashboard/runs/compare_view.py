"""The view model of *Before and after*: what changed between two runs, in words, and which errors
are gone, new and the same, each with its text or image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from turnover.errors import counted
from turnover.explain.words import snippet
from turnover.runs.compare import Comparison, compare_runs
from turnover.runs.run import Run

LEVEL = 0.05
_TEXT = 90


@dataclass(frozen=True)
class ErrorRow:
    """An error: its id, its text or image, its true label, and what the run says."""

    id: str
    text: str
    image: bytes
    label: str
    predicted: str


@dataclass(frozen=True)
class Side:
    """One list: its title, the run that makes these errors, and the errors."""

    title: str
    run: str
    errors: tuple[ErrorRow, ...]


@dataclass(frozen=True)
class Compared:
    """Two runs side by side: the accuracies in a sentence, whether the difference is more than
    chance, and the errors gone, new and the same.
    """

    sentence: str
    verdict: str
    clear: bool
    sides: tuple[Side, Side, Side]


def build_compared(before: Run, after: Run) -> Compared:
    """Compare two runs.

    Raises:
        TurnoverError: if they were not validated on the same items with the same labels.
    """
    found = compare_runs(before, after)
    first, second = (
        1 - (len(other) + len(found.same)) / found.items for other in (found.gone, found.new)
    )
    return Compared(
        f"{before.name} is right on {first:.1%} of {found.items:,} validation items, {after.name} "
        f"on {second:.1%}.",
        _verdict(found),
        found.p < LEVEL,
        (
            Side("Errors gone", before.name, _rows(before, found.gone)),
            Side("New errors", after.name, _rows(after, found.new)),
            Side("The same errors", after.name, _rows(after, found.same)),
        ),
    )


def _verdict(found: Comparison) -> str:
    gone, new = len(found.gone), len(found.new)
    if not gone + new:
        return "They make the same errors."
    chance = f"p = {found.p:.3f}" if found.p >= 0.001 else "p < 0.001"
    changes = f"{counted(gone, 'error')} gone, {new:,} new"
    if found.p >= LEVEL:
        return f"{changes}: no difference can be told from chance ({chance})."
    better = "better" if gone > new else "worse"
    return f"{changes}: it got {better}, by more than chance would do ({chance})."


def _rows(run: Run, ids: Iterable[str]) -> tuple[ErrorRow, ...]:
    positions = dict(zip(run.validation["id"].astype(str), run.validation.index, strict=True))
    return tuple(_row(run, int(positions[name])) for name in ids)


def _row(run: Run, position: int) -> ErrorRow:
    row, text = run.item("validation", position), run.kind == "text"
    return ErrorRow(
        str(row["id"]),
        snippet(str(row["text"]), _TEXT) if text else "",
        b"" if text else bytes(row["image"]),
        run.classes[int(row["label"])],
        run.classes[int(row["predicted"])],
    )
