"""How well two independent ensembles agree: the run's members in two halves, each estimated alone.

Masks, initialisation and batches differ between the halves, the training data do not, so what they
agree on is not noise (though not certainly true: both may be wrong alike). Measured over all
training items, target by target, and over those that one half calls *strong*
(`turnover.attribution.estimators.significance`), whose sign the other half should share. The other
half is noisy too: with chances w₁ and w₂ of a wrong sign, the expected share of equal signs is
1 − w₁ (1 − w₂) − w₂ (1 − w₁), which stands beside the measured one; standard errors that are too
small claim more than there is. A baseline has no members: two models from two seeds stand for its
halves, and it calls nothing strong.

*Coverage* tests whether the standard errors are wide enough: how often the two halves' estimates v₁
and v₂, with errors e₁ and e₂, differ by no more than 1.96 √(e₁² + e₂²). Correct errors of unshrunk
estimates give 95 %; more is no fault, since shrunk estimates move less than their errors say. Among
a target's ten largest, chosen for being large, errors that are too small show first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from turnover.attribution.ensemble import some_members
from turnover.attribution.estimators.estimator import row_pearson
from turnover.attribution.estimators.significance import strong, wrong_sign
from turnover.errors import TurnoverError
from turnover.research.evaluate.results import (
    COVERAGE,
    COVERAGE_TOP,
    SAME_SIGN,
    SAME_SIGN_CLAIMED,
    SAME_SIGN_TOP,
    SPEARMAN,
    STRONG,
    Figure,
    ResultRow,
)
from turnover.research.evaluate.scores import (
    ESTIMATORS,
    RANDOM,
    Estimated,
    Evidence,
    Options,
    Scored,
    baseline_scores,
    evidence_of,
    turnover_scores,
)
from turnover.research.evaluate.statistics import mean_over_rows, row_spearman
from turnover.research.evaluate.task import EvaluationTask
from turnover.runs.ranking import TOP

PEARSON, STRONG_SPEARMAN = "Pearson", "Spearman, strong"
_WIDTH = 1.96
_LEAST_MEMBERS = 4
_LEAST_RANKED = 3


def all_figures(first: np.ndarray, second: np.ndarray) -> dict[str, Figure]:
    """Row correlations of two halves' estimates `(T, N)`, means over targets."""
    return {
        SPEARMAN: mean_over_rows(row_spearman(first, second)),
        PEARSON: mean_over_rows(row_pearson(first, second)),
    }


def strong_figures(first: Estimated, second: Estimated) -> dict[str, Figure]:
    """Share of strong items, and the agreement of the other half on those that one half calls
    strong, both ways.

    Also among the strong ones of its `TOP` largest, which a page shows first.
    """
    correlations, signs, claimed, firsts, shares = [], [], [], [], []
    chances = [wrong_sign(half.values, half.std_errors, half.freedom) for half in (first, second)]
    expected = 1 - chances[0] * (1 - chances[1]) - chances[1] * (1 - chances[0])
    for judge, other, own_chances in ((first, second, chances[0]), (second, first, chances[1])):
        called = strong(own_chances)
        shares.append(called.mean(1))
        same, top = np.sign(judge.values) == np.sign(other.values), _largest(judge)
        for target in np.flatnonzero(called.any(1)):
            mine, theirs = (
                judge.values[target, called[target]],
                other.values[target, called[target]],
            )
            signs.append(float(same[target, called[target]].mean()))
            claimed.append(float(expected[target, called[target]].mean()))
            # strong items have large ratios to their errors, not necessarily large influences
            shown = top[target][called[target, top[target]]]
            firsts += [float(same[target, shown].mean())] if len(shown) else []
            if len(mine) >= _LEAST_RANKED:
                correlations.append(row_spearman(mine[None], theirs[None])[0])
    figures = {STRONG: mean_over_rows(np.mean(shares, 0))}
    named = {
        STRONG_SPEARMAN: correlations,
        SAME_SIGN: signs,
        SAME_SIGN_CLAIMED: claimed,
        SAME_SIGN_TOP: firsts,
    }
    return figures | {
        name: mean_over_rows(np.array(values)) for name, values in named.items() if values
    }


def coverage_figures(first: Estimated, second: Estimated) -> dict[str, Figure]:
    """How often the halves differ by less than their 95 % bound: over all items, and over the `TOP`
    largest of either half.
    """
    inside = np.abs(first.values - second.values) <= _WIDTH * np.hypot(
        first.std_errors, second.std_errors
    )
    largest = np.mean(
        [np.take_along_axis(inside, _largest(half), 1).mean(1) for half in (first, second)], 0
    )
    return {COVERAGE: mean_over_rows(inside.mean(1)), COVERAGE_TOP: mean_over_rows(largest)}


def _largest(half: Estimated) -> np.ndarray:
    """Columns of the `TOP` largest influences of either sign, `(T, TOP)`."""
    columns: np.ndarray = np.argsort(-np.abs(half.values), axis=1, kind="stable")[:, :TOP]
    return columns


def measure(task: EvaluationTask, options: Options) -> dict[str, Any]:
    """Agreement of the two halves of a run's members, estimator by estimator, and of two models,
    baseline by baseline.

    Raises:
        TurnoverError: for a run with too few members to split.
    """
    members = int(task.run.manifest["results"]["members"])
    if members < _LEAST_MEMBERS:
        raise TurnoverError(
            f"{task.run.folder}: {members} members cannot be parted into two that show their own"
            " spread; train with --members 4 or more"
        )
    evidence, seconds = evidence_of(task)
    halves = [_part(evidence, start) for start in (0, 1)]
    scored = {method.method: method for method in turnover_scores(evidence, seconds)}
    rows = [_turnover_row(name, scored[f"turn-over, {name}"], halves) for name in ESTIMATORS]
    # random scores of one seed are equal in both halves
    names = [name for name in options.baselines if name != RANDOM]
    baselines = zip(*(baseline_scores(task, names, member) for member in (0, 1)), strict=True)
    for first, second in baselines:
        refused = first.refused or second.refused
        rows.append(first.row({} if refused else all_figures(first.values, second.values)))
    return {"members": members, "rows": rows}


def _part(evidence: Evidence, start: int) -> Evidence:
    """Every second member, from this one on."""
    members = range(start, len(evidence.values), 2)
    return Evidence(
        evidence.task, some_members(evidence.model, list(members)), evidence.values[start::2]
    )


def _turnover_row(name: str, whole: Scored, halves: list[Evidence]) -> ResultRow:
    first, second = (ESTIMATORS[name].estimate(half) for half in halves)
    figures = all_figures(first.values, second.values)
    if np.isfinite(first.std_errors).all():
        figures |= strong_figures(first, second) | coverage_figures(first, second)
    return whole.row(figures, ", ".join(dict.fromkeys([first.note, second.note])))
