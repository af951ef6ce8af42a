"""Influence functions (Koh and Liang 2017).

At a minimum θ of the mean loss, removing the weight 1/N from item z moves θ by (1/N) H⁻¹ ∇l_z to
first order, so that, in nats,

    score(z, target) = 1/N · ∇L(target)ᵀ (H + λ + δ)⁻¹ ∇l_z

with H the Hessian of the mean training loss, λ the penalty of training (`Schedule.penalty`), δ the
damping. The formula needs a minimum: all eigenvalues of H + λ positive. A network has none:
training stops early, dead and interchangeable units leave eigenvalues at 0, and some are negative.
Then H⁻¹ magnifies the flattest directions without bound, gives negative ones the wrong sign,
conjugate gradients break down and LiSSA diverges. δ adds δ/2 · |θ − θ̂|² to the loss: directions
flatter than δ count as if they had curvature δ, so scores shrink there; δ → ∞ leaves gradient dot
products over δN. δ is the least for which no eigenvalue of the inverted matrix is below a
thousandth of the greatest, and a negative one, −a, becomes at least a. A convex model with a fair
penalty thus gets 0: the exact formula.

The solvers find x in A x = b for A = H + λ + δ, known only through products A u:

- `ends` finds the least and the greatest eigenvalue by Lanczos' method.
- `conjugate_gradients` (Hestenes and Stiefel 1952; Martens 2010 for Hessians) solves to a
  tolerance; A must be positive definite. Its steps grow like the square root of A's condition
  number.
- `lissa` (Agarwal, Bullins and Hazan 2017) sums the Neumann series A⁻¹ = 1/s · Σⱼ (1 − A/s)ʲ with a
  fresh random batch in every term: h₀ = b, hⱼ₊₁ = b + (1 − A_batch/s) hⱼ, x ≈ h/s. It converges if
  the scale s is at least A's greatest eigenvalue (half of it, for a fixed batch). After J terms,
  directions with eigenvalues below s/J have not converged: stopping early damps as well. Batches
  make x noisy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from turnover.errors import TurnoverError
from turnover.research.baselines.base import Baseline, Clock, Problem
from turnover.research.baselines.losses import RowLosses, parameter_names
from turnover.storage.progress import Advance
from turnover.training.fit import Split

_CONDITION = 1e-3
_TARGETS = 16


def choose_damping(least: float, greatest: float, penalty: float) -> float:
    """δ for a Hessian with these extreme eigenvalues (see the module)."""
    return max(_CONDITION * greatest, -2 * least, penalty) - penalty


@dataclass(frozen=True)
class InfluenceFunction(Baseline):
    """Koh and Liang's influence by inverse-Hessian-vector products, one per target; the time goes
    into the targets, so a few items cost nearly as much as all.

    Attributes:
        solver: how the products are found.
        layers: "all" parameters, or those of the "last" linear layer, the others held fixed.
    """

    solver: Literal["conjugate gradients", "LiSSA"] = "conjugate gradients"
    layers: Literal["all", "last"] = "all"
    asks, keeps = True, True

    @property
    def name(self) -> str:
        return f"influence functions by {self.solver}, {self.layers} layers (Koh and Liang 2017)"

    def values(
        self, problem: Problem, chosen: Tensor, clock: Clock, progress: Advance
    ) -> tuple[Tensor, int]:
        losses = RowLosses(problem.model, parameter_names(problem.model, self.layers))
        solve = conjugate_gradients if self.solver == "conjugate gradients" else lissa
        with clock.spent("train"):
            curvature, greatest = damped(losses, problem)
        rows = problem.train.take(chosen)
        values = []
        with clock.spent("estimate"):
            for gradients in losses.gradients(losses.vector, problem.targets).split(_TARGETS):
                solved = solve(curvature, gradients, greatest)
                values.append(losses.along(losses.vector, solved, rows) / len(problem.train.labels))
                progress(len(gradients) / len(problem.targets.labels))
        return torch.cat(values), 0


@dataclass(frozen=True)
class Curvature:
    """A = H + shift of the training items' mean loss at the trained vector."""

    losses: RowLosses
    train: Split
    shift: float = 0.0

    def __call__(self, directions: Tensor, rows: Tensor | None = None) -> Tensor:
        """A u for directions `(K, P)`, over all training items or over some `rows` alone."""
        train = self.train if rows is None else self.train.take(rows)
        bent = self.losses.hessian(self.losses.vector, directions, train)
        return bent + self.shift * directions


def damped(losses: RowLosses, problem: Problem) -> tuple[Curvature, float]:
    """H + λ + δ, and its approximate greatest eigenvalue."""
    least, greatest = ends(Curvature(losses, problem.train))
    penalty = problem.schedule.penalty
    shift = penalty + choose_damping(least, greatest, penalty)
    return Curvature(losses, problem.train, shift), greatest + shift


# Solvers

_LANCZOS_STEPS = 30
_CG_STEPS, _CG_TOLERANCE = 1000, 1e-6  # of the residual's length, relative to the right-hand side's
_LISSA_TERMS, _LISSA_BATCH = 1000, 64


def ends(curvature: Curvature) -> tuple[float, float]:
    """Least and greatest eigenvalue, both from inside the spectrum: the true ones may lie slightly
    beyond.
    """
    vector = curvature.losses.vector
    start = torch.randn(
        len(vector), generator=torch.Generator().manual_seed(0), dtype=vector.dtype
    ).to(vector)
    basis = [start / start.norm()]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for _ in range(min(_LANCZOS_STEPS, len(vector))):
        image = curvature(basis[-1][None])[0]
        diagonal.append(image @ basis[-1])
        orthogonal = torch.stack(basis)
        for _ in range(2):  # once is not enough to stay orthogonal
            image = image - (orthogonal @ image) @ orthogonal
        beside.append(image.norm())
        if beside[-1] <= 1e-6 * diagonal[0].abs():
            break
        basis.append(image / beside[-1])
    inner = torch.stack(beside[: len(diagonal) - 1]) if len(diagonal) > 1 else vector.new_empty(0)
    eigenvalues = torch.linalg.eigvalsh(
        torch.diag(torch.stack(diagonal)) + torch.diag(inner, 1) + torch.diag(inner, -1)
    )
    return float(eigenvalues[0]), float(eigenvalues[-1])


def conjugate_gradients(curvature: Curvature, right: Tensor, _: float = 0.0) -> Tensor:
    """x `(K, P)` for b = `right` `(K, P)`, for all right-hand sides side by side.

    Raises:
        TurnoverError: if A is not positive definite, or the steps do not suffice.
    """
    x, residual = torch.zeros_like(right), right
    direction, length = right, right.square().sum(1)
    goal = length * _CG_TOLERANCE**2
    for _step in range(_CG_STEPS):
        open_ = length > goal
        if not open_.any():
            return x
        image = curvature(direction)
        bend = (direction * image).sum(1)
        if (bend[open_] <= 0).any():
            raise TurnoverError(
                "the damped Hessian is not positive definite, so conjugate gradients cannot solve "
                "with it; name influence-lissa"
            )
        step = torch.where(open_, length / bend, 0.0)[:, None]
        x, residual = x + step * direction, residual - step * image
        length, before = residual.square().sum(1), length
        direction = residual + torch.where(open_, length / before, 0.0)[:, None] * direction
    if (length > goal).any():
        missing = float((length / right.square().sum(1)).max().sqrt())
        raise TurnoverError(
            f"{_CG_STEPS} steps of conjugate gradients left a residual of {missing:.1g}, not "
            f"{_CG_TOLERANCE:.1g}; name influence-lissa or influence-cg-last"
        )
    return x


def _random_batches(rows: int) -> Iterator[Tensor]:
    random, size = torch.Generator().manual_seed(0), min(_LISSA_BATCH, rows)
    while True:
        batches = torch.randperm(rows, generator=random).split(size)
        yield from (batch for batch in batches if len(batch) == size)


def lissa(curvature: Curvature, right: Tensor, greatest: float) -> Tensor:
    """x `(K, P)` for b = `right` `(K, P)`; the scale is twice A's `greatest` eigenvalue, since a
    batch's may lie above the whole's.

    Raises:
        TurnoverError: if the series diverges.
    """
    scale, x = 2 * greatest, right
    batches = _random_batches(len(curvature.train.labels))
    for _, rows in zip(range(_LISSA_TERMS), batches, strict=False):
        x = right + x - curvature(x, rows) / scale
    x = x / scale
    # of a series whose terms do not grow
    longest = 1.01 * (_LISSA_TERMS + 1) / scale * right.norm(dim=1)
    if not (x.norm(dim=1) <= longest).all():
        raise TurnoverError(
            f"LiSSA diverged with scale {scale:.3g}; name influence-cg or influence-cg-last"
        )
    return x
