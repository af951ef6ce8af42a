"""What `best` knows of some targets' influences, and how far: of single training items, or of groups of them.

An influence (divided by κ) is r = U c + o, with c in the directions U of the basis and o outside them. A group S of training
items is a row g of loads, κ_i for its members and 0 for all others; its influence is the sum g·r = u·c + g·o with u = Uᵀg, and a
single item is a group of one. The errors of the items of a group are not independent, so they do not add up like the sides
of a right angle. With ε(x) for the error of x, and c as `turnover.estimators.shrinkage` estimates it,

    ε(c_j) = η_j + (1 − ρ_j) (w_j s_j ε(a) + a s_j ε(w_b))

where η_j, what the noise leaves open of d_j, is independent over directions with variance ρ_j ν; but ε(a), of how strongly the
target reacts, is one number for all directions, and ε(w_b) one for all directions of bin b. Outside of U the error of o
is the same in all directions, v = τ² ν' / (τ² + ν'). Hence

    var(g·r) = Σ_j ρ_j ν u_j² + var(a) (Σ_j (1 − ρ_j) w_j s_j u_j)² + Σ_b var(w_b) (Σ_{j in b} (1 − ρ_j) a s_j u_j)² + v (|g|² − |u|²)

What items share counts once for a sum of like items, however many they are, and what is their own shrinks with their number.

One thing more adds up. Estimates are made from deviations from the mean of a target's influences, which is left out because
it is hardly larger than its noise. To one item that matters little; but a group of k items misses k times what the
estimates' mean is off. That is measured by two halves of the members, whose noise is independent: with m₁ and m₂ the means
of their influences and m̂ that of the estimates, (m₁ − m̂)(m₂ − m̂), where positive, is the variance of a shift common to
all items, and it counts for each pair of items of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Posterior:
    """Influences of N training items on T targets, divided by κ.

    `vectors` is U `(N, r)`. `coefficients` are estimates of c `(T, r)`, `outside` of o `(T, N)`. Errors are parts of their
    variance: `independent` `(T, r)` and `outside_variance` `(T, 1)`; `reaction` and `weight`, each `(T, r)`, are the errors of
    c that one standard error of a, or of each bin's w, makes; `bins` are the directions with one w. `shift` is the variance
    `(T, 1)` of what all items share beside.
    """

    vectors: np.ndarray
    coefficients: np.ndarray
    outside: np.ndarray
    independent: np.ndarray
    reaction: np.ndarray
    weight: np.ndarray
    bins: list[slice]
    outside_variance: np.ndarray
    shift: np.ndarray

    def items(self) -> tuple[np.ndarray, np.ndarray]:
        """Estimates and errors of single items, each `(T, N)`."""
        estimates = self.coefficients @ self.vectors.T + self.outside
        return estimates, np.sqrt(self._variances(self.vectors, np.ones(len(self.vectors))))

    def sums(self, loads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimates and errors, each `(T, G)`, of sums weighted by `loads` `(G, N)`, none of them negative."""
        used = loads.any(0)  # groups are small, and turning all of U into float64 would take longer than all the rest
        inside, lengths = loads[:, used] @ self.vectors[used], np.square(loads).sum(1)
        pairs = np.square(loads.sum(1)) - lengths
        variances = self._variances(inside, lengths) + self.shift * pairs
        return self.coefficients @ inside.T + self.outside @ loads.T, np.sqrt(variances)

    def _variances(self, inside: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Variances `(T, G)` of rows with coordinates `inside` `(G, r)` in the basis and squared lengths `(G,)`, without the shift."""
        squares = np.square(inside)
        independent, reaction, weight = (part.astype(inside.dtype) for part in (self.independent, self.reaction, self.weight))  # float32 is enough for items
        variances = independent @ squares.T + self.outside_variance * np.maximum(lengths - squares.sum(1), 0)
        variances += np.square(reaction @ inside.T)
        for place in self.bins:
            variances += np.square(weight[:, place] @ inside[:, place].T)
        found: np.ndarray = variances
        return found
