"""Every way to make one number a pair from the members' raw influences, by name, so that all are measured alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from turnover.estimators.smoothing import smoothing
from turnover.estimators.stored import stored_estimator
from turnover.estimators.trust import freedom_of
from turnover.fidelity.subject import Subject
from turnover.models.members import Members
from turnover.pipeline.estimate import describe_targets, run_estimator


class Estimated(NamedTuple):
    """Estimates and errors, each `(T, N)` in nats; errors are NaN for one member. `note` says what there is to say.

    `freedom` is that of the errors (`turnover.estimators.trust.wrong_sign`).
    """

    values: np.ndarray
    errors: np.ndarray
    note: str = ""
    freedom: int | None = None


@dataclass(frozen=True)
class Evidence:
    """Raw influences `(K, T, N)` of the subject's training items on its targets, and the K members that they are from."""

    subject: Subject
    model: Members
    values: np.ndarray


@dataclass(frozen=True)
class Way:
    """An estimator: it wants so many members, and uses one or all."""

    least: int
    estimate: Callable[[Evidence], Estimated]
    uses: int | None = None


def _one(evidence: Evidence) -> Estimated:
    return Estimated(evidence.values[0], np.full_like(evidence.values[0], np.nan))


def _error(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean over members."""
    error: np.ndarray = values.std(0, ddof=1) / len(values) ** 0.5
    return error


def _mean(evidence: Evidence) -> Estimated:
    return Estimated(evidence.values.mean(0), _error(evidence.values), freedom=len(evidence.values) - 1)


def _median(evidence: Evidence) -> Estimated:
    return Estimated(np.median(evidence.values, 0), _error(evidence.values) * (np.pi / 2) ** 0.5, freedom=len(evidence.values) - 1)


def _smoothed(evidence: Evidence) -> Estimated:
    run = evidence.subject.run
    made = smoothing(evidence.values, run.features("train"), run.train["label"].to_numpy(), len(run.classes))
    return Estimated(*made.apply(evidence.values), freedom=len(evidence.values) - 1)


def _shown(evidence: Evidence) -> Estimated:
    """What a run with these influences shows: by the run's own estimator, or of some of its members by the one that they favour."""
    subject = evidence.subject
    features = np.asarray(subject.run.features("validation")[subject.positions])
    targets = describe_targets(evidence.model, subject.targets, features)
    if len(evidence.values) == subject.settings.members:
        made = stored_estimator(subject.run)
    else:
        made = run_estimator(subject.run, evidence.model, subject.train, evidence.values, targets)
    return Estimated(*made.apply(evidence.values, made.shape_of(targets)), made.name, freedom_of(made.name, len(evidence.values)))


ESTIMATORS: Mapping[str, Way] = {
    "one member": Way(1, _one, uses=1),
    "mean of members": Way(2, _mean),
    "median of members": Way(2, _median),
    "smoothed": Way(2, _smoothed),
    "as shown": Way(2, _shown),
}
"""By name: `smoothed` is `turnover.estimators.smoothing`'s, `as shown` what pages show (`turnover.estimators`)."""
