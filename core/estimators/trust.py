"""How far one influence can be trusted, in a plain word.

An estimate v with error s is meant to say that a training item helps or hurts, so the mistake to guard against is a wrong
sign: its chance is Φ(−|v|/s). Many training items are looked at together, so the items of a target that are called *strong*
are found by Benjamini and Hochberg's step-up procedure (1995) at a rate of 5 %: of all strong items at most that share is
expected to have the wrong sign. *Weak* items pass 5 % each on their own; all others are *not distinguishable from noise*.
Pages need this, so it does without scipy.
"""

from __future__ import annotations

from math import erfc

import numpy as np

STRONG, WEAK, NOISE = "strong", "weak", "not distinguishable from noise"
RATE = 0.05
"""Rate of wrong signs among strong items."""
_ERFC = np.vectorize(erfc, otypes=[np.float64])


def wrong_sign(estimates: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """The chance that each estimate's sign is wrong; ½ where there is no error to judge by."""
    ratios = np.divide(np.abs(estimates), errors, out=np.zeros_like(errors, np.float64), where=np.isfinite(errors) & (errors > 0))
    chances: np.ndarray = _ERFC(ratios / 2**0.5) / 2
    return chances


def strong(chances: np.ndarray, total: int | None = None) -> np.ndarray:
    """Which chances `(..., n)` of wrong signs pass Benjamini and Hochberg's procedure, row by row.

    `total` is the number of items ranked where only the ends of the ranking are given; all others count as not passing.
    """
    order = np.sort(chances, axis=-1)
    count = chances.shape[-1]
    allowed = RATE * np.arange(1, count + 1) / (total or count)
    passing = np.where(order <= allowed, order, -1).max(-1, keepdims=True, initial=-1)
    found: np.ndarray = chances <= passing
    return found


def trust_words(estimates: np.ndarray, errors: np.ndarray, total: int | None = None) -> np.ndarray:
    """`STRONG`, `WEAK` or `NOISE` for each item of a target; arguments `(n,)`, `total` as for `strong`."""
    chances = wrong_sign(estimates, errors)
    return np.where(strong(chances, total), STRONG, np.where(chances <= RATE, WEAK, NOISE))
