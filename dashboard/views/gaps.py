"""The training items whose losses under their own and under the flipped mask differ most at an epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnover.report.words import snippet
from turnover.runs import Run

MOST = 10
_TEXT = 160


@dataclass(frozen=True)
class Gap:
    """A training item and its two losses (nats) at an epoch."""

    id: str
    label: str
    planted: str
    text: str
    image: bytes
    masked: float
    flipped: float

    @property
    def value(self) -> float:
        """Flipped minus masked loss: the item's influence on itself at that epoch."""
        return self.flipped - self.masked


def largest_gaps(run: Run, epoch: int) -> tuple[Gap, ...]:
    """The items with the largest flipped − masked loss after `epoch` (from 1), largest first."""
    masked, flipped = (np.asarray(losses) for losses in run.array("item_losses")[:, epoch - 1])
    order = np.argsort(-(flipped - masked), kind="stable")[:MOST]
    return tuple(_gap(run, int(position), float(masked[position]), float(flipped[position])) for position in order)


def _gap(run: Run, position: int, masked: float, flipped: float) -> Gap:
    row = run.item("train", position)
    text, image = (snippet(str(row["text"]), _TEXT), b"") if run.kind == "text" else ("", bytes(row["image"]))
    return Gap(str(row["id"]), run.classes[int(row["label"])], str(row["planted"]), text, image, masked, flipped)
