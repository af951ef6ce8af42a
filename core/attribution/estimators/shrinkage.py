"""`best`: empirical-Bayes shrinkage of raw influences, for single training items and for groups.

A target's influences r ∈ ℝᴺ (the median over members, minus their mean over items, which is hardly
larger than its own noise) are written in the basis U of `turnover.attribution.estimators.basis`:
c = Uᵀ r, and the rest o. All variances are in units of the target's own noise ν_t, since what a
target's members agree on and what they do not grow together with its loss:

    c_tj = √ν_t (z_t f_tj + d_tj + noise)     z_t ~ N(z̄, ζ²),  d_tj ~ N(0, δ_b²),  noise ~ N(0, 1)
    r_ti = (U c_t)_i + √ν'_t (o_ti + noise)   o_ti ~ N(0, τ²),  noise ~ N(0, κ_i²)

f_t is the *prior* of the target, of length 1: its coefficients in the basis, damped
(`turnover.attribution.estimators.damping`); one number, the damping c, is fitted for all targets,
and works from one member on. z_t is how strongly the target reacts, d what it adds, b the bin of
direction j (bins grow geometrically), o what an item adds. Some training items are noisier than
others, a mislabelled one by ten times: κ_i is item i's share of the noise. By empirical Bayes
(Efron and Morris 1973) each part is multiplied by the signal's share of its variance:

    d̂_tj = ρ (c_tj − z_t f_tj),  ρ = δ_b² / (δ_b² + 1)        ô_ti = ρ' o_ti,  ρ' = τ² / (τ² + κ_i²)

The variances come from two halves of the members, whose noise is independent: the mean product of
their deviations is an unbiased estimate of signal, half of their difference is the noise. z̄ is
shrunk as by James and Stein, to zero where it is no larger than its error; so without a signal in
the turn-over influences all is about zero, whatever the features suggest.

Shown is not z_t f_t but the same prior under the damping c' of training again, which overlapping
masks hide: direction j of it times (λ_j + c) / (λ_j + c'), the leading one left as it is. The error
is the posterior standard deviation, with the uncertainty of c and z (see `Posterior`): mask noise,
not what a retrained network would do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from turnover.attribution.estimators.basis import Basis
from turnover.attribution.estimators.damping import damping_of, prior

_BINS = 24
_SWEEPS = 5
_SHARED = 0.1
_BLOCK = 2**14
"""Items at a time: what is computed of them fits into a cache."""
_TINY = np.finfo(np.float64).tiny


# Estimates and errors


@dataclass(frozen=True)
class Posterior:
    """Estimated influences of N training items on T targets, and their errors.

    An influence is r = U c + o, with c in the directions U of the basis and o outside them. A group
    of training items is a row g of 0 and 1; its influence is g·r = u·c + g·o with u = Uᵀg, and a
    single item is a group of one. The errors of a group's items are not independent, so their
    variances do not simply add. With all directions share the errors of z and of the damping, while
    what the noise leaves open of d and o is independent over directions and items:

        var(g·r) = Σ_j ρ_j ν u_j² + var(z) ν (Σ_j (f'_j − ρ_j f_j) u_j)² + (Σ_j ε_j u_j)²
                 + Σ_i v_i g_i² (1 − |u|²/|g|²),             v_i = ν' τ² κ_i² / (τ² + κ_i²)

    where f' is the corrected prior, and ε_j the change of z f'_j by one standard error of its
    damping. What items share counts
    once for a sum of similar items, however many they are; what is their own shrinks with their
    number. Estimates are deviations from the mean of a target's influences, which is omitted
    because it is hardly larger than its noise. To one item that matters little, but a group of k
    items misses k times the error of that mean. Two halves of the members, whose noise is
    independent, measure it: with m₁ and m₂ the means of their influences and m̂ that of the
    estimates, (m₁ − m̂)(m₂ − m̂), where positive, is the variance of a shift common to all items; it
    counts for each pair of items of a group.

    Attributes:
        vectors: U, `(N, r)`.
        prior: the part of `projections` that all targets' prior foresees, `(T, r)`.
        projections: estimates of c, `(T, r)`.
        outside: estimates of o, `(T, N)`.
        independent: variances of d, `(T, r)`.
        shared: errors of c from one standard error of z, and from one of the damping, `(T, r)`.
        outside_variance: v, `(T, N)`.
        shift: variance of the common shift, `(T, 1)`.
    """

    vectors: np.ndarray
    prior: np.ndarray
    projections: np.ndarray
    outside: np.ndarray
    independent: np.ndarray
    shared: tuple[np.ndarray, np.ndarray]
    outside_variance: np.ndarray
    shift: np.ndarray

    def items(self) -> tuple[np.ndarray, np.ndarray]:
        """Estimates and errors of single items, each `(T, N)`."""
        variances = self.outside_variance.copy()
        for rows in _blocks(len(self.vectors)):
            along = np.asarray(self.vectors[rows])
            variances[:, rows] *= np.maximum(1 - np.square(along).sum(1), 0)
            variances[:, rows] += self._inside(along)
        return spread(self.projections, self.vectors) + self.outside, np.sqrt(variances)

    def foreseen(self) -> np.ndarray:
        """The part of the estimates of single items that all targets' prior foresees, `(T, N)`."""
        return spread(self.prior, self.vectors)

    def sums(self, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimates and errors `(T, G)` of sums over groups `inside` `(G, N)`."""
        # groups are small, and converting all of U to float64 would take longer than the rest
        used = inside.any(0)
        loads = inside[:, used].astype(np.float64)
        along, sizes = loads @ self.vectors[used], loads.sum(1)
        free = np.maximum(1 - np.square(along).sum(1) / np.maximum(sizes, 1), 0)
        variances = self._inside(along) + (self.outside_variance[:, used] @ loads.T) * free
        variances += self.shift * (np.square(sizes) - sizes)
        estimates = self.projections @ along.T + self.outside[:, used] @ loads.T
        return estimates, np.sqrt(variances)

    def _inside(self, along: np.ndarray) -> np.ndarray:
        """Variances `(T, G)` in the basis of rows with coordinates `along` `(G, r)`."""
        # float32 is enough for items
        variances: np.ndarray = np.square(along) @ self.independent.T.astype(along.dtype)
        for error in self.shared:
            variances += np.square(along @ error.T.astype(along.dtype))
        return variances.T


@dataclass(frozen=True)
class Shrinkage:
    """What all targets share; variances are in units of a target's noise.

    `damping` and `damping_error` are the decimal logarithm of c as influences show it, and its
    standard error; `retrained` is that of training again. `strength`, `strength_error` and
    `strength_variance` are z̄, its standard error and ζ², `deviation` δ_b² of each of r directions,
    `own` and `own_error` τ² and its standard error.
    """

    damping: float
    damping_error: float
    retrained: float
    strength: float
    strength_error: float
    strength_variance: float
    deviation: np.ndarray
    own: float
    own_error: float

    def posterior(
        self, members: np.ndarray, noise: np.ndarray, basis: Basis, coefficients: np.ndarray
    ) -> Posterior:
        """The posterior of raw influences `(K, T, N)`, K ≥ 2, of items with these shares κ `(N,)`
        of the noise, for targets with these coefficients `(T, r)` in the basis.
        """
        vectors, squares = basis.vectors, np.square(noise, dtype=np.float64)
        parts = _Parts.of(members, vectors)
        (projections, *_), size, rest_size = parts.projections, *parts.noise
        masked = size * prior(coefficients, basis.eigenvalues, self.damping)

        def retrained(damping: float) -> np.ndarray:
            hidden = (basis.eigenvalues + 10.0**self.damping) / (basis.eigenvalues + 10.0**damping)
            return masked * (hidden / hidden[:1])

        shown = retrained(self.retrained)
        strengths, variance = self.strengths(projections, masked, size)
        rho = self.deviation / (self.deviation + 1)
        deviations = rho * (projections - strengths * masked)
        outside = self.own / (self.own + squares) * parts.outside[0]
        # of the members' own mean, which is under overlapping masks
        centre = (strengths * masked + deviations) @ vectors.mean(0) + outside.mean(1)
        shift = np.prod([mean - centre[:, None] for mean in parts.means], axis=0)
        step = retrained(self.retrained + self.damping_error) - retrained(
            self.retrained - self.damping_error
        )
        largest = self.own + self.own_error
        return Posterior(
            vectors=vectors,
            prior=strengths * shown,
            projections=strengths * shown + deviations,
            outside=outside,
            independent=rho * size**2,
            shared=((shown - rho * masked) * variance**0.5, strengths * step / 2),
            outside_variance=rest_size**2 * largest * squares / (largest + squares + _TINY),
            shift=np.maximum(shift, 0),
        )

    def strengths(
        self, projections: np.ndarray, expected: np.ndarray, size: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """z of each target, `(T, 1)`, shrunk to the mean, and its posterior variance."""
        seen = _strengths(projections, expected, size)
        rho = self.strength_variance / (self.strength_variance + 1)
        variance = rho + ((1 - rho) * self.strength_error) ** 2
        return self.strength + rho * (seen - self.strength), variance


# The fit


def fit_shrinkage(members: np.ndarray, basis: Basis, coefficients: np.ndarray) -> Shrinkage:
    """The parameters estimated from some targets' influences; arguments as for
    `Shrinkage.posterior`.
    """
    vectors, parts = basis.vectors, _Parts.of(members, basis.vectors)
    (projections, *split), size, rest_size = parts.projections, *parts.noise
    damping, damping_error = damping_of(projections, parts.lengths, coefficients, basis.eigenvalues)
    expected = size * prior(coefficients, basis.eigenvalues, damping)
    moments = _strength_moments([_strengths(part, expected, size) for part in split])
    own = (parts.outside[1] / rest_size * (parts.outside[2] / rest_size)).sum(1) / _free(vectors)
    fitted = Shrinkage(
        damping,
        damping_error,
        damping,
        *moments,
        deviation=np.zeros(vectors.shape[1]),
        own=max(0.0, float(own.mean())),
        own_error=float(own.std() / len(own) ** 0.5),
    )
    strengths, _ = fitted.strengths(projections, expected, size)
    products = np.prod([(part - strengths * expected) / size for part in split], axis=0)
    for directions in _bins(len(fitted.deviation)):
        fitted.deviation[directions] = max(0.0, float(products[:, directions].mean()))
    return fitted


def _strengths(projections: np.ndarray, expected: np.ndarray, size: np.ndarray) -> np.ndarray:
    """How far influences go along the prior, in units of their noise, `(T, 1)`."""
    along: np.ndarray = (projections / size * (expected / size)).sum(1, keepdims=True)
    return along


def _strength_moments(split: list[np.ndarray]) -> tuple[float, float, float]:
    """z̄, its standard error and ζ², from two halves' strengths `(T, 1)`."""
    whole = (split[0] + split[1]) / 2
    mean, halves = float(whole.mean()), float((split[0] - split[1]).mean()) / 2
    error = (float(whole.var()) / len(whole) + halves**2) ** 0.5
    strength = max(0.0, mean - error**2 / mean) if mean > 0 else 0.0
    variance = float(((split[0] - mean) * (split[1] - mean)).mean())
    return strength, error, max(0.0, variance)


def noise_shares(members: np.ndarray) -> np.ndarray:
    """κ `(N,)`: how noisy each training item's influences `(K, T, N)` are, 1 in the root mean
    square; K ≥ 2.
    """
    halves = _centred(members)[1]
    squares = np.square(halves[0] - halves[1])
    items = np.ones((1, squares.shape[1]))
    for _ in range(_SWEEPS):  # noise of a pair = its target's times its item's
        targets = (squares / items).mean(1, keepdims=True) + _TINY
        items = (squares / targets).mean(0, keepdims=True) + _TINY
    items = (squares / targets).mean(0)
    items = items / (items.mean() + _TINY) + _TINY
    # a normal number's square varies by twice its squared mean
    spread, chance = items.var() + _TINY, 2 / len(squares)
    signal = max(0, spread - chance) / (1 + chance)
    shared = max(_SHARED, 1 - signal / spread)
    shares: np.ndarray = np.sqrt((1 - shared) * items + shared)
    return shares.astype(np.float32)


def medians(members: np.ndarray) -> list[np.ndarray]:
    """Medians `(T, N)` over all members `(K, T, N)`, K ≥ 2, and over two halves of them: the same
    bits as numpy's, several times as fast.
    """
    if len(members) < 2:
        raise ValueError("one member shows no noise; give two or more")
    flat = members.reshape(len(members), -1)
    made = np.empty((3, flat.shape[1]), members.dtype)
    for block in _blocks(flat.shape[1]):
        halves = [_ranked(list(flat[first::2, block])) for first in (0, 1)]
        made[:, block] = [_median(*halves), *(_median(half, []) for half in halves)]
    return list(made.reshape(3, *members.shape[1:]))


def _ranked(rows: list[np.ndarray]) -> list[np.ndarray]:
    """The smallest values of all rows, the second smallest, and so on (odd-even transposition)."""
    for turn in range(len(rows)):
        for low in range(turn % 2, len(rows) - 1, 2):
            first, second = rows[low : low + 2]
            rows[low : low + 2] = np.minimum(first, second), np.maximum(first, second)
    return rows


def _median(first: list[np.ndarray], second: list[np.ndarray]) -> np.ndarray:
    """The median of all rows of two ranked lists together."""

    def smallest(rank: int) -> np.ndarray:
        """The `rank`-th smallest, if `taken` of the first and the others of the second are."""
        fit = range(max(0, rank - len(second)), min(rank, len(first)) + 1)
        return reduce(
            np.minimum,
            (
                reduce(
                    np.maximum, first[taken - 1 : taken] + second[rank - taken - 1 : rank - taken]
                )
                for taken in fit
            ),
        )

    count = len(first) + len(second)
    middle: np.ndarray = (smallest((count + 1) // 2) + smallest(count // 2 + 1)) / 2
    return middle


def _centred(members: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Medians `(T, N)` over all members and over two halves of them, each row minus its mean; and
    the halves' means `(T, 1)`.
    """
    parts = [part.astype(np.float64) for part in medians(members)]
    means = [part.mean(1, keepdims=True) for part in parts]
    whole, *halves = (part - mean for part, mean in zip(parts, means, strict=True))
    return whole, halves, means[1:]


@dataclass(frozen=True)
class _Parts:
    """Medians over all members and over both halves, apart: in the basis `(T, r)`, outside it
    `(T, N)`; `lengths` `(T,)` of the first, the halves' `means` `(T, 1)`, and `noise`, √ν and √ν',
    standard deviations `(T, 1)` of a coefficient's and of the rest of a single influence.
    """

    projections: list[np.ndarray]
    outside: list[np.ndarray]
    lengths: np.ndarray
    means: list[np.ndarray]
    noise: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, members: np.ndarray, vectors: np.ndarray) -> _Parts:
        """Of raw influences `(K, T, N)`; U `(N, r)` is read in blocks, so it may stay on disk."""
        whole, halves, means = _centred(members)
        rows = np.concatenate((whole, *halves))
        lengths = np.linalg.norm(whole, axis=1)
        inside = np.zeros((len(rows), vectors.shape[1]))
        for block in _blocks(rows.shape[1]):
            inside += rows[:, block] @ vectors[block]
        rows -= spread(inside, vectors)
        projections, outside = np.split(inside, 3), np.split(rows, 3)
        along, rest = ((part[1] - part[2]) / 2 for part in (projections, outside))
        noise = (
            np.sqrt(np.square(along).mean(1, keepdims=True)) + _TINY,
            np.sqrt(np.square(rest).sum(1, keepdims=True) / _free(vectors)) + _TINY,
        )
        return cls(projections, outside, lengths, means, noise)


def spread(coordinates: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Rows `(n, N)` with these coordinates `(n, r)` in a basis U `(N, r)`."""
    rows = np.empty((len(coordinates), len(vectors)))
    for block in _blocks(len(vectors)):
        rows[:, block] = (vectors[block].astype(np.float64) @ coordinates.T).T
    return rows


def _blocks(count: int) -> list[slice]:
    return [slice(first, first + _BLOCK) for first in range(0, count, _BLOCK)]


def _free(vectors: np.ndarray) -> int:
    """Number of dimensions outside the basis."""
    return max(1, vectors.shape[0] - vectors.shape[1])


def _bins(count: int) -> list[slice]:
    """Directions in bins of geometrically growing width."""
    edges = np.unique(np.rint(np.geomspace(1, count + 1, _BINS + 1)).astype(int) - 1)
    return [
        slice(first, last)
        for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]
