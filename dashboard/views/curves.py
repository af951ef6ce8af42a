"""The training curves of a run (Figure 2 of the paper), and what they say in words."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from core.runs import Run

HOW_TO_READ = (
    "Every training item owns a fixed dropout mask. Under its own mask works the half of the network that learned the item: the masked loss falls. "
    "Under the flipped mask works the other half, which never saw it: the flipped loss is that of an item not learned. The fair comparison is unowned: "
    "validation items under masks that nobody owns, which are also half networks on unseen items. Flipped well below unowned means that items leak "
    "through shared weights. Flipped well above means that the training items are harder than the validation items, as with wrong labels among them. "
    "Validation is the full network without masks, the one that predicts."
)


@dataclass(frozen=True)
class Series:
    """One line: its column, what it is called, and what it is."""

    column: str
    name: str
    what: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """All that the Curves page shows; `kept` is the epoch whose weights the run keeps."""

    epochs: tuple[int, ...]
    series: tuple[Series, ...]
    kept: int
    table: pd.DataFrame
    alt: str
    validation_accuracy: float
    plain_accuracy: float
    flipped: float
    unowned: float


_LINES = (
    ("masked", "Masked", "training items under their own mask"),
    ("flipped", "Flipped", "training items under the flipped mask"),
    ("unowned", "Unowned", "validation items under masks nobody owns"),
    ("validation", "Validation", "validation items, full network"),
)


def build_curves(run: Run) -> Curves:
    """The curves of a run."""
    table, results = run.curves, run.manifest["results"]
    series = tuple(Series(column, name, what, tuple(float(value) for value in table[column])) for column, name, what in _LINES)
    kept = int(results["kept_epoch"])
    last = {line.name: line.values[kept - 1] for line in series}
    alt = f"Losses per epoch over {len(table)} epochs; at the kept epoch {kept}: " + ", ".join(f"{name.lower()} {value:.2f}" for name, value in last.items())
    return Curves(
        epochs=tuple(int(epoch) for epoch in table["epoch"]),
        series=series,
        kept=kept,
        table=_table(table, kept),
        alt=alt,
        validation_accuracy=float(results["validation_accuracy"]),
        plain_accuracy=float(results["plain_accuracy"]),
        flipped=last["Flipped"],
        unowned=last["Unowned"],
    )


def _table(curves: pd.DataFrame, kept: int) -> pd.DataFrame:
    """The numbers of the figure, as they are shown."""
    shown = pd.DataFrame({"Epoch": curves["epoch"].astype(int)})
    for column, name, _ in _LINES:
        shown[name] = curves[column].astype(float)
    shown["Accuracy"] = curves["accuracy"].astype(float)
    shown["Kept"] = ["kept" if epoch == kept else "" for epoch in shown["Epoch"]]
    return shown
