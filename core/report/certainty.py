"""How much of what a run's pages show can be told from noise: the words of `turnover.estimators.trust`, counted for all its errors at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnover.estimators.trust import RATE, freedom_of, strong, wrong_sign
from turnover.report.explanation import PREDICTION
from turnover.runs import Run

_VALUES = 2**20
"""How many influences are judged at once."""


@dataclass(frozen=True)
class Certainty:
    """Strong and weak training items of a run's errors, by influence on the prediction.

    Attributes:
        strong: for each error that has influences, by position, how many training items are strong; empty where no error is known (one member).
        weak: the same of weak ones.
        errors: how many errors have influences.
        train_size: how many training items each was ranked among.
        members: models in the run.
        agreement: mean row correlation of the estimate from one half of the members with the other half's raw median, as it
            was measured when the run's estimator was chosen; None for fewer than four members.
        partly: whether the run keeps the ends of each ranking only, so that counts are least counts.
    """

    strong: dict[int, int]
    weak: dict[int, int]
    errors: int
    train_size: int
    members: int
    agreement: float | None
    partly: bool

    @property
    def known(self) -> bool:
        """Whether anything says what is noise."""
        return bool(self.strong)

    @property
    def share(self) -> float:
        """Share of the errors with at least one strong training item; 0 where nothing is known."""
        return float(np.mean([count > 0 for count in self.strong.values()])) if self.known else 0.0

    @property
    def usual(self) -> float:
        """Strong training items of an error, median over errors."""
        return float(np.median(list(self.strong.values()))) if self.known else 0.0

    @property
    def usual_share(self) -> float:
        """The same as a share of all training items."""
        return self.usual / self.train_size


def run_certainty(run: Run) -> Certainty:
    """Judge all errors of a run.

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    part, members, total = run.influence, int(run.manifest["results"]["members"]), len(run.train)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    if members > 1 and part.errors:
        estimates, errors = (part.array(f"{PREDICTION}_{name}") for name in ("estimate", "error"))
        freedom = freedom_of(part.estimator, members)
        step = max(1, _VALUES // estimates.shape[1])
        for first in range(0, len(estimates), step):
            rows = slice(first, first + step)
            chances = wrong_sign(np.asarray(estimates[rows]), np.asarray(errors[rows]), freedom)
            found.append((strong(chances, total).sum(1), (chances <= RATE).sum(1)))
    counts = [np.concatenate(parts) for parts in zip(*found, strict=True)] or [np.empty(0, int)] * 2
    certain, passing = (dict(zip(part.errors, own.tolist(), strict=False)) for own in counts)
    agreement = part.manifest["agreement"].get(part.estimator)
    return Certainty(
        strong=certain,
        weak={error: passing[error] - count for error, count in certain.items()},
        errors=len(part.errors),
        train_size=total,
        members=members,
        agreement=None if agreement is None else float(agreement),
        partly=part.manifest["layout"] == "top",
    )
