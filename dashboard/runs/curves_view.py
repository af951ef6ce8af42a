"""The training curves of a run (Figure 2 of the paper), also of a run in training, and their leaks.

Four losses per epoch, in nats: masked (training items under their own masks: learned), flipped
(under their flipped masks: not learned), unowned (validation items, each under the mask that its
own id gives: new items) and validation (full network). Flipped and unowned are losses of half
networks on items that they never saw: a flipped loss below the unowned loss shows that items leak
through shared weights; `leaks` finds the epochs where it is lower by more than two standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from turnover.runs.partial import Partial
from turnover.runs.run import Run

HOW_TO_READ = (
    "Half of every network learned a training item, the other half did not: the gap between the "
    "two lines is what learning it changed. New items are validation items, seen by half a network "
    "alike; items not learned should be about as hard. Validation is the whole network, the one "
    "that predicts."
)
_ERRORS = 2.0
"""Standard errors by which the flipped loss must lie below the unowned loss to count as a leak."""


@dataclass(frozen=True)
class Series:
    """One line of the figure: its column, name, and what it is for those who know the terms."""

    column: str
    name: str
    what: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """The curves on the Runs page; `kept` is the epoch whose weights the run keeps, None in
    training. The accuracy is that of the kept epoch, else of the last one.
    """

    epochs: tuple[int, ...]
    series: tuple[Series, ...]
    kept: int | None
    alt: str
    accuracy: str


_LINES = (
    ("masked", "Learned", "masked: training items under their own masks"),
    ("flipped", "Not learned", "flipped: training items under the flipped masks"),
    ("unowned", "New items", "unowned: validation items under the masks of their ids"),
    ("validation", "Validation", "validation items, the whole network"),
)


def build_curves(run: Run) -> Curves:
    """The curves of a run."""
    results = run.manifest["results"]
    plain = results["plain_accuracy"]
    other = "the model trained here" if run.scored else "ordinary training"
    ordinary = "" if plain is None else f"; {other}: {plain:.1%}"
    accuracy = f"{results['validation_accuracy']:.1%} right on the validation items{ordinary}."
    return _built(run.curves, int(results["kept_epoch"]), accuracy)


def build_partial(partial: Partial) -> Curves | None:
    """The curves so far of a run in training; None before the end of the first epoch."""
    if partial.curves.empty:
        return None
    accuracy = f"{partial.curves['accuracy'].iloc[-1]:.1%} right on the validation items so far."
    return _built(partial.curves, None, accuracy)


def _built(table: pd.DataFrame, kept: int | None, accuracy: str) -> Curves:
    series = tuple(
        Series(column, name, what, tuple(float(value) for value in table[column]))
        for column, name, what in _LINES
    )
    where = f"at the kept epoch {kept}" if kept else "at the last epoch so far"
    alt = f"Losses per epoch over {len(table)} epochs; {where}: " + ", ".join(
        f"{line.name.lower()} {line.values[(kept or len(table)) - 1]:.2f}" for line in series
    )
    return Curves(tuple(int(epoch) for epoch in table["epoch"]), series, kept, alt, accuracy)


def training_sentence(partial: Partial, now: float) -> str:
    """The progress of a training; `now` in seconds since 1970."""
    if partial.curves.empty:
        return "The curves appear here after the first epoch."
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
        else f"Trained; ordinary training, to compare with, is at epoch {partial.twin}"
    )
    return f"{stage}; it ended {when} ago."


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
        f"At {where}, items that were not learned are easier than new ones, by a loss of "
        f"{worst.below:.3f} ± {worst.error:.3f}. Halves of the network that should never have seen "
        f"an item know something of it, so influences come out too small.{known}"
    )
