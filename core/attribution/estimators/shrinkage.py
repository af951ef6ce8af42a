"""`best`: empirical-Bayes shrinkage of raw influences, for single training items and for groups.

Some training items are noisier than others, a mislabelled one by ten times, so the influences of
item i are divided by κ_i, its share of the noise. A target's influences r ∈ ℝᴺ (the median over
members, divided by κ, minus their mean over items, which is hardly larger than its own noise) are
written in the basis U of `turnover.attribution.estimators.basis`: c = Uᵀ r, and the rest o.

    c_tj = a_t w_b s_tj + d_tj + noise      a_t ~ N(ā, α²),  d_tj ~ N(0, δ_b²),  noise ~ N(0, ν_t)
    r_ti = (U c_t)_i + o_ti + noise         o_ti ~ N(0, τ²)

s_t are the target's coefficients in the basis, b the bin of direction j (bins grow geometrically,
so the leading directions have their own). w_b, how strongly the network follows a direction, is
shared by *all* targets: thousands of pairs estimate it. a_t is how strongly the target reacts, d
what it adds, o what an item adds. By empirical Bayes (Efron and Morris 1973) each part is
multiplied by the signal's share of its variance:

    d̂_tj = ρ (c_tj − a_t w_b s_tj),  ρ = δ_b² / (δ_b² + ν_t)
    ô_ti = ρ' o_ti,                  ρ' = τ² / (τ² + ν'_t)

The variances come from two halves of the members, whose noise is independent: the mean product of
their deviations is an unbiased estimate of δ² or τ², half of their difference is the noise. w_b is
shrunk as by James and Stein, to zero where it is no larger than its error; so without a signal in
the turn-over influences all is about zero, whatever the features suggest. With δ and τ large the
estimate is the plain median, with δ = τ = 0 a filter of the target's coefficients. Its error is the
posterior standard deviation, with the uncertainty of w, a and τ² (see `Posterior`): mask noise, not
what a retrained network would do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BINS = 24
_ROUNDS = 3
_SWEEPS = 5
_SHARED = 0.1
_TINY = np.finfo(np.float64).tiny


# Estimates and errors


@dataclass(frozen=True)
class Posterior:
    """Estimated influences of N training items on T targets, divided by κ, and their errors.

    An influence is r = U c + o, with c in the directions U of the basis and o outside them. A group
    of training items is a row g of loads, κ_i for its items and 0 for all others; its influence is
    g·r = u·c + g·o with u = Uᵀg, and a single item is a group of one. The errors ε of a group's
    items are not independent, so their variances do not simply add:

        ε(c_j) = η_j + (1 − ρ_j) (w_j s_j ε(a) + a s_j ε(w_b))

    where η_j, what the noise leaves open of d_j, is independent over directions with variance
    ρ_j ν; but ε(a) is one number for all directions, and ε(w_b) one for all directions of bin b.
    Outside of U the error variance of o is the same in all directions, v = τ² ν' / (τ² + ν'). Hence

        var(g·r) = Σ_j ρ_j ν u_j² + var(a) (Σ_j (1 − ρ_j) w_j s_j u_j)²
                 + Σ_b var(w_b) (Σ_{j in b} (1 − ρ_j) a s_j u_j)² + v (|g|² − |u|²)

    What items share counts once for a sum of similar items, however many they are; what is their
    own shrinks with their number. Estimates are deviations from the mean of a target's influences,
    which is omitted because it is hardly larger than its noise. To one item that matters little,
    but a group of k items misses k times the error of that mean. Two halves of the members, whose
    noise is independent, measure it: with m₁ and m₂ the means of their influences and m̂ that of the
    estimates, (m₁ − m̂)(m₂ − m̂), where positive, is the variance of a shift common to all items; it
    counts for each pair of items of a group.

    Attributes:
        vectors: U, `(N, r)`.
        projections: estimates of c, `(T, r)`.
        outside: estimates of o, `(T, N)`.
        independent: variances of η, `(T, r)`.
        reaction: errors of c from one standard error of a, `(T, r)`.
        weight: errors of c from one standard error of each bin's w, `(T, r)`.
        bins: the directions with the same w.
        outside_variance: v, `(T, 1)`.
        shift: variance of the common shift, `(T, 1)`.
    """

    vectors: np.ndarray
    projections: np.ndarray
    outside: np.ndarray
    independent: np.ndarray
    reaction: np.ndarray
    weight: np.ndarray
    bins: list[slice]
    outside_variance: np.ndarray
    shift: np.ndarray

    def items(self) -> tuple[np.ndarray, np.ndarray]:
        """Estimates and errors of single items, each `(T, N)`."""
        estimates = self.projections @ self.vectors.T + self.outside
        return estimates, np.sqrt(self._variances(self.vectors, np.ones(len(self.vectors))))

    def sums(self, loads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimates and errors `(T, G)` of sums weighted by non-negative `loads` `(G, N)`."""
        # groups are small, and converting all of U to float64 would take longer than the rest
        used = loads.any(0)
        inside, lengths = loads[:, used] @ self.vectors[used], np.square(loads).sum(1)
        pairs = np.square(loads.sum(1)) - lengths
        variances = self._variances(inside, lengths) + self.shift * pairs
        return self.projections @ inside.T + self.outside @ loads.T, np.sqrt(variances)

    def _variances(self, inside: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Variances `(T, G)` of rows with coordinates `inside` `(G, r)` in the basis and squared
        lengths `(G,)`, without the shift.
        """
        squares = np.square(inside)
        # float32 is enough for items
        independent, reaction, weight = (
            part.astype(inside.dtype) for part in (self.independent, self.reaction, self.weight)
        )
        variances: np.ndarray = independent @ squares.T + self.outside_variance * np.maximum(
            lengths - squares.sum(1), 0
        )
        variances += np.square(reaction @ inside.T)
        for directions in self.bins:
            variances += np.square(weight[:, directions] @ inside[:, directions].T)
        return variances


@dataclass(frozen=True)
class Shrinkage:
    """What all targets share; variances are of influences divided by κ.

    `weight` and `weight_variance` are w_b and its squared error for each of r directions,
    `deviation` δ_b², `strength` and `strength_variance` ā and α², `own` and `own_error` τ² and its
    standard error.
    """

    weight: np.ndarray
    weight_variance: np.ndarray
    deviation: np.ndarray
    strength: float
    strength_variance: float
    own: float
    own_error: float

    def posterior(
        self, members: np.ndarray, vectors: np.ndarray, coefficients: np.ndarray
    ) -> Posterior:
        """The posterior of influences that were divided by κ.

        Args:
            members: `(K, T, N)`, K ≥ 2.
            vectors: U, `(N, r)`.
            coefficients: of the targets, `(T, r)`.
        """
        whole, halves, means = _centred(members)
        noise, rest_noise = _noise(halves, vectors)
        projections = whole @ vectors
        expected = self.weight * coefficients
        strength, strength_variance = _strengths(
            projections, expected, noise, self.strength, self.strength_variance
        )
        rho = self.deviation / (self.deviation + noise)
        prior = strength * expected
        rho_outside, largest = self.own / (self.own + rest_noise), self.own + self.own_error
        estimated = prior + rho * (projections - prior)
        outside = rho_outside * (whole - projections @ vectors.T)
        off = [mean - (estimated @ vectors.mean(0) + outside.mean(1))[:, None] for mean in means]
        return Posterior(
            vectors=vectors,
            projections=estimated,
            outside=outside,
            independent=rho * noise,
            reaction=(1 - rho) * expected * np.sqrt(strength_variance),
            weight=(1 - rho) * strength * coefficients * np.sqrt(self.weight_variance),
            bins=_bins(len(self.weight)),
            outside_variance=largest * rest_noise / (largest + rest_noise),
            shift=np.maximum(off[0] * off[1], 0),
        )


# The fit


def fit_shrinkage(members: np.ndarray, vectors: np.ndarray, coefficients: np.ndarray) -> Shrinkage:
    """The parameters estimated from some targets' influences, divided by κ; arguments as for
    `Shrinkage.posterior`.
    """
    whole, halves, _ = _centred(members)
    noise, rest_noise = _noise(halves, vectors)
    projections, split = whole @ vectors, [half @ vectors for half in halves]
    strengths, strength, strength_variance = np.ones((len(coefficients), 1)), 1.0, 0.0
    for _ in range(_ROUNDS):  # weights and strengths determine each other
        weight, weight_variance = _weights(projections, strengths * coefficients, noise)
        expected = weight * coefficients
        strength, strength_variance = _strength_moments(projections, split, expected)
        strengths, _ = _strengths(projections, expected, noise, strength, strength_variance)
    deviation = np.zeros(len(weight))
    for directions in _bins(len(weight)):
        first, second = (
            half[:, directions] - strengths * expected[:, directions] for half in split
        )
        deviation[directions] = max(0, _weighted_mean(first * second, 1 / noise)[0])
    first, second = (half - part @ vectors.T for half, part in zip(halves, split, strict=True))
    item_variance, item_error = _weighted_mean(
        first * second * (len(vectors) / _free(vectors)), 1 / rest_noise
    )
    return Shrinkage(
        weight,
        weight_variance,
        deviation,
        strength,
        strength_variance,
        max(0, item_variance),
        item_error,
    )


def noise_shares(members: np.ndarray) -> np.ndarray:
    """κ `(N,)`: how noisy each training item's influences `(K, T, N)` are, 1 in the root mean
    square; K ≥ 2.
    """
    squares = _relative_squares(members)
    return _shares(squares.mean(0), len(squares)).astype(np.float32)


def other_shares(members: np.ndarray) -> np.ndarray:
    """κ `(T, N)` of each target from all *other* targets; 1 if there are none.

    With its own κ an item would count more where the two halves happen to agree, and noise would
    look like signal.
    """
    squares = _relative_squares(members)
    others = len(squares) - 1
    return (
        np.stack(
            [
                _shares((squares.sum(0) - target_squares) / others, others)
                for target_squares in squares
            ]
        )
        if others
        else np.ones_like(squares)
    )


def _relative_squares(members: np.ndarray) -> np.ndarray:
    """Squared differences of the halves `(T, N)`, divided by the target's noise."""
    halves = _centred(members)[1]
    squares = np.square(halves[0] - halves[1])
    items = np.ones((1, squares.shape[1]))
    for _ in range(_SWEEPS):  # noise of a pair = its target's times its item's
        targets = (squares / items).mean(1, keepdims=True) + _TINY
        items = (squares / targets).mean(0, keepdims=True) + _TINY
    relative: np.ndarray = squares / targets
    return relative


def _shares(items: np.ndarray, targets: int) -> np.ndarray:
    """κ `(N,)` from mean squares over `targets` targets, shrunk to equal shares by the part of
    their spread that is chance, at least `_SHARED`.
    """
    items = items / (items.mean() + _TINY) + _TINY
    # a normal number's square varies by twice its squared mean
    spread, chance = (
        items.var() + _TINY,
        2 / targets,
    )
    signal = max(0, spread - chance) / (1 + chance)
    shared = max(_SHARED, 1 - signal / spread)
    shares: np.ndarray = np.sqrt((1 - shared) * items + shared)
    return shares


def _weights(
    projections: np.ndarray, coefficients: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """w of each direction, shrunk, and its variance."""
    weight, variance = np.zeros((2, coefficients.shape[1]))
    for directions in _bins(coefficients.shape[1]):
        in_bin = coefficients[:, directions]
        precision = float((np.square(in_bin) / noise).sum())
        if precision > 0:
            slope = float((in_bin * projections[:, directions] / noise).sum()) / precision
            significance = max(slope * slope * precision, _TINY)  # a squared z-value
            weight[directions] = max(slope, 0) * max(0, 1 - 1 / significance)
            variance[directions] = 1 / precision
    return weight, variance


def _strength_moments(
    projections: np.ndarray, split: list[np.ndarray], expected: np.ndarray
) -> tuple[float, float]:
    """Mean and variance over targets of a."""
    sizes = np.square(expected).sum(1) + _TINY
    strength = float(((projections * expected).sum(1) / sizes).mean())
    first, second = ((half * expected).sum(1) / sizes - strength for half in split)
    return strength, max(0, float((first * second).mean()))


def _strengths(
    projections: np.ndarray, expected: np.ndarray, noise: np.ndarray, mean: float, variance: float
) -> tuple[np.ndarray, np.ndarray]:
    """a of each target, shrunk to the mean, and its posterior variance, each `(T, 1)`."""
    sizes = np.square(expected).sum(1, keepdims=True) + _TINY
    error = noise / sizes
    rho = variance / (variance + error)
    return (
        mean + rho * ((projections * expected).sum(1, keepdims=True) / sizes - mean),
        rho * error,
    )


def _centred(members: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Medians `(T, N)` over all members and over two halves of them, each row minus its mean; and
    the halves' means `(T, 1)`.
    """
    if len(members) < 2:
        raise ValueError("one member shows no noise; give two or more")
    parts = [
        np.median(part, 0).astype(np.float64) for part in (members, members[0::2], members[1::2])
    ]
    means = [part.mean(1, keepdims=True) for part in parts]
    whole, *halves = (part - mean for part, mean in zip(parts, means, strict=True))
    return whole, halves, means[1:]


def _noise(halves: list[np.ndarray], vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Noise variances `(T, 1)` of a coefficient and of the rest of a single influence."""
    difference = (halves[0] - halves[1]) / 2
    inside = difference @ vectors
    rest = difference - inside @ vectors.T
    return (
        np.square(inside).mean(1, keepdims=True) + _TINY,
        np.square(rest).sum(1, keepdims=True) / _free(vectors) + _TINY,
    )


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


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Mean of `(T, n)` values, rows weighted by `(T, 1)`, and its standard error from the spread of
    the rows' means.
    """
    means, shares = values.mean(1, keepdims=True), weights / weights.sum()
    centre = float((means * shares).sum())
    return centre, float(np.sqrt(np.square(shares * (means - centre)).sum()))
