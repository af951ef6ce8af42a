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

from turnover.attribution.ensemble import Members
from turnover.data.images import png_pixels
from turnover.errors import TurnoverError
from turnover.explain.cues import SharedPart, Sharing
from turnover.explain.doubt import Unseen
from turnover.explain.effects import Effect, Effects, keep_effects
from turnover.explain.parts import without_patches, without_words
from turnover.models.family import Reader
from turnover.runs.model import run_settings, run_split
from turnover.runs.run import Run
from turnover.storage.progress import bar
from turnover.training.fit import probabilities

MOST, MOST_OF_ONE = 20_000, 60
"""Inputs that are asked about: of all errors, and of one."""

_ROWS = 256


class _Left(NamedTuple):
    """A part that is left out of an error, by the error's position."""

    error: int
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
    by_error: dict[int, list[Effect]] = {}
    with suppress(TurnoverError):  # heads have done without their encoder until now
        read = run_settings(run).reader(device)
        by_error = part_effects(run, model, device, read, run.influence.misclassified)
    effects = {error: tuple(found) for error, found in by_error.items()}
    return keep_effects(run, Effects(effects, _unseen(run, model, device)))


def part_effects(
    run: Run, model: Members, device: torch.device, read: Reader, errors: Sequence[int]
) -> dict[int, list[Effect]]:
    """What leaving out each part of some validation items does to the probability of their
    predicted labels, by position; `read` makes the model's inputs.
    """
    sharing, predicted = Sharing(run, errors), run.validation["predicted"]
    share = min(MOST_OF_ONE, max(1, MOST // max(1, len(errors))))
    by_class = sorted(errors, key=lambda error: int(predicted.loc[error]))
    left = [_Left(error, part) for error in by_class for part in sharing.parts(error)[:share]]
    effects: dict[int, list[Effect]] = {error: [] for error in errors}
    with bar(len(left), f"{run.name}: parts of the errors", f"{run.kind}s") as advance:
        for first in range(0, len(left), _ROWS):
            rows = left[first : first + _ROWS]
            inputs = torch.from_numpy(read(_contents(run, rows))).to(device)
            for (error, part), chances in zip(rows, probabilities(model, inputs), strict=True):
                effects[error].append(Effect(part, float(chances[int(predicted.loc[error])])))
            advance(len(rows))
    return effects


def _contents(run: Run, rows: Sequence[_Left]) -> Any:
    """Errors without a part: texts, or images uint8 `(n, H, W)` or `(n, H, W, 3)`."""
    items = run.validation[run.kind]
    if run.kind == "text":
        return [without_words(items.loc[error], part.names) for error, part in rows]
    without = {
        error: [*without_patches(png_pixels(items.loc[error]))]
        for error in dict.fromkeys(error for error, _ in rows)
    }
    return np.stack([without[error][part.patch or 0] for error, part in rows])


def _unseen(run: Run, model: Members, device: torch.device) -> Unseen:
    """What the sub-networks that never saw a training item say of it."""
    train = run_split(run, "train", device)
    ids = torch.arange(len(train.labels), device=device)
    chances = probabilities(model, train.inputs, ids, flipped=True).cpu().numpy()
    return Unseen.of(chances, train.labels.cpu().numpy())
