"""Planted answers: are the items that were planted on purpose the ones that influence points at?

- Wrong labels: the area under the ROC curve for finding them, and the precision of the first k. An item with a wrong label
  has to be learned by heart, so the half that never saw it loses most on it: its self-influence and its *flipped loss* are
  high. And it hurts: its mean influence on the targets is low. `turnover.fidelity.suspects` has all ways to suspect.
- Spurious cues: an error of the demo corpus that carries a planted cue was taught by the training texts with the same
  cue. Their share among an error's ten strongest proponents, over their share in the training set, is the *lift*; its
  interval comes from a bootstrap over errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from turnover.data.base import WRONG_LABEL
from turnover.errors import TurnoverError
from turnover.fidelity.methods import Scored
from turnover.fidelity.names import AUC
from turnover.fidelity.options import Options
from turnover.fidelity.row import Figure, Row
from turnover.fidelity.subject import Subject
from turnover.fidelity.suspects import suspicions
from turnover.ranking import TOP
from turnover.runs import Run

_RESAMPLES = 10_000
_WIDTH = 1.96


def wrong_label_auc(run: Run) -> float:
    """Area under the ROC curve of self-influence for the planted wrong labels of a run.

    Raises:
        TurnoverError: if no wrong labels were planted, or the run has no influence.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(wrong_labels(run), run.influence.self_influence))


def wrong_labels(run: Run) -> np.ndarray:
    """Which training items were given a wrong label, `(N,)`.

    Raises:
        TurnoverError: if none were.
    """
    return marked_items(run, WRONG_LABEL, "no planted wrong labels; train with --label-noise")


def marked_items(run: Run, mark: str, missing: str) -> np.ndarray:
    """Which training items carry a mark, `(N,)`.

    Raises:
        TurnoverError: if none does; the text says what is `missing`.
    """
    marked: np.ndarray = (run.train["planted"] == mark).to_numpy()
    if not marked.any():
        raise TurnoverError(f"{run.folder}: {missing}")
    return marked


def auc(planted: np.ndarray, suspicion: np.ndarray) -> Figure:
    """Area under the ROC curve of a suspicion `(N,)`; its interval is DeLong's (1988), from how each planted and each other item ranks.

    A planted item's place is the share of others that it beats, ties counting half, and the area is the mean of the places.
    """
    ranks = rankdata(suspicion)
    beaten, beating = (ranks[own] - rankdata(suspicion[own]) for own in (planted, ~planted))
    first, second = beaten / (~planted).sum(), 1 - beating / planted.sum()
    area = float(first.mean())
    error = float(np.sqrt(sum(places.var(ddof=1) / len(places) for places in (first, second) if len(places) > 1)))
    return Figure(area, max(0.0, area - _WIDTH * error), min(1.0, area + _WIDTH * error))


def precision(planted: np.ndarray, suspicion: np.ndarray, count: int) -> Figure:
    """Share of planted items among the `count` most suspicious ones, the first of equals first."""
    return Figure(float(planted[np.argsort(-suspicion, kind="stable")[:count]].mean()))


def measure(subject: Subject, options: Options) -> dict[str, Any]:
    """How well every way to suspect finds the planted wrong labels.

    Raises:
        TurnoverError: if none were planted.
    """
    planted = wrong_labels(subject.run)
    return {"planted": int(planted.sum()), "instances": len(planted), "rows": suspicion_rows(subject, options, planted)}


def suspicion_rows(subject: Subject, options: Options, wrong: np.ndarray) -> list[Row]:
    """How well every way to suspect finds the training items that are `wrong` `(N,)`."""
    return [_row(one, wrong, int(wrong.sum())) for one in suspicions(subject, options)]


def _row(scored: Scored, planted: np.ndarray, count: int) -> Row:
    figures = {}
    if not scored.refused:
        suspicion = scored.values[0]
        figures = {AUC: auc(planted, suspicion)}
        figures |= {f"precision@{most}": precision(planted, suspicion, most) for most in sorted({min(TOP, count), count})}
    return Row(scored.method, scored.train_seconds, scored.estimate_seconds, figures, scored.note)


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
