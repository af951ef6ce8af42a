"""Linear datamodeling score (LDS; Park et al. 2023): do summed influences predict retraining?

For a target, the influences of the items in each of many random halves of the training set are
summed, and ranked against minus the target's loss after training on that half; the score is
Spearman's correlation, mean over targets. All items' influences count, not only the few that stand
out. The *placebo* is the score of the same influences shuffled over the training items: about 0, or
the measurement is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from turnover.research.evaluate.results import LDS, Figure, ResultRow
from turnover.research.evaluate.scores import (
    Options,
    Scored,
    all_scores,
)
from turnover.research.evaluate.statistics import mean_spearman, reliability, row_spearman
from turnover.research.evaluate.task import EvaluationTask
from turnover.workflows.subsets import draw_halves, retrained_losses

PLACEBO = "placebo"
_PLACEBOS = 10
_PLACEBO_LIMIT = 0.05
_OFF = "the placebo is not 0: take more halves or targets"


def membership(halves: np.ndarray, total: int) -> np.ndarray:
    """Which of `total` items are in each half `(H, n)`, as 0 and 1, `(H, total)`."""
    inside = np.zeros((len(halves), total))
    np.put_along_axis(inside, halves, 1, axis=1)
    return inside


def predicted(scores: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Summed influences `(T, H)` of every half: scores `(T, N)`, membership `(H, N)`."""
    summed: np.ndarray = scores @ inside.T
    return summed


def lds(scores: np.ndarray, inside: np.ndarray, losses: np.ndarray) -> Figure:
    """Linear datamodeling score of scores `(T, N)`, for membership `(H, N)` and retrained losses
    `(S, H, T)`.
    """
    return mean_spearman(predicted(scores, inside), -losses.mean(0).T)


def placebo(scores: np.ndarray, inside: np.ndarray, losses: np.ndarray) -> Figure:
    """The same for influences shuffled within each target, mean of several shuffles; without an
    interval.
    """
    rng, truth = np.random.default_rng(0), -losses.mean(0).T
    dealt = [
        row_spearman(predicted(rng.permuted(scores, axis=1), inside), truth).mean()
        for _ in range(_PLACEBOS)
    ]
    return Figure(float(np.mean(dealt)))


def row_of(scored: Scored, inside: np.ndarray, losses: np.ndarray) -> ResultRow:
    """A method's score and placebo."""
    if scored.refused:
        return scored.row({})
    figures = {
        LDS: lds(scored.values, inside, losses),
        PLACEBO: placebo(scored.values, inside, losses),
    }
    notes = [scored.note, _OFF if abs(figures[PLACEBO].value) > _PLACEBO_LIMIT else ""]
    return scored.row(figures, "; ".join(filter(None, notes)))


def halves_of(task: EvaluationTask, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Membership `(H, N)` and retrained losses `(S, H, T)`."""
    total = len(task.run.train)
    halves = draw_halves(total, options.halves, task.settings.seed)
    return membership(halves, total), retrained_losses(task, halves, options.seeds, options.masked)


def measure(task: EvaluationTask, options: Options) -> dict[str, Any]:
    """LDS of all methods, with the reliability of the losses that they predict."""
    inside, losses = halves_of(task, options)
    sure = reliability(losses.transpose(0, 2, 1))
    return {
        "halves": options.halves,
        "seeds": options.seeds,
        "retrained_with_turnover_dropout": options.masked,
        "epochs": task.epochs(options.masked),
        "reliability": sure,
        "ceiling": None if sure is None else max(0.0, sure) ** 0.5,
        "rows": [row_of(scored, inside, losses) for scored in all_scores(task, options)],
    }
