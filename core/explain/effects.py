"""What a model says of each error without each of its parts, as a run keeps it.

`turnover influence` asks the model (`turnover.workflows.effects`) and keeps the answers in
RUN/causes/effects.npz, with what the sub-networks that never saw a training item say of it:

    errors, counts        (E,)    positions of the errors, how many parts of each were left out
    words, patches        (U,)    of the parts, error by error: words joined by spaces, or the
                                  number of a patch (-1 for words)
    shares, chances       (U, 4), (U,)  how training items share it (`cues.SharedPart`)
    probabilities         (U,)    of the predicted label without the part
    unseen_labels, unseen_chances, unseen_own  (N,)  of each training item (`doubt.Unseen`)

They belong to weights and influences, and are stale once either has changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from turnover.explain.cues import SharedPart
from turnover.explain.doubt import Unseen
from turnover.explain.parts import GRID, patch_name
from turnover.runs.run import Run, made_with
from turnover.storage.artifacts import read_arrays, write_arrays
from turnover.storage.schema import Facts, check_array, readable, require

FOLDER = "causes"
_SHARES = ("teachers", "having", "items", "sharing")
_UNSEEN = {"labels": "i", "chances": "f", "own": "f"}


@dataclass(frozen=True)
class Effect:
    """A part of an error, with how training items share it, and the probability of the predicted
    label without it.
    """

    part: SharedPart
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
    found = [effect for each in effects.by_error.values() for effect in each]
    parts = [effect.part for effect in found]
    arrays = {
        "errors": np.array([*effects.by_error], np.int64),
        "counts": np.array([len(each) for each in effects.by_error.values()], np.int64),
        "words": np.array([" ".join(part.names) for part in parts], np.str_),
        "patches": np.array([-1 if part.patch is None else part.patch for part in parts], np.int64),
        "shares": np.array(
            [[getattr(part, name) for name in _SHARES] for part in parts], np.int64
        ).reshape(len(parts), len(_SHARES)),
        "chances": np.array([part.chance for part in parts], np.float64),
        "probabilities": np.array([effect.probability for effect in found], np.float32),
        **{f"unseen_{name}": getattr(effects.unseen, name) for name in _UNSEEN},
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
        found = _found(arrays)
        each = zip(arrays["errors"].tolist(), arrays["counts"].tolist(), strict=True)
        by_error = {error: tuple(islice(found, count)) for error, count in each}
    return Effects(by_error, Unseen(*(arrays[f"unseen_{name}"] for name in _UNSEEN)))


def _found(arrays: Mapping[str, np.ndarray]) -> Iterator[Effect]:
    """The effects in arrays, error by error."""
    names = ("words", "patches", "shares", "chances", "probabilities")
    for words, patch, shares, chance, probability in zip(
        *(arrays[name].tolist() for name in names), strict=True
    ):
        shared = {**dict(zip(_SHARES, shares, strict=True)), "chance": chance}
        part = (
            SharedPart((patch_name(patch),), patch, **shared)
            if patch >= 0
            else SharedPart(tuple(words.split()), None, **shared)
        )
        yield Effect(part, probability)


def _check(arrays: Mapping[str, np.ndarray], run: Run) -> None:
    """Raise Implausible for arrays that do not match the run."""
    errors, counts = arrays["errors"], arrays["counts"]
    for array in (errors, counts):
        check_array(array, None, kind="i")
    require(set(errors.tolist()) <= set(run.influence.misclassified), "errors")
    require(len(errors) == len(counts) and (counts >= 0).all(), "counts")
    parts, train = int(counts.sum()), len(run.train)
    check_array(arrays["words"], parts, kind="U")
    check_array(arrays["patches"], parts, kind="i")
    check_array(arrays["shares"], parts, len(_SHARES), kind="i")
    require((arrays["patches"] < GRID * GRID).all(), "patches")
    require(((arrays["shares"] >= 0) & (arrays["shares"] <= train)).all(), "shares")
    for name in ("chances", "probabilities"):
        check_array(arrays[name], parts)
    for name, kind in _UNSEEN.items():
        check_array(arrays[f"unseen_{name}"], train, kind=kind)
    for name in ("chances", "probabilities", "unseen_chances", "unseen_own"):
        require(((arrays[name] >= 0) & (arrays[name] <= 1.001)).all(), name)
    labels = arrays["unseen_labels"]
    require(((labels >= 0) & (labels < len(run.classes))).all(), "unseen_labels")
