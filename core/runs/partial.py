"""Runs still in training: their curves so far, from the checkpoint written after every epoch.

`turnover.workflows.train` works in `RUN.partial` and renames it once the run is complete. A
checkpoint is replaced as a whole, so reading one never disturbs the training. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from turnover.errors import TurnoverError
from turnover.storage.schema import CURVES, Facts, readable

SUFFIX = ".partial"


@dataclass(frozen=True)
class Partial:
    """A run in training, or interrupted.

    Attributes:
        name: of the run that it will be.
        curves: as `Run.curves`; no rows before the first epoch has ended.
        most: maximum number of epochs; 0 while unknown.
        twin: finished epochs of its plain twin, which is trained last.
        changed: when the last epoch ended, in seconds since 1970; 0 before the first.
        flipped: losses of the training items under their flipped masks, `(epochs, N)` in nats.
        validation_size: number of validation items; 0 while unknown.
    """

    name: str
    curves: pd.DataFrame
    most: int
    twin: int
    changed: float
    flipped: np.ndarray
    validation_size: int


def find_partials(folder: Path) -> list[str]:
    """Names of the runs in a folder that are in training or interrupted, without completed runs."""
    if not folder.is_dir():
        return []
    names = sorted(
        path.parent.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}/settings.json")
    )
    return [name for name in names if not (folder / name).exists()]


def read_partial(folder: Path, name: str) -> Partial:
    """The run `name` in a folder of runs, as far as it has come.

    Raises:
        TurnoverError: if it is not there (any more), or its checkpoint is damaged.
    """
    partial = folder / f"{name}{SUFFIX}"
    if not partial.is_dir():
        raise TurnoverError(f"{partial}: not there any more; the run is finished, or was deleted")
    masked, plain = partial / "masked.checkpoint", partial / "plain.checkpoint"
    if not masked.exists():
        empty = curves_table({column: [] for column in CURVES}, [])
        return Partial(name, empty, 0, 0, 0.0, np.empty((0, 0), np.float32), 0)
    facts, flipped, validation_size = _checkpoint(masked)
    twin = len(_checkpoint(plain)[0].accuracy) if plain.exists() else 0
    changed = max(path.stat().st_mtime for path in (masked, plain) if path.exists())
    curves, most = curves_table(dict(facts.curves), facts.accuracy), facts.made_with.recipe.epochs
    return Partial(name, curves, most, twin, changed, flipped, validation_size)


class _Recipe(Facts):
    epochs: int


class _MadeWith(Facts):
    recipe: _Recipe


class _Curves(Facts, allow_inf_nan=True):
    masked: list[float]
    flipped: list[float]
    validation: list[float]
    unowned: list[float]


class _Training(Facts, allow_inf_nan=True):
    """What a checkpoint says; a training may diverge."""

    curves: _Curves
    accuracy: list[float]
    made_with: _MadeWith


def _checkpoint(path: Path) -> tuple[_Training, np.ndarray, int]:
    """A checkpoint's facts, flipped losses, and number of validation items."""
    from safetensors import safe_open

    with (
        readable(path, "delete it to train from the beginning"),
        safe_open(path, "numpy") as file,
    ):
        training = _Training.model_validate_json(file.metadata()["facts"])
        flipped = np.asarray(file.get_tensor("flipped_items"))
        return training, flipped, int(file.get_slice("validation_items").get_shape()[1])


def curves_table(curves: Mapping[str, Sequence[float]], accuracy: Sequence[float]) -> pd.DataFrame:
    """Losses in nats and accuracy, one row an epoch, as in a run's `curves.parquet`."""
    return pd.DataFrame(
        {
            "epoch": np.arange(1, len(accuracy) + 1),
            **curves,
            "accuracy": np.asarray(accuracy, float),
        }
    )
