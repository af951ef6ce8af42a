"""What groups of training items did to one mistake: sums of their influences, with errors and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.estimators.stored import stored_estimator
from core.estimators.trust import freedom_of, trust_words
from core.groups.choose import Group
from core.ranking import finite
from core.runs import Run


@dataclass(frozen=True)
class Sum:
    """A group's influence on a loss in nats, its standard error, and a word for how far to trust it; the latter None for one member.

    `random` is what a random group with as many items of each label does: mean and standard deviation over all such groups;
    None where the group was chosen by its influences, or where there is no other such group.
    """

    influence: float
    standard_error: float | None
    trust: str | None
    random: tuple[float, float] | None


class Mistake:
    """The influences of all N training items on one misclassified validation item, ready to be summed.

    Raises:
        TurnoverError: if the run has no usable influence for this item, or did not keep what sums need.
    """

    def __init__(self, run: Run, position: int) -> None:
        self.run, self.position = run, position
        self.estimator = stored_estimator(run)
        self.evidence = {meaning: run.influence.evidence(position, meaning) for meaning in ("prediction", "truth")}
        self.items = {meaning: run.influence.ranked(position, meaning).values.astype(np.float64) for meaning in self.evidence}

    def sums(self, groups: Sequence[Group], meaning: str) -> list[Sum]:
        """The groups' influences on the loss of the predicted label (`prediction`) or of the true one (`truth`).

        Words are for all groups together: of those called strong, at most 5 % are expected to have the wrong sign.
        """
        if not groups:
            return []
        values, errors = (found[0] for found in self.estimator.group(*self.evidence[meaning], self._inside([group.instances for group in groups])))
        freedom = freedom_of(self.estimator.name, len(self.evidence[meaning][0]))  # a sum of medians has the spread of K sums
        words = np.where(np.isfinite(errors), trust_words(values, errors, freedom=freedom), "")
        return [
            Sum(float(value), finite(error), str(word) or None, self._random(group, meaning))
            for group, value, error, word in zip(groups, values, errors, words, strict=True)
        ]

    def margin_error(self, instances: np.ndarray) -> float | None:
        """Standard error of the difference of a group's influences on the prediction and on the truth; None for one member.

        The two have the same masks, so their errors go together. Their difference is estimated as a target of its own:
        the influence on the true label's loss minus the predicted label's.
        """
        members, shape = (one - other for one, other in zip(self.evidence["prediction"], self.evidence["truth"], strict=True))
        return finite(self.estimator.group(members, shape, self._inside([instances]))[1][0, 0])

    def _inside(self, chosen: Sequence[np.ndarray]) -> np.ndarray:
        """Membership `(G, N)`."""
        inside = np.zeros((len(chosen), len(self.run.train)), bool)
        for row, instances in zip(inside, chosen, strict=True):
            row[instances] = True
        return inside

    def _random(self, group: Group, meaning: str) -> tuple[float, float] | None:
        """Mean and standard deviation of the influence of random groups with as many items of each label, drawn without replacement."""
        labels, values = self.run.train["label"].to_numpy(), self.items[meaning]
        counts, totals = (np.bincount(some, minlength=len(self.run.classes)) for some in (labels[group.instances], labels))
        if group.ranked or not (counts % np.maximum(totals, 1)).any():
            return None
        mean, variance = 0.0, 0.0
        for label in np.flatnonzero(counts):
            own, count = values[labels == label], counts[label]
            mean += count * own.mean()
            variance += count * (1 - count / len(own)) * own.var(ddof=1) if len(own) > count else 0
        return float(mean), float(variance**0.5)
