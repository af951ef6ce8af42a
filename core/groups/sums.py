"""What groups of training items did to one mistake, or to all of them on average: sums of their influences, with errors and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from turnover.errors import TurnoverError
from turnover.estimators.stored import stored_estimator
from turnover.estimators.trust import freedom_of, trust_words
from turnover.groups.choose import Group
from turnover.ranking import finite
from turnover.runs import Run


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


MEANINGS = ("prediction", "truth")


class Summable:
    """The influences of all N training items on two losses, ready to be summed.

    `evidence` is what each was estimated from, as `RunInfluence.evidence` gives it, and `items` the estimates, `(N,)` each.
    """

    def __init__(self, run: Run, evidence: dict[str, tuple[np.ndarray, np.ndarray]], items: dict[str, np.ndarray]) -> None:
        self.run, self.evidence, self.items = run, evidence, items
        self.estimator = stored_estimator(run)

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


class Mistake(Summable):
    """The influences on one misclassified validation item.

    Raises:
        TurnoverError: if the run has no usable influence for this item, or did not keep what sums need.
    """

    def __init__(self, run: Run, position: int) -> None:
        self.position = position
        evidence = {meaning: run.influence.evidence(position, meaning) for meaning in MEANINGS}
        super().__init__(run, evidence, {meaning: run.influence.ranked(position, meaning).values.astype(np.float64) for meaning in MEANINGS})


class MeanMistake(Summable):
    """The influences on the mean loss of all misclassified validation items that have influences: estimated as a target of its own.

    The errors of one training item's influences on many targets go together, since its mask is the same; so the error of
    their mean is not known from their errors, but it is that of this one target. Nor is the estimate the mean of theirs: less
    of it is noise, so less is shrunk away.

    Raises:
        TurnoverError: if no mistake has usable influences, or the run did not keep what sums need.
    """

    def __init__(self, run: Run) -> None:
        if not run.influence.errors:
            raise TurnoverError(f"{run.folder}: no error has influences, so there is nothing to sum")
        evidence = {meaning: _mean_evidence(run, meaning) for meaning in MEANINGS}
        estimator = stored_estimator(run)
        super().__init__(run, evidence, {meaning: estimator.apply(*found)[0][0] for meaning, found in evidence.items()})


def _mean_evidence(run: Run, meaning: str) -> tuple[np.ndarray, np.ndarray]:
    """Evidence, averaged over all mistakes that have it; one at a time, since all of them may not fit into memory."""
    errors = run.influence.errors
    members, shape = (part.astype(np.float64) for part in run.influence.evidence(errors[0], meaning))
    for error in errors[1:]:
        for total, part in zip((members, shape), run.influence.evidence(error, meaning), strict=True):
            total += part
    return members / len(errors), shape / len(errors)
