"""One training item's influences on all targets: a column of the matrix whose rows `RunInfluence.ranked` gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnover.ranking import ranking_trust
from turnover.report.explanation import PREDICTION, TRUTH
from turnover.runs import Run


@dataclass(frozen=True)
class Column:
    """What is known of a training item: validation positions, estimates and standard errors in nats, each `(t,)`, and how many targets were computed.

    Where a run keeps the ends of each ranking, these are the targets among whose ends the item is.
    """

    targets: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    computed: int

    def ends(self, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Places (in these arrays) of the `top` most positive influences, largest first, and of the most negative; only of their own sign."""
        order = np.argsort(-self.values, kind="stable")
        return order[:top][self.values[order[:top]] > 0], order[::-1][:top][self.values[order[::-1][:top]] < 0]


def influence_column(run: Run, instance: int, meaning: str) -> Column:
    """A training item's influences on the losses of the targets' true labels (`truth`), or of what the model said of them (`prediction`).

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    targets, values, errors = _column(run, instance, TRUTH)
    if meaning == PREDICTION:  # of all targets but the errors, both are the same
        right = ~np.isin(targets, run.influence.errors)
        parts = zip((targets[right], values[right], errors[right]), _column(run, instance, PREDICTION), strict=True)
        targets, values, errors = (np.concatenate(pair) for pair in parts)
    return Column(targets, values, errors, len(run.influence.targets))


def word_on(run: Run, instance: int, target: int, meaning: str) -> str:
    """How far to trust the influence of a training item on a target, among all training items of that target; "" where no error is known.

    Raises:
        TurnoverError: if this target was not computed.
    """
    ranked = run.influence.ranked(target, meaning)
    return str(ranking_trust(run, ranked)[np.flatnonzero(ranked.instances == instance)[0]])


def _column(run: Run, instance: int, meaning: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    part = run.influence
    targets = np.array(part.targets if meaning == TRUTH else part.errors, np.int64)
    if not len(targets):
        return targets, np.empty(0, np.float32), np.empty(0, np.float32)
    estimates, errors = part.array(f"{meaning}_estimate"), part.array(f"{meaning}_error")
    if part.manifest["layout"] == "full":
        return targets, np.array(estimates[:, instance]), np.array(errors[:, instance])
    rows, places = np.nonzero(part.array(f"{meaning}_instances") == instance)
    return targets[rows], np.array(estimates[rows, places]), np.array(errors[rows, places])
