"""Leave out each part of each error, and ask the whole network again.

All errors go through the model in one stream of batches: what is held at a time does not grow with
their number. At most `MOST` inputs are asked about, in equal shares: of an error with more parts
than its share, those that its teachers share most (`turnover.explain.cues`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from turnover.attribution.engine.naive import device_of
from turnover.attribution.ensemble import Members
from turnover.data.images import png_pixels
from turnover.errors import TurnoverError
from turnover.explain.cues import Predicted, SharedPart, Sharing, predicted_item
from turnover.explain.doubt import Unseen
from turnover.explain.effects import Effect, Effects, keep_effects
from turnover.explain.parts import without_patches, without_words
from turnover.models.family import Reader
from turnover.runs.model import run_settings, run_split
from turnover.runs.run import Run
from turnover.storage.progress import Advance, bar, silent
from turnover.training.fit import probabilities

MOST, MOST_OF_ONE = 20_000, 60
"""Inputs that are asked about: of all errors, and of one."""

_ROWS = 256


class Left(NamedTuple):
    """A part that is left out of an item, by the item's number."""

    number: int
    part: SharedPart


def compute_effects(run: Run, model: Members, device: torch.device) -> Path:
    """Compute and keep the effects of the parts of a run's errors, or none where the encoder that
    reads texts is not there; returns the file.

    Args:
        run: with influence.
        model: of the run, on the device.

    Raises:
        TurnoverError: if the file cannot be written.
    """
    effects = {}
    with suppress(TurnoverError):  # heads have done without their encoder until now
        errors = run.influence.misclassified
        effects = error_effects(run, model, run_settings(run).reader(device), errors)
    return keep_effects(run, Effects(effects, _unseen(run, model, device)))


def error_effects(
    run: Run, model: Members, read: Reader, positions: Sequence[int]
) -> dict[int, tuple[Effect, ...]]:
    """The effects of the parts of some validation items on their predictions, by position."""
    items = [predicted_item(run, position) for position in positions]
    left = parts_to_leave(run, items)
    with bar(len(left), f"{run.name}: parts of the errors", f"{run.kind}s") as advance:
        return dict(zip(positions, part_effects(model, read, items, left, advance), strict=True))


def parts_to_leave(run: Run, items: Sequence[Predicted]) -> list[Left]:
    """The parts of some items that are left out, class by class."""
    sharing, share = Sharing(run, items), min(MOST_OF_ONE, max(1, MOST // max(1, len(items))))
    by_class = sorted(range(len(items)), key=lambda number: items[number].label)
    return [
        Left(number, part) for number in by_class for part in sharing.parts(items[number])[:share]
    ]


def part_effects(
    model: Members,
    read: Reader,
    items: Sequence[Predicted],
    left: Sequence[Left],
    advance: Advance = silent,
) -> list[tuple[Effect, ...]]:
    """What leaving out each part does to the probability of its item's predicted label, item by
    item; `read` makes the model's inputs.
    """
    effects: list[list[Effect]] = [[] for _ in items]
    for first in range(0, len(left), _ROWS):
        rows = left[first : first + _ROWS]
        inputs = torch.from_numpy(read(_contents(items, rows))).to(device_of(model))
        for (number, part), chances in zip(rows, probabilities(model, inputs), strict=True):
            effects[number].append(Effect(part, float(chances[items[number].label])))
        advance(len(rows))
    return [tuple(found) for found in effects]


def _contents(items: Sequence[Predicted], rows: Sequence[Left]) -> Any:
    """Items without a part: texts, or images uint8 `(n, H, W)` or `(n, H, W, 3)`."""
    contents = {number: items[number].content for number, _ in rows}
    without = {
        number: [*without_patches(png_pixels(content))]
        for number, content in contents.items()
        if isinstance(content, bytes)
    }
    if without:
        return np.stack([without[number][part.patch or 0] for number, part in rows])
    return [without_words(str(contents[number]), part.names) for number, part in rows]


def _unseen(run: Run, model: Members, device: torch.device) -> Unseen:
    """What the sub-networks that never saw a training item say of it."""
    train = run_split(run, "train", device)
    ids = torch.arange(len(train.labels), device=device)
    chances = probabilities(model, train.inputs, ids, flipped=True).cpu().numpy()
    return Unseen.of(chances, train.labels.cpu().numpy())
