"""The misclassified validation items of a run, as they are shown."""

from __future__ import annotations

from dataclasses import dataclass

from turnover.ranking import clearest_first
from turnover.runs import Run


@dataclass(frozen=True)
class ErrorItem:
    """A misclassified validation item.

    `probability` is that of the (wrong) prediction; `rank` orders by clearest explanation, 0 first.
    """

    position: int
    id: str
    label: str
    predicted: str
    probability: float
    planted: str
    rank: int
    text: str
    image: bytes


def error_items(run: Run, with_influence: bool) -> tuple[ErrorItem, ...]:
    """All errors of a run, clearest explanation first; by position if the run's influence cannot be used."""
    classes = run.classes
    positions = clearest_first(run) if with_influence else []
    known = set(positions)
    positions += [position for position in run.errors if position not in known]
    items = []
    for rank, position in enumerate(positions):
        row = run.item("validation", position)
        predicted = int(row["predicted"])
        items.append(
            ErrorItem(
                position=position,
                id=str(row["id"]),
                label=classes[int(row["label"])],
                predicted=classes[predicted],
                probability=float(row[f"probability_{predicted}"]),
                planted=str(row["planted"]),
                rank=rank,
                text=str(row["text"]) if run.kind == "text" else "",
                image=bytes(row["image"]) if run.kind == "image" else b"",
            )
        )
    return tuple(items)
