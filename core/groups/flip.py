"""The smallest group of training items whose removal is predicted to flip a mistake.

The whole network gives the predicted label the loss L_p and the true label L_t, and L_t − L_p > 0 is the margin of the mistake.
An influence on a label's loss is what removing the item is predicted to add to it, so removing the group S leaves

    L_t + I_t(S) − (L_p + I_p(S)) = margin − Σ_{i in S} (I_p(i) − I_t(i))

and where that is below zero, the true label is predicted to win. Each item lowers the margin by a number of its own, so the
smallest group is found by taking the items with the largest numbers first, until the margin is used up: no group of fewer
items has a larger sum. Of three classes or more, flipping to the true class is what is predicted; a third might win instead.
With two classes one loss determines the other, but their influences are estimated one by one, so losses predicted after
removal need not fit together to the last digit.

What is found is a prediction taken at face value, not a retraining, and an optimistic one. Influences are those of half
networks, where a mask doubles what is left on, and they are those of single items: when a group goes, what stays stands in for it. So
a whole network that is trained again moves several times less than the sum says, and the group that flips it is larger. The
items are those with the largest *estimates*. `best` allows for that, being shrunk; with `median` or one member the largest
are too large by chance, and the group is smaller still.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnover.groups.sums import Mistake

_LEAST = float(np.finfo(np.float32).tiny)
"""Probabilities are float32, and none counts as smaller than this."""


@dataclass(frozen=True)
class Flip:
    """What flips a mistake; losses in nats of the predicted and the true label.

    Attributes:
        instances: the smallest group, by position, what counts most first; none if no group of half the training items is enough.
        before: the losses of the whole network, predicted label first.
        after: what they are predicted to be without the group; as before if there is none.
        standard_error: of the margin after, from the noise of the masks; None for one member, or if there is no group.
    """

    instances: np.ndarray
    before: tuple[float, float]
    after: tuple[float, float]
    standard_error: float | None


def smallest_flip(mistake: Mistake) -> Flip:
    """The smallest group of at most half of the training items whose removal is predicted to flip a mistake."""
    item = mistake.run.item("validation", mistake.position)
    chances = [max(float(item[f"probability_{int(item[name])}"]), _LEAST) for name in ("predicted", "label")]
    predicted, true = (float(loss) for loss in -np.log(chances))
    prediction, truth = mistake.items["prediction"], mistake.items["truth"]
    chosen = smallest_group(prediction - truth, true - predicted, len(prediction) // 2)
    after = predicted + float(prediction[chosen].sum()), true + float(truth[chosen].sum())
    return Flip(chosen, (predicted, true), after, mistake.margin_error(chosen) if len(chosen) else None)


def smallest_group(gains: np.ndarray, margin: float, most: int) -> np.ndarray:
    """Positions of the fewest items whose gains `(N,)` sum to more than the margin, largest first; none if `most` items do not."""
    order = np.argsort(-gains, kind="stable")[:most]
    enough = np.flatnonzero(np.cumsum(gains[order]) > margin)
    return order[: enough[0] + 1] if len(enough) else order[:0]
