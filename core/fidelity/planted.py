"""Planted answers: are the items that were planted on purpose the ones that influence points at?

- Wrong labels: the area under the ROC curve of self-influence for finding them. An item with a wrong label has to be
  learned by heart, so the half that never saw it loses most on it.
- Spurious cues: an error of the demo corpus that carries a planted cue was taught by the training texts with the same
  cue. Their share among an error's ten strongest proponents, over their share in the training set, is the *lift*; its
  interval comes from a bootstrap over errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.data.base import WRONG_LABEL
from core.errors import TurnoverError
from core.ranking import TOP
from core.runs import Run

_RESAMPLES = 10_000


def wrong_label_auc(run: Run) -> float:
    """Area under the ROC curve of self-influence for the planted wrong labels of a run.

    Raises:
        TurnoverError: if no wrong labels were planted, or the run has no influence.
    """
    from sklearn.metrics import roc_auc_score

    planted = (run.train["planted"] == WRONG_LABEL).to_numpy()
    if not planted.any():
        raise TurnoverError(f"{run.folder}: no planted wrong labels; train with --label-noise")
    return float(roc_auc_score(planted, run.influence.self_influence))


@dataclass(frozen=True)
class Lift:
    """How many times as often as by chance the planted texts are among the top; `low` and `high` bound 95 %."""

    mark: str
    errors: int
    lift: float
    low: float
    high: float


def cue_lift(run: Run, mark: str, scores: dict[int, np.ndarray]) -> Lift:
    """Lift of the training texts marked `mark` among the `TOP` highest `scores` `(N,)` of the errors with that mark.

    Raises:
        TurnoverError: if the run has no error with that mark.
    """
    marked = (run.train["planted"] == mark).to_numpy()
    errors = [position for position in scores if run.item("validation", position)["planted"] == mark]
    if not errors:
        raise TurnoverError(f"{run.folder}: no error carries the mark {mark!r}")
    shares = np.array([marked[np.argsort(-scores[error], kind="stable")[:TOP]].mean() for error in errors]) / marked.mean()
    means = np.random.default_rng(0).choice(shares, (_RESAMPLES, len(shares))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Lift(mark, len(errors), float(shares.mean()), float(low), float(high))


def influence_scores(run: Run) -> dict[int, np.ndarray]:
    """Each error's influences on its prediction, as shown, by position: `(N,)`."""
    return {error: run.influence.ranked(error, "prediction").values for error in run.influence.errors}
