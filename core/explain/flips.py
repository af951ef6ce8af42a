"""The smallest group of training items that flips a mistake, and what `turnover groups` prints.

The whole network gives the predicted label the probability p and the true label t. When items are
left out, the loss of the predicted label, −ln p, rises; the other labels share what it loses in the
proportions that they have, so the true label wins once p has fallen to

    t / (1 − p + t)

An influence on the predicted label's loss is the rise when the item is removed. Taking the items
with the largest ones first, until their sum is as large as the rise that it takes, gives the
smallest group: no fewer items have a larger sum. Of three classes or more, a third might win.

Sums are far larger than what a whole network does (`turnover.explain.groups`), so they are scaled
by the share of them that retraining showed in this very run (`turnover.runs.proofs.scale_of`). No
loss can be predicted below zero, since this one rises and the others follow from it. Where nothing
was retrained, no flip is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from turnover.errors import TurnoverError
from turnover.explain.groups import MEANINGS, Group, Mistake, ends
from turnover.runs.proofs import read_proofs, scale_of
from turnover.runs.ranking import clearest_first, content_of
from turnover.runs.run import PREDICTION, Run

_LEAST = float(np.finfo(np.float32).tiny)
"""Lower bound of probabilities, which are float32."""


@dataclass(frozen=True)
class Flip:
    """What flips a mistake.

    Attributes:
        instances: positions of the smallest group, largest effect first; empty if half the training
            items are not enough.
        before: the probability of the predicted label.
        after: the predicted one without the group; as before if there is none.
        level: the true label wins below it.
    """

    instances: np.ndarray
    before: float
    after: float
    level: float


def smallest_flip(mistake: Mistake, scale: float) -> Flip:
    """The smallest group of at most half of the training items whose removal is predicted to flip a
    mistake, with sums of influences times `scale`.
    """
    item = mistake.run.item("validation", mistake.position)
    predicted, true = (
        max(float(item[f"probability_{int(item[name])}"]), _LEAST)
        for name in ("predicted", "label")
    )
    level = true / max(1 - predicted + true, _LEAST)
    rises = scale * mistake.items[PREDICTION]
    chosen = smallest_group(rises, float(np.log(predicted / level)), len(rises) // 2)
    return Flip(chosen, predicted, predicted * float(np.exp(-rises[chosen].sum())), level)


def smallest_group(gains: np.ndarray, margin: float, most: int) -> np.ndarray:
    """Positions of the fewest items whose gains `(N,)` sum to more than the margin, largest first;
    none if `most` items do not.
    """
    order = np.argsort(-gains, kind="stable")[:most]
    enough = np.flatnonzero(np.cumsum(gains[order]) > margin)
    return order[: enough[0] + 1] if len(enough) else order[:0]


# `turnover groups`


def group_influences(
    run: Run, groups: Sequence[Group], ids: Sequence[str] = (), top: int = 10
) -> dict[str, Any]:
    """Influence of groups on a run's mistakes, and the smallest group that flips each, None where
    nothing was proved by retraining.

    Args:
        run: with influence.
        groups: for all mistakes; each mistake's own top proponents and opponents are added.
        ids: of the mistakes; by default all that have influences, clearest first.
        top: how many proponents and opponents make up these two.

    Raises:
        TurnoverError: for an id that is no mistake, or a run that cannot sum influences.
    """
    positions = [error_position(run, name) for name in ids] or clearest_first(run)
    scale = scale_of(read_proofs(run)[0])
    entries = [_entry(run, position, groups, top, scale) for position in positions]
    sizes = [entry["flip"]["removed"] for entry in entries if entry["flip"]]
    flipping = [size for size in sizes if size]
    return {
        "run": str(run.folder),
        "estimator": run.influence.estimator,
        "train_size": len(run.train),
        "errors": entries,
        "flips": {
            "errors": len(entries),
            "scale": scale,
            "predicted": None if scale is None else len(flipping),
            "median_removed": float(np.median(flipping)) if flipping else None,
        },
    }


def error_position(run: Run, name: str) -> int:
    """The position of the mistake with this id.

    Raises:
        TurnoverError: if no validation item has it, or one that is not misclassified.
    """
    matches = run.validation.index[run.validation["id"].astype(str) == name]
    if not len(matches):
        raise TurnoverError(
            f"no validation item has the id {name!r}; `turnover errors --run {run.folder}` lists "
            "the misclassified ones"
        )
    position = int(matches[0])
    if position not in run.misclassified_positions:
        raise TurnoverError(
            f"validation item {name!r} is not misclassified; `turnover errors --run {run.folder}` "
            "lists those that are"
        )
    return position


def _entry(
    run: Run, position: int, groups: Sequence[Group], top: int, scale: float | None
) -> dict[str, Any]:
    """One mistake, each group's influence on it, and what flips it."""
    item, classes = run.item("validation", position), run.classes
    mistake, all_groups = Mistake(run, position), [*ends(run, position, top), *groups]
    sums = {meaning: mistake.sums(all_groups, meaning) for meaning in MEANINGS}
    group_entries = [
        {
            "name": group.name,
            "size": len(group.instances),
            **{meaning: vars(sums[meaning][number]) for meaning in MEANINGS},
        }
        for number, group in enumerate(all_groups)
    ]
    return {
        "id": str(item["id"]),
        "label": classes[int(item["label"])],
        "predicted": classes[int(item["predicted"])],
        "injected": str(item["planted"]),
        **content_of(run, position, "validation"),
        "groups": group_entries,
        "flip": None if scale is None else _flip(run, smallest_flip(mistake, scale)),
    }


def _flip(run: Run, flip: Flip) -> dict[str, Any]:
    return {
        "removed": len(flip.instances),
        "ids": run.train["id"].astype(str).iloc[flip.instances].tolist(),
        "probability": flip.before,
        "probability_after": flip.after,
        "level": flip.level,
    }
