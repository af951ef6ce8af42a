"""What each condition trains on: which items stay, and under which labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from turnover.errors import TurnoverError
from turnover.flags import Flag

NONE, RANDOM, CLEANSED, FLAGGED = "no cleansing", "random removal", "cleansing", "your flags"
CONDITIONS = (NONE, RANDOM, CLEANSED)
WITH_FLAGS = (*CONDITIONS, FLAGGED)
_RANDOM = 8


@dataclass(frozen=True)
class Decisions:
    """What people decided: positions to drop, and positions with the class numbers that they are relabelled to, each `(n,)`."""

    dropped: np.ndarray
    relabelled: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, flags: Mapping[int, Flag], classes: list[str], total: int) -> Decisions:
        """The flags that change a training set of `total` items; a flag to keep changes nothing.

        Raises:
            TurnoverError: if none does, or one is about an item or a class that is not there.
        """
        for flag in flags.values():
            if not 0 <= flag.instance < total or (flag.action == "relabel" and flag.new_label not in classes):
                raise TurnoverError(f"the flag on training item {flag.instance} does not fit the run's {total} items and its classes; clear it")
        dropped = [flag.instance for flag in flags.values() if flag.action == "drop"]
        relabelled = {flag.instance: classes.index(flag.new_label) for flag in flags.values() if flag.action == "relabel"}
        if not dropped and not relabelled:
            raise TurnoverError("no training item is flagged to drop or to relabel; flag some on the Errors page, or leave --flags out")
        return cls(*(np.array(part, np.int64) for part in (dropped, list(relabelled), list(relabelled.values()))))


def count_removed(total: int, fraction: float) -> int:
    """How many of `total` items a fraction is: floor(fraction · total + ½)."""
    return int(fraction * total + 0.5)


def lowest(scores: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` lowest scores, lowest first; ties by position."""
    return np.argsort(scores, kind="stable")[:count]


def kept_rows(condition: str, scores: np.ndarray, count: int, seed: int, decisions: Decisions | None = None) -> np.ndarray:
    """Positions of the training items that a condition keeps, in rising order."""
    if condition == NONE:
        return np.arange(len(scores))
    if condition == FLAGGED:
        assert decisions is not None
        gone = decisions.dropped
    else:
        gone = lowest(scores, count) if condition == CLEANSED else _drawn(len(scores), count, seed)
    return np.setdiff1d(np.arange(len(scores)), gone)


def _drawn(total: int, count: int, seed: int) -> np.ndarray:
    """Positions of `count` random items, others for each seed."""
    from turnover.masks import derive_seed  # brings torch, which pages do without

    return np.random.default_rng(derive_seed(seed, _RANDOM)).permutation(total)[:count]


def given_labels(condition: str, labels: np.ndarray, decisions: Decisions | None = None) -> np.ndarray:
    """The labels `(N,)` of all training items that a condition trains under."""
    if condition != FLAGGED or decisions is None:
        return labels
    changed = labels.copy()
    changed[decisions.relabelled] = decisions.labels
    return changed


def check_classes(labels: np.ndarray, classes: list[str], what: str) -> None:
    """See whether every class has an item among the labels that are left.

    Raises:
        TurnoverError: if one has none; the text begins with `what`.
    """
    left = np.bincount(labels, minlength=len(classes))
    if not left.all():
        raise TurnoverError(f"{what} every training item of class {classes[int(left.argmin())]!r}; choose fewer")
