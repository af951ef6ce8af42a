"""How far an influence can be trusted, in a word: strong, weak, or not distinguishable from noise.

An estimate v with error s claims that a training item helps or hurts, so the mistake to guard
against is a wrong sign: its probability is Φ(−|v|/s). Where s comes from the spread of an item's
own K influences, one per member (the median), it is itself an estimate, and among hundreds of items
those whose s is too small would come first: Student's t with K − 1 degrees of freedom (1908)
replaces Φ. Errors of `best` come from all pairs of a target together.

Many training items are judged together, so the *strong* items of a target are those that Benjamini
and Hochberg's step-up procedure (1995) finds at a rate of 5 %: of all strong items at most that
share is expected to have the wrong sign (`turnover.research.evaluate.agreement` checks it on
independent members). *Weak* items pass 5 % each on their own; all others are *not distinguishable
from noise*. Pages need this, so it does without scipy.
"""

from __future__ import annotations

from math import erfc

import numpy as np

from turnover.attribution.estimators import MEDIAN

STRONG, WEAK, NOISE = "strong", "weak", "not distinguishable from noise"
RATE = 0.05
"""Rate of wrong signs among strong items."""
_ERFC = np.vectorize(erfc, otypes=[np.float64])


def freedom_of(estimator: str, members: int, masks: int | None = None) -> int | None:
    """Degrees of freedom of the errors of a run's estimator; None where they count as known.

    Where instances share `masks` masks, a target's noise is known from as many numbers as the
    members have pairs of masks.
    """
    if estimator == MEDIAN:
        return members - 1
    return None if masks is None else members * masks // 2


def wrong_sign(
    estimates: np.ndarray, std_errors: np.ndarray, freedom: int | None = None
) -> np.ndarray:
    """The probability that each estimate's sign is wrong; ½ where it has no error.

    `freedom` is that of the errors, 1 or more; None for errors that count as known.
    """
    ratios = np.divide(
        np.abs(estimates),
        std_errors,
        out=np.zeros_like(std_errors, np.float64),
        where=np.isfinite(std_errors) & (std_errors > 0),
    )
    chances: np.ndarray = (
        _ERFC(ratios / 2**0.5) / 2 if freedom is None else _student_tail(ratios, freedom)
    )
    return chances


def _student_tail(ratios: np.ndarray, freedom: int) -> np.ndarray:
    """P(t ≥ ratio) for ratios of 0 or more: the finite series for whole degrees of freedom
    (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4).
    """
    odd, squared = freedom % 2, freedom / (freedom + np.square(ratios))
    sine = ratios / np.sqrt(freedom + np.square(ratios))
    term = np.sqrt(squared) if odd else np.ones_like(squared)
    total = np.zeros_like(squared)
    for number in range(1 + odd, freedom, 2):  # cos, cos³ · 2/3, … or 1, cos² · 1/2, …
        total += term
        term = term * squared * number / (number + 1)
    inside = (np.arctan(ratios / freedom**0.5) + sine * total) * 2 / np.pi if odd else sine * total
    tail: np.ndarray = np.clip((1 - inside) / 2, 0, 0.5)
    return tail


def strong(chances: np.ndarray, total: int | None = None) -> np.ndarray:
    """Which chances `(..., n)` of wrong signs pass Benjamini and Hochberg's procedure, row by row.

    `total` is the number of items ranked where only the ends of the ranking are given; the others
    count as not passing.
    """
    order = np.sort(chances, axis=-1)
    count = chances.shape[-1]
    allowed = RATE * np.arange(1, count + 1) / (total or count)
    passing = np.where(order <= allowed, order, -1).max(-1, keepdims=True, initial=-1)
    result: np.ndarray = chances <= passing
    return result


def trust_words(
    estimates: np.ndarray,
    std_errors: np.ndarray,
    total: int | None = None,
    freedom: int | None = None,
) -> np.ndarray:
    """`STRONG`, `WEAK` or `NOISE` for each item of a target; arguments `(n,)`, `total` as for
    `strong`, `freedom` as for `wrong_sign`.
    """
    chances = wrong_sign(estimates, std_errors, freedom)
    return np.where(strong(chances, total), STRONG, np.where(chances <= RATE, WEAK, NOISE))
