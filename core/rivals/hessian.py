"""Influence functions (Koh and Liang 2017, "Understanding Black-box Predictions via Influence Functions").

At a minimum θ of the mean loss, taking the weight 1/N from item z moves θ by (1/N) H⁻¹ ∇l_z to first order, so that

    score(z, target) = 1/N · ∇L(target)ᵀ (H + λ + δ)⁻¹ ∇l_z

with H the Hessian of the mean training loss, λ the penalty that training added (`Schedule.penalty`), δ the damping.

**Why damping.** The formula needs a minimum: all eigenvalues of H + λ positive. A net has none: training stops early,
dead and interchangeable units leave eigenvalues at 0, and some are negative. Then H⁻¹ magnifies the flattest directions
without bound, gives negative ones the wrong sign, conjugate gradients break down and LiSSA diverges. δ adds δ/2 · |θ − θ̂|² to
the loss: directions flatter than δ count as if they had curvature δ, so scores shrink there, and δ → ∞ leaves gradient dot
products over δN. **Which.** By default the least δ for which no eigenvalue of what is inverted is below a thousandth of the
greatest, and a negative one, −a, becomes at least a. A convex model with a fair penalty thus gets 0: the exact formula.

Four ways to the inverse. Conjugate gradients and LiSSA are ours (`turnover.rivals.solvers`): captum has neither. The exact
inverse and Arnoldi's (Schioppa et al. 2022) are captum's `NaiveInfluenceFunction` and `ArnoldiInfluenceFunction`. Both
invert the Hessian of the *summed* loss, whence no 1/N; their `hessian_reg` is our N (λ + δ); they drop directions whose
eigenvalue is not positive. The exact one writes all P² second derivatives down; Arnoldi's keeps a few hundred directions.

Scale: nats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from turnover.errors import TurnoverError
from turnover.rivals import through_captum
from turnover.rivals.base import Clock, Problem, Scores, Told, silent, take
from turnover.rivals.losses import RowLosses, last_linear, parameter_names
from turnover.rivals.solvers import ConjugateGradient, Curvature, Solver, ends
from turnover.rivals.through_captum import dataset
from turnover.training import Split

_CONDITION = 1e-3
_MOST_EXACT = 4000
_ARNOLDI_TOLERANCE = 1e-6
_TARGETS = 16


def choose_damping(least: float, greatest: float, penalty: float) -> float:
    """δ for a Hessian with these extreme eigenvalues, as the module's text says."""
    return max(_CONDITION * greatest, -2 * least, penalty) - penalty


@dataclass(frozen=True)
class InfluenceFunction:
    """Koh and Liang's influence by inverse-Hessian-vector products, one per target.

    Attributes:
        solver: conjugate gradients or LiSSA.
        layers: "all" parameters, or those of the "last" linear layer, the others held fixed.
        damping: δ; chosen from the spectrum if not named.
    """

    solver: Solver = field(default_factory=ConjugateGradient)
    layers: Literal["all", "last"] = "all"
    damping: float | None = None

    @property
    def name(self) -> str:
        """The method in a few words."""
        return f"influence functions by {self.solver.name}, {self.layers} layers (Koh and Liang 2017)"

    def scores(self, problem: Problem, instances: Tensor | None = None, progress: Told = silent) -> Scores:
        """Scores in nats of the training items named; the time goes into the targets, so a few cost nearly as much as all.

        Raises:
            TurnoverError: if the damping does not suffice for the solver.
        """
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        losses = RowLosses(problem.model, problem.loss, parameter_names(problem.model, self.layers))
        with clock.spent("train"):
            curvature, greatest = damped(losses, problem, self.damping)
        some = take(problem.train, chosen)
        values = []
        with clock.spent("estimate"):
            for gradients in losses.gradients(losses.vector, problem.targets).split(_TARGETS):
                solved = self.solver.solve(curvature, gradients, greatest)
                values.append(losses.along(losses.vector, solved, some) / len(problem.train.labels))
                progress(len(gradients) / len(problem.targets.labels))
        return clock.scores(torch.cat(values), chosen, stored_bytes=0)


def damped(losses: RowLosses, problem: Problem, damping: float | None) -> tuple[Curvature, float]:
    """H + λ + δ, and about its greatest eigenvalue."""
    least, greatest = ends(Curvature(losses, problem.train))
    penalty = problem.schedule.penalty
    shift = penalty + (choose_damping(least, greatest, penalty) if damping is None else damping)
    return Curvature(losses, problem.train, shift), greatest + shift


@dataclass(frozen=True)
class CaptumInfluence:
    """Koh and Liang's influence by captum's classes.

    Attributes:
        kind: "exact" (all second derivatives, for a few thousand parameters) or "arnoldi".
        layers, damping: as of `InfluenceFunction`.
        directions: how many Arnoldi directions are kept.
    """

    kind: Literal["exact", "arnoldi"] = "exact"
    layers: Literal["all", "last"] = "all"
    damping: float | None = None
    directions: int = 200

    @property
    def name(self) -> str:
        """The method in a few words."""
        return f"influence functions by captum ({self.kind}), {self.layers} layers (Koh and Liang 2017)"

    def scores(self, problem: Problem, instances: Tensor | None = None, progress: Told = silent) -> Scores:
        """Scores in nats of the training items named; the exact inverse costs the same for any number of them.

        Raises:
            TurnoverError: if the model is too large to write its second derivatives down.
        """
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        losses = RowLosses(problem.model, problem.loss, parameter_names(problem.model, self.layers))
        size = len(losses.vector)
        if self.kind == "exact" and size > _MOST_EXACT:
            raise TurnoverError(f"{size} parameters have too many second derivatives to write down; use layers='last', 'arnoldi' or conjugate gradients")
        with through_captum.quietly(problem):
            with clock.spent("train"):
                curvature, _ = damped(losses, problem, self.damping)
                shift = curvature.shift * len(problem.train.labels)
                options = through_captum.common_options(problem, size)
                if self.layers == "last":
                    options["layers"] = [last_linear(problem.model)]
                method = _captum(self.kind, size, self.directions, shift, take(problem.train, chosen), problem.train, options)
            progress(0.5)
            with clock.spent("estimate"):
                values = through_captum.influence(method, problem.targets, losses.vector.nbytes, progress).to(losses.vector)
        kept = size if self.kind == "exact" else min(self.directions, size)
        return clock.scores(values, chosen, stored_bytes=kept * losses.vector.nbytes)


def _captum(kind: str, size: int, directions: int, shift: float, some: Split, train: Split, options: dict[str, Any]) -> Any:
    """captum's object, its decomposition made."""
    from captum.influence import NaiveInfluenceFunction
    from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction  # not among captum's public names in 0.9

    options |= {"train_dataset": dataset(some), "hessian_dataset": dataset(train), "checkpoint": "", "checkpoints_load_func": lambda model, name: 1.0}
    options |= {"hessian_reg": shift, "hessian_inverse_tol": 0.0}
    if kind == "exact":
        return NaiveInfluenceFunction(**options, projection_dim=size)
    return ArnoldiInfluenceFunction(**options, projection_dim=directions, arnoldi_dim=directions, arnoldi_tol=_ARNOLDI_TOLERANCE * shift)
