"""Linear systems with a Hessian that is never written down: A x = b for A = H + δ, known only through products A u.

- `ends` finds the least and the greatest eigenvalue by Lanczos' method.
- `ConjugateGradient` (Hestenes and Stiefel 1952; Martens 2010 for Hessians) solves to a tolerance; A must be positive
  definite. Its steps grow like the square root of A's condition number.
- `Lissa` (Agarwal, Bullins and Hazan 2017) sums the Neumann series A⁻¹ = 1/s · Σⱼ (1 − A/s)ʲ with a fresh random batch in
  every term: h₀ = b, hⱼ₊₁ = b + (1 − A_batch/s) hⱼ, x ≈ h/s. It converges if the scale s is at least A's greatest eigenvalue
  (half of it, for a fixed batch). After J terms, directions with eigenvalues below s/J are still short: stopping early
  damps as well. Batches make x noisy; repeats are averaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from turnover.errors import TurnoverError
from turnover.rivals.base import take
from turnover.rivals.losses import RowLosses
from turnover.training import Split

_LANCZOS_STEPS = 30
_SEED = 0


@dataclass(frozen=True)
class Curvature:
    """H + shift of the training items' mean loss at the trained vector, by its products with directions `(K, P)`."""

    losses: RowLosses
    train: Split
    shift: float = 0.0

    def __call__(self, directions: Tensor) -> Tensor:
        """A u over all training items."""
        return self.losses.hessian(self.losses.vector, directions, self.train) + self.shift * directions

    def on(self, rows: Tensor, directions: Tensor) -> Tensor:
        """A u over some training items alone."""
        return self.losses.hessian(self.losses.vector, directions, take(self.train, rows)) + self.shift * directions


class Solver(Protocol):
    """A way to solve A x = b for several b."""

    @property
    def name(self) -> str:
        """The way in a word or two."""

    def solve(self, curvature: Curvature, right: Tensor, greatest: float) -> Tensor:
        """x `(K, P)` for b = `right` `(K, P)`; `greatest` is about A's greatest eigenvalue."""


def ends(curvature: Curvature) -> tuple[float, float]:
    """Least and greatest eigenvalue, each from inside: the least may be a little lower, the greatest a little higher."""
    vector = curvature.losses.vector
    start = torch.randn(len(vector), generator=torch.Generator().manual_seed(_SEED), dtype=vector.dtype).to(vector)
    basis = [start / start.norm()]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for _ in range(min(_LANCZOS_STEPS, len(vector))):
        image = curvature(basis[-1][None])[0]
        diagonal.append(image @ basis[-1])
        known = torch.stack(basis)
        for _ in range(2):  # once is not enough to stay orthogonal
            image = image - (known @ image) @ known
        beside.append(image.norm())
        if beside[-1] <= 1e-6 * diagonal[0].abs():
            break
        basis.append(image / beside[-1])
    inner = torch.stack(beside[: len(diagonal) - 1]) if len(diagonal) > 1 else vector.new_empty(0)
    eigenvalues = torch.linalg.eigvalsh(torch.diag(torch.stack(diagonal)) + torch.diag(inner, 1) + torch.diag(inner, -1))
    return float(eigenvalues[0]), float(eigenvalues[-1])


@dataclass(frozen=True)
class ConjugateGradient:
    """Conjugate gradients for all right-hand sides side by side.

    Attributes:
        tolerance: of the residual's length, relative to the right-hand side's.
        steps: after so many it gives up.
    """

    tolerance: float = 1e-6
    steps: int = 1000

    @property
    def name(self) -> str:
        """The way in a word or two."""
        return "conjugate gradients"

    def solve(self, curvature: Curvature, right: Tensor, greatest: float) -> Tensor:
        """x `(K, P)` for b = `right` `(K, P)`.

        Raises:
            TurnoverError: if A is not positive definite, or the steps do not suffice.
        """
        x, residual = torch.zeros_like(right), right
        direction, length = right, right.square().sum(1)
        goal = length * self.tolerance**2
        for _ in range(self.steps):
            open_ = length > goal
            if not open_.any():
                return x
            image = curvature(direction)
            bend = (direction * image).sum(1)
            if (bend[open_] <= 0).any():
                raise TurnoverError("the damped Hessian is not positive definite; choose more damping")
            step = torch.where(open_, length / bend, 0.0)[:, None]
            x, residual = x + step * direction, residual - step * image
            length, before = residual.square().sum(1), length
            direction = residual + torch.where(open_, length / before, 0.0)[:, None] * direction
        if (length > goal).any():
            missing = float((length / right.square().sum(1)).max().sqrt())
            raise TurnoverError(
                f"{self.steps} steps left a residual of {missing:.1g}, not {self.tolerance:.1g}; choose more damping, more steps or more tolerance"
            )
        return x


@dataclass(frozen=True)
class Lissa:
    """The Neumann series on random batches.

    Attributes:
        depth: terms of the series.
        batch: training items in a term's batch; all of them if there are no more.
        repeats: series that are averaged.
        scale: s; by default twice A's greatest eigenvalue, since a batch's may lie above the whole's.
        seed: of the batches.
    """

    depth: int = 1000
    batch: int = 64
    repeats: int = 1
    scale: float | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """The way in a word or two."""
        return "LiSSA"

    def _batches(self, rows: int) -> Iterator[Tensor]:
        random = torch.Generator().manual_seed(self.seed)
        while True:
            yield from (batch for batch in torch.randperm(rows, generator=random).split(self.batch) if len(batch) == min(self.batch, rows))

    def solve(self, curvature: Curvature, right: Tensor, greatest: float) -> Tensor:
        """x `(K, P)` for b = `right` `(K, P)`, averaged over repeats.

        Raises:
            TurnoverError: if the series diverges.
        """
        scale = self.scale or 2 * greatest
        batches = self._batches(len(curvature.train.labels))
        total = torch.zeros_like(right)
        for _ in range(self.repeats):
            x = right
            for _, rows in zip(range(self.depth), batches, strict=False):
                x = right + x - curvature.on(rows, x) / scale
            total += x / scale
        longest = 1.01 * self.repeats * (self.depth + 1) / scale * right.norm(dim=1)  # of a series whose terms do not grow
        if not (total.norm(dim=1) <= longest).all():
            raise TurnoverError(f"LiSSA diverged with scale {scale:.3g}; choose a greater scale or more damping")
        return total / self.repeats
