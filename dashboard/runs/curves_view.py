"""The training curves of a run (Figure 2 of the paper), also of a run in training, and their leaks.

Four losses per epoch: masked (training items under their own masks), flipped (under their flipped
masks), unowned (validation items, each under the mask that its own id gives: a new one, or one that
training items share) and validation (full network). Flipped and unowned are losses of half networks
on items that they never saw: a flipped loss below the unowned loss shows that items leak through
shared weights; `leaks` finds the epochs where it is lower by more than two standard errors. An
item's gap at an epoch is its flipped minus its masked loss, in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from turnover.explain.words import snippet
from turnover.runs.partial import Partial
from turnover.runs.run import Run

HOW_TO_READ = (
    "Every training item has a fixed dropout mask, of its own or shared with others. Under its "
    "own mask works the half of the network that learned the item: the masked loss falls. Under "
    "the flipped mask works the other half, which never saw it: the flipped loss is that of an "
    "item not learned. The shaded gap between the two is the mean influence of the training items "
    "on themselves. The fair comparison is unowned: validation items, each under the mask that "
    "its own id gives, which are also half networks on unseen items. Flipped well below unowned "
    "means that items leak through shared weights. Flipped well above means that the training "
    "items are harder than the validation items, as with wrong labels among them. Validation is "
    "the full network without masks, the one that predicts."
)
_ERRORS = 2.0
"""Standard errors by which the flipped loss must lie below the unowned loss to count as a leak."""


@dataclass(frozen=True)
class Series:
    """One line of the figure: its column, name and description."""

    column: str
    name: str
    what: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """The view of the Curves page; `kept` is the epoch whose weights the run keeps, None in
    training.

    Losses and accuracy are those of the kept epoch, else of the last one; the plain twin's accuracy
    is None if there is no trained twin.
    """

    epochs: tuple[int, ...]
    series: tuple[Series, ...]
    kept: int | None
    table: pd.DataFrame
    alt: str
    validation_accuracy: float
    plain_accuracy: float | None
    flipped: float
    unowned: float


_LINES = (
    ("masked", "Masked", "training items under their own mask"),
    ("flipped", "Flipped", "training items under the flipped mask"),
    ("unowned", "Unowned", "validation items under the masks of their ids"),
    ("validation", "Validation", "validation items, full network"),
)


def build_curves(run: Run) -> Curves:
    """The curves of a run."""
    results = run.manifest["results"]
    return _built(
        run.curves,
        int(results["kept_epoch"]),
        float(results["validation_accuracy"]),
        results["plain_accuracy"],
    )


def build_partial(partial: Partial) -> Curves | None:
    """The curves so far of a run in training; None before the end of the first epoch."""
    if partial.curves.empty:
        return None
    return _built(partial.curves, None, float(partial.curves["accuracy"].iloc[-1]), None)


def _built(
    table: pd.DataFrame, kept: int | None, accuracy: float, plain_accuracy: float | None
) -> Curves:
    series = tuple(
        Series(column, name, what, tuple(float(value) for value in table[column]))
        for column, name, what in _LINES
    )
    last = {line.name: line.values[(kept or len(table)) - 1] for line in series}
    where = f"at the kept epoch {kept}" if kept else "at the last epoch so far"
    alt = f"Losses per epoch over {len(table)} epochs; {where}: " + ", ".join(
        f"{name.lower()} {value:.2f}" for name, value in last.items()
    )
    return Curves(
        epochs=tuple(int(epoch) for epoch in table["epoch"]),
        series=series,
        kept=kept,
        table=_table(table, kept),
        alt=alt,
        validation_accuracy=accuracy,
        plain_accuracy=plain_accuracy,
        flipped=last["Flipped"],
        unowned=last["Unowned"],
    )


def _table(curves: pd.DataFrame, kept: int | None) -> pd.DataFrame:
    """The numbers of the figure as a table."""
    shown = pd.DataFrame({"Epoch": curves["epoch"].astype(int)})
    for column, name, _ in _LINES:
        shown[name] = curves[column].astype(float)
    shown["Accuracy"] = curves["accuracy"].astype(float)
    return (
        shown
        if kept is None
        else shown.assign(Kept=["kept" if epoch == kept else "" for epoch in shown["Epoch"]])
    )


def training_sentence(partial: Partial, now: float) -> str:
    """The progress of a training; `now` in seconds since 1970."""
    if partial.curves.empty:
        return "Training has begun; the curves appear here after the first epoch."
    ago = max(0.0, now - partial.changed)
    when = (
        f"{ago:.0f} s"
        if ago < 120
        else f"{ago / 60:.0f} min"
        if ago < 7200
        else f"{ago / 3600:.0f} h"
    )
    stage = (
        f"Epoch {len(partial.curves)} of at most {partial.most}"
        if not partial.twin
        else f"Trained; its plain twin is at epoch {partial.twin}"
    )
    return (
        f"{stage}; it ended {when} ago. If the training was stopped, the same command goes on "
        "with it."
    )


@dataclass(frozen=True)
class Leak:
    """How far the flipped loss lies below the unowned loss at an epoch, with its standard error
    (nats).
    """

    epoch: int
    below: float
    error: float


def leaks(curves: Curves, flipped_items: np.ndarray, validation_size: int) -> tuple[Leak, ...]:
    """The epochs at which the flipped loss lies below the unowned loss by more than two standard
    errors.

    The standard error is s·√(1/N + 1/V), that of a difference of means over N training and V
    validation items. The unowned losses of single validation items are not stored, so s, the
    standard deviation of the flipped losses `(epochs, N)`, stands for theirs too.
    """
    unowned = next(line.values for line in curves.series if line.column == "unowned")
    exceeding = []
    for epoch, losses, level in zip(curves.epochs, flipped_items, unowned, strict=True):
        error = (
            float(losses.std(ddof=1)) * (1 / len(losses) + 1 / validation_size) ** 0.5
            if len(losses) > 1 and validation_size
            else np.inf
        )
        below = level - float(losses.mean())
        if below > _ERRORS * error:
            exceeding.append(Leak(epoch, below, error))
    return tuple(exceeding)


def leak_sentence(epochs: tuple[Leak, ...], shared: list[str]) -> str:
    """The largest of the leaks, and the leaks recorded in the run's manifest (`shared`, [] if
    unknown); "" if there is none.
    """
    if not epochs:
        return ""
    worst = max(epochs, key=lambda leak: leak.below)
    where = (
        f"epoch {worst.epoch}"
        if len(epochs) == 1
        else f"{len(epochs)} epochs, most at epoch {worst.epoch}"
    )
    known = (
        f" What training items share in spite of their masks in this run: {', '.join(shared)}."
        if shared
        else ""
    )
    return (
        f"At {where}, the flipped loss lies below the unowned loss by {worst.below:.3f} ± "
        f"{worst.error:.3f} nats. Halves of the network that should never have seen an item know "
        f"something of it, so influences come out too small.{known}"
    )


# Gaps at an epoch

MOST = 10
_TEXT = 160


@dataclass(frozen=True)
class Gap:
    """A training item and its two losses (nats) at an epoch."""

    id: str
    label: str
    injected: str
    text: str
    image: bytes
    masked: float
    flipped: float

    @property
    def value(self) -> float:
        """Flipped minus masked loss: the item's self-influence at that epoch."""
        return self.flipped - self.masked


def largest_gaps(run: Run, epoch: int) -> tuple[Gap, ...]:
    """The items with the largest flipped − masked loss after `epoch` (from 1), largest first."""
    masked, flipped = (np.asarray(losses) for losses in run.array("item_losses")[:, epoch - 1])
    order = np.argsort(-(flipped - masked), kind="stable")[:MOST]
    return tuple(
        _gap(run, int(position), float(masked[position]), float(flipped[position]))
        for position in order
    )


def _gap(run: Run, position: int, masked: float, flipped: float) -> Gap:
    row = run.item("train", position)
    text, image = (
        (snippet(str(row["text"]), _TEXT), b"") if run.kind == "text" else ("", bytes(row["image"]))
    )
    return Gap(
        str(row["id"]),
        run.classes[int(row["label"])],
        str(row["planted"]),
        text,
        image,
        masked,
        flipped,
    )
