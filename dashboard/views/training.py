"""The training items of a run: searched, and in an order that brings up those worth a look."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from turnover.runs import Run

SELF, HARMFUL, LOSS, FLAGGED = "Self-influence", "Most harmful on average", "Loss under the flipped mask", "Flagged"
ORDERS = (SELF, HARMFUL, LOSS, FLAGGED)


@dataclass(frozen=True)
class TrainingItem:
    """A training item and what ranks it, in nats; the influences are None where the run has none.

    `probability` is that of the label that the full network, trained on the item, gives it: `predicted`. `flipped_loss` is
    that of the half that never saw it, at the kept epoch.
    """

    position: int
    id: str
    label: str
    predicted: str
    probability: float
    planted: str
    text: str
    image: bytes
    flipped_loss: float
    self_influence: float | None
    mean_influence: float | None


def training_items(run: Run, with_influence: bool) -> tuple[TrainingItem, ...]:
    """All training items, by position."""
    rows, classes = run.train, run.classes
    blank: list[float | None] = [None] * len(rows)
    own, mean = (run.influence.self_influence.tolist(), run.influence.mean_influence[0].tolist()) if with_influence else (blank, blank)
    flipped = run.array("item_losses")[1, int(run.manifest["results"]["kept_epoch"]) - 1].tolist()
    chances = rows[[f"probability_{number}" for number in range(len(classes))]].to_numpy().max(1).tolist()
    contents = rows["text" if run.kind == "text" else "image"].tolist()
    columns = (rows[name].tolist() for name in ("position", "id", "label", "predicted", "planted"))
    return tuple(
        TrainingItem(
            position=int(position),
            id=str(name),
            label=classes[int(label)],
            predicted=classes[int(predicted)],
            probability=float(chance),
            planted=str(planted),
            text=str(content) if run.kind == "text" else "",
            image=bytes(content) if run.kind == "image" else b"",
            flipped_loss=loss,
            self_influence=self_influence,
            mean_influence=mean_influence,
        )
        for position, name, label, predicted, planted, chance, content, loss, self_influence, mean_influence in zip(
            *columns, chances, contents, flipped, own, mean, strict=True
        )
    )


def select_training(items: Collection[TrainingItem], search: str, order: str, flagged: Collection[int]) -> list[TrainingItem]:
    """The training items in which `search` occurs, in an order; `FLAGGED` leaves out all others. Without influence, orders by it are those of positions."""
    wanted = search.strip().lower()
    chosen = [
        item
        for item in items
        if (order != FLAGGED or item.position in flagged)
        and (not wanted or wanted in item.text.lower() or wanted in item.id.lower() or wanted in item.label.lower() or wanted in item.planted.lower())
    ]
    keys = {
        SELF: lambda item: -(item.self_influence or 0),
        HARMFUL: lambda item: item.mean_influence or 0,
        LOSS: lambda item: -item.flipped_loss,
        FLAGGED: lambda item: item.position,
    }
    return sorted(chosen, key=keys.get(order, keys[SELF]))


def rank_of(values: np.ndarray, place: int) -> int:
    """The rank of one value, 1 for the largest."""
    return int((values > values[place]).sum()) + 1
