"""The smallest group of training items that flips a mistake, and what `turnover groups` prints.

The whole network gives the predicted label the loss L_p and the true label L_t, and
L_t − L_p > 0 is the margin of the mistake. An influence on a label's loss is the predicted increase
when the item is removed, so removing the group S leaves

    L_t + I_t(S) − (L_p + I_p(S)) = margin − Σ_{i in S} (I_p(i) − I_t(i))

and below zero the true label is predicted to win. Taking the items with the largest differences
first, until the margin is used up, gives the smallest group: no fewer items have a larger sum. Of
three classes or more, a third might win instead. With two classes one loss determines the other,
but their influences are estimated separately, so the predicted losses need not agree exactly.
That holds for predictions as far as sums do (`turnover.explain.groups`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from turnover.errors import TurnoverError
from turnover.explain.groups import MEANINGS, Group, Mistake, ends
from turnover.runs.ranking import clearest_first, content_of
from turnover.runs.run import Run

_LEAST = float(np.finfo(np.float32).tiny)
"""Lower bound of probabilities, which are float32."""


@dataclass(frozen=True)
class Flip:
    """What flips a mistake; losses in nats of the predicted and the true label.

    Attributes:
        instances: positions of the smallest group, largest effect first; empty if half the training
            items are not enough.
        before: the losses of the whole network, predicted label first.
        after: predicted losses without the group; as before if there is none.
        std_error: of the margin after, from the noise of the masks; None for one member, or if
            there is no group.
    """

    instances: np.ndarray
    before: tuple[float, float]
    after: tuple[float, float]
    std_error: float | None


def smallest_flip(mistake: Mistake) -> Flip:
    """The smallest group of at most half of the training items whose removal is predicted to flip a
    mistake.
    """
    item = mistake.run.item("validation", mistake.position)
    chances = [
        max(float(item[f"probability_{int(item[name])}"]), _LEAST)
        for name in ("predicted", "label")
    ]
    predicted, true = (float(loss) for loss in -np.log(chances))
    prediction, truth = mistake.items["prediction"], mistake.items["truth"]
    chosen = smallest_group(prediction - truth, true - predicted, len(prediction) // 2)
    after = predicted + float(prediction[chosen].sum()), true + float(truth[chosen].sum())
    return Flip(
        chosen, (predicted, true), after, mistake.margin_error(chosen) if len(chosen) else None
    )


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
    """Influence of groups on a run's mistakes, and the smallest group that flips each.

    Args:
        run: with influence.
        groups: for all mistakes; each mistake's own top proponents and opponents are added.
        ids: of the mistakes; by default all that have influences, clearest first.
        top: how many proponents and opponents make up these two.

    Raises:
        TurnoverError: for an id that is no mistake, or a run that cannot sum influences.
    """
    positions = [_position(run, name) for name in ids] or clearest_first(run)
    entries = [_entry(run, position, groups, top) for position in positions]
    sizes = [entry["flip"]["removed"] for entry in entries if entry["flip"]["removed"]]
    return {
        "run": str(run.folder),
        "estimator": run.influence.estimator,
        "train_size": len(run.train),
        "errors": entries,
        "flips": {
            "errors": len(entries),
            "predicted": len(sizes),
            "median_removed": float(np.median(sizes)) if sizes else None,
        },
    }


def _position(run: Run, name: str) -> int:
    """The position of a mistake."""
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


def _entry(run: Run, position: int, groups: Sequence[Group], top: int) -> dict[str, Any]:
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
        "flip": _flip(run, smallest_flip(mistake)),
    }


def _flip(run: Run, flip: Flip) -> dict[str, Any]:
    return {
        "removed": len(flip.instances),
        "ids": run.train["id"].astype(str).iloc[flip.instances].tolist(),
        "losses": dict(zip(("predicted", "true"), flip.before, strict=True)),
        "losses_after": dict(zip(("predicted", "true"), flip.after, strict=True)),
        "margin_error": flip.std_error,
    }
