"""What a model says of each error without each of its parts, as a run keeps it.

`turnover influence` asks the model (`turnover.workflows.effects`) and keeps the answers in
RUN/causes/effects.npz, with what the sub-networks that never saw a training item say of it:

    errors, counts        (E,)  positions of the errors, and how many parts of each were left out
    words, patches        (U,)  of the parts, error by error: words joined by spaces, or the number
                                of a patch (-1 for words)
    probabilities         (U,)  of the predicted label without the part
    labels, chances, own  (N,)  of each training item: `turnover.explain.doubt.Unseen`

They belong to weights and influences, and are stale once either has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turnover.explain.doubt import Unseen
from turnover.explain.parts import GRID, patch_name
from turnover.runs.run import Run, made_with
from turnover.storage.artifacts import read_arrays, write_arrays
from turnover.storage.schema import Facts, check_array, readable, require

FOLDER = "causes"
_OF_PARTS = {"words": "U", "patches": "i", "probabilities": "f"}
_OF_ITEMS = {"labels": "i", "chances": "f", "own": "f"}


@dataclass(frozen=True)
class Effect:
    """What leaving out one part of an error does.

    Attributes:
        names: the words that are left out together, or the name of the patch.
        patch: its number, row by row from 0; None for words.
        probability: of the predicted label without the part.
    """

    names: tuple[str, ...]
    patch: int | None
    probability: float


@dataclass(frozen=True)
class Effects:
    """The effects of each error's parts, by the error's position, and what is said of training
    items by those that never saw them.
    """

    by_error: Mapping[int, tuple[Effect, ...]]
    unseen: Unseen


class _Made(Facts):
    made_with: dict[str, str]


def effects_path(run: Run) -> Path:
    """The file that they are kept in."""
    return run.folder / FOLDER / "effects.npz"


def keep_effects(run: Run, effects: Effects) -> Path:
    """Keep effects with a run; returns the file.

    Raises:
        TurnoverError: if the run has no usable influence, or the file cannot be written.
    """
    parts = [effect for found in effects.by_error.values() for effect in found]
    arrays = {
        "errors": np.array([*effects.by_error], np.int64),
        "counts": np.array([len(found) for found in effects.by_error.values()], np.int64),
        "words": np.array([" ".join(effect.names) for effect in parts], np.str_),
        "patches": np.array([_number(effect) for effect in parts], np.int64),
        "probabilities": np.array([effect.probability for effect in parts], np.float32),
        **{name: getattr(effects.unseen, name) for name in _OF_ITEMS},
    }
    return write_arrays(effects_path(run), arrays, {"made_with": made_with(run)})


def kept_effects(run: Run) -> Effects | None:
    """The effects of a run; None if there are none, or none of its weights and influences.

    Raises:
        TurnoverError: if they are damaged, or the run has no usable influence.
    """
    path, again = effects_path(run), run.influence.again
    if not path.exists():
        return None
    arrays, facts = read_arrays(path, _Made, again)
    if facts.made_with != made_with(run):
        return None
    with readable(path, again):
        _check(arrays, run)
        parts = zip(*(arrays[name].tolist() for name in _OF_PARTS), strict=True)
        found = (
            Effect((patch_name(patch),), patch, chance)
            if patch >= 0
            else Effect(tuple(words.split()), None, chance)
            for words, patch, chance in parts
        )
        each = zip(arrays["errors"].tolist(), arrays["counts"].tolist(), strict=True)
        by_error = {error: tuple(next(found) for _ in range(count)) for error, count in each}
    return Effects(by_error, Unseen(*(arrays[name] for name in _OF_ITEMS)))


def _number(effect: Effect) -> int:
    return -1 if effect.patch is None else effect.patch


def _check(arrays: Mapping[str, np.ndarray], run: Run) -> None:
    """Raise Implausible for arrays that do not match the run."""
    errors, counts = arrays["errors"], arrays["counts"]
    for array in (errors, counts):
        check_array(array, None, kind="i")
    require(set(errors.tolist()) <= set(run.influence.misclassified), "errors")
    require(len(errors) == len(counts) and (counts >= 0).all(), "counts")
    for name, kind in _OF_PARTS.items():
        check_array(arrays[name], int(counts.sum()), kind=kind)
    require((arrays["patches"] < GRID * GRID).all(), "patches")
    for name, kind in _OF_ITEMS.items():
        check_array(arrays[name], len(run.train), kind=kind)
    for name in ("probabilities", "chances", "own"):
        require(((arrays[name] >= 0) & (arrays[name] <= 1.001)).all(), name)
    labels = arrays["labels"]
    require(((labels >= 0) & (labels < len(run.classes))).all(), "labels")
