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
products over δN. By default δ is the least for which no eigenvalue of the inverted matrix is below
a thousandth of the greatest, and a negative one, −a, becomes at least a. A convex model with a fair
penalty thus gets 0: the exact formula.

Conjugate gradients and LiSSA are ours (`turnover.research.baselines.losses`). The exact inverse and
Arnoldi's (Schioppa et al. 2022) are captum's. Both invert the Hessian of the *summed* loss, whence
no 1/N; their `hessian_reg` is our N (λ + δ); they drop directions whose eigenvalue is not positive.
The exact one stores all P² second derivatives; Arnoldi's keeps a few hundred directions.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from turnover.attribution.engine.naive import device_of
from turnover.errors import TurnoverError
from turnover.research.baselines.base import Clock, Problem, RowLoss, Scores
from turnover.research.baselines.losses import (
    ConjugateGradient,
    Curvature,
    RowLosses,
    Solver,
    ends,
    last_linear,
    parameter_names,
)
from turnover.storage.progress import Advance, silent
from turnover.training.fit import Split

_JACOBIAN_BYTES = 2**27
_TARGET_BYTES = 2**29

# captum
#
# captum 0.9 sets a model's weights and its parameters' `requires_grad`, seeds the global random
# generator, and warns on every call; so it is given a copy, and generator states are restored.
# Linear and convolution layers get their gradients row by row in one pass (captum's
# `sample_wise_grads_per_batch`). Any other model is processed one row at a time, and so is a model
# of token ids: captum hooks each layer's input, which must have a gradient, and integers have none.


@contextmanager
def quietly(problem: Problem) -> Iterator[None]:
    """Suppress warnings inside, and restore random generators afterwards."""
    device = device_of(problem.model)
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def model_copy(problem: Problem) -> nn.Module:
    """The model in evaluation mode, to be changed at will."""
    return copy.deepcopy(problem.model).eval()


def batch_loss(loss: RowLoss, reduction: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss with the attribute that captum looks for: "sum" over the batch, or "none", a row at
    a time.
    """

    def summed(logits: Tensor, labels: Tensor) -> Tensor:
        rows = loss(logits, labels)
        return rows.sum() if reduction == "sum" else rows

    summed.reduction = reduction  # type: ignore[attr-defined]
    return summed


def trained_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The modules with trained parameters of their own, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False))
    }


def dataset(split: Split) -> TensorDataset:
    """The split in captum's form."""
    return TensorDataset(split.inputs, split.labels)


def influence(method: Any, targets: Split, bytes_each: int, progress: Advance) -> Tensor:
    """captum's scores `(targets, instances)`, in batches of targets that fit into memory at
    `bytes_each`.
    """
    parts = []
    for rows in torch.arange(len(targets.labels)).split(max(1, _TARGET_BYTES // bytes_each)):
        batch = targets.take(rows)
        parts.append(method.influence((batch.inputs, batch.labels)).detach())
        progress(len(rows) / len(targets.labels) / 2)
    return torch.cat(parts)


def common_options(problem: Problem, size: int) -> dict[str, Any]:
    """Options of every captum class that takes gradients of `size` parameters."""
    layers = trained_layers(problem.model)
    at_once = (
        all(isinstance(module, nn.Linear | nn.Conv2d) for module in layers.values())
        and problem.train.inputs.is_floating_point()
    )
    frozen = not all(parameter.requires_grad for parameter in problem.model.parameters())
    bytes_each = size * next(problem.model.parameters()).element_size()
    return {
        "model": model_copy(problem),
        "loss_fn": batch_loss(problem.loss, "sum" if at_once else "none"),
        "sample_wise_grads_per_batch": at_once,
        "layers": list(layers) if frozen else None,
        "batch_size": max(1, min(256, _JACOBIAN_BYTES // bytes_each)),
    }


# Influence functions

_CONDITION = 1e-3
_MOST_EXACT = 4000
_ARNOLDI_TOLERANCE = 1e-6
_TARGETS = 16


def choose_damping(least: float, greatest: float, penalty: float) -> float:
    """δ for a Hessian with these extreme eigenvalues (see the module)."""
    return max(_CONDITION * greatest, -2 * least, penalty) - penalty


@dataclass(frozen=True)
class InfluenceFunction:
    """Koh and Liang's influence by inverse-Hessian-vector products, one per target.

    Attributes:
        solver: conjugate gradients or LiSSA.
        layers: "all" parameters, or those of the "last" linear layer, the others held fixed.
        damping: δ; chosen from the spectrum by default.
    """

    solver: Solver = field(default_factory=ConjugateGradient)
    layers: Literal["all", "last"] = "all"
    damping: float | None = None

    @property
    def name(self) -> str:
        """The method in a few words."""
        return (
            f"influence functions by {self.solver.name}, {self.layers} layers (Koh and Liang 2017)"
        )

    def scores(
        self, problem: Problem, instances: Tensor | None = None, progress: Advance = silent
    ) -> Scores:
        """Scores in nats of the named training items; the time goes into the targets, so a few
        items cost nearly as much as all.

        Raises:
            TurnoverError: if the damping does not suffice for the solver.
        """
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        losses = RowLosses(problem.model, problem.loss, parameter_names(problem.model, self.layers))
        with clock.spent("train"):
            curvature, greatest = damped(losses, problem, self.damping)
        rows = problem.train.take(chosen)
        values = []
        with clock.spent("estimate"):
            for gradients in losses.gradients(losses.vector, problem.targets).split(_TARGETS):
                solved = self.solver.solve(curvature, gradients, greatest)
                values.append(losses.along(losses.vector, solved, rows) / len(problem.train.labels))
                progress(len(gradients) / len(problem.targets.labels))
        return clock.scores(torch.cat(values), chosen, stored_bytes=0)


def damped(losses: RowLosses, problem: Problem, damping: float | None) -> tuple[Curvature, float]:
    """H + λ + δ, and its approximate greatest eigenvalue."""
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
        return (
            f"influence functions by captum ({self.kind}), {self.layers} layers (Koh and Liang "
            "2017)"
        )

    def scores(
        self, problem: Problem, instances: Tensor | None = None, progress: Advance = silent
    ) -> Scores:
        """Scores in nats of the named training items; the exact inverse costs the same for any
        number of them.

        Raises:
            TurnoverError: if the model is too large to store its second derivatives.
        """
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        losses = RowLosses(problem.model, problem.loss, parameter_names(problem.model, self.layers))
        size = len(losses.vector)
        if self.kind == "exact" and size > _MOST_EXACT:
            raise TurnoverError(
                f"{size} parameters have too many second derivatives to write down; use "
                "layers='last', 'arnoldi' or conjugate gradients"
            )
        with quietly(problem):
            with clock.spent("train"):
                curvature, _ = damped(losses, problem, self.damping)
                shift = curvature.shift * len(problem.train.labels)
                options = common_options(problem, size)
                if self.layers == "last":
                    options["layers"] = [last_linear(problem.model)]
                method = _captum(
                    self.kind,
                    size,
                    self.directions,
                    shift,
                    problem.train.take(chosen),
                    problem.train,
                    options,
                )
            progress(0.5)
            with clock.spent("estimate"):
                values = influence(method, problem.targets, losses.vector.nbytes, progress).to(
                    losses.vector
                )
        stored_vectors = size if self.kind == "exact" else min(self.directions, size)
        return clock.scores(values, chosen, stored_bytes=stored_vectors * losses.vector.nbytes)


def _captum(
    kind: str,
    size: int,
    directions: int,
    shift: float,
    scored: Split,
    train: Split,
    options: dict[str, Any],
) -> Any:
    """captum's object, with its decomposition computed."""
    from captum.influence import NaiveInfluenceFunction

    # not among captum's public names in 0.9
    from captum.influence._core.arnoldi_influence_function import (
        ArnoldiInfluenceFunction,
    )

    options |= {
        "train_dataset": dataset(scored),
        "hessian_dataset": dataset(train),
        "checkpoint": "",
        "checkpoints_load_func": lambda model, name: 1.0,
    }
    options |= {"hessian_reg": shift, "hessian_inverse_tol": 0.0}
    if kind == "exact":
        return NaiveInfluenceFunction(**options, projection_dim=size)
    return ArnoldiInfluenceFunction(
        **options,
        projection_dim=directions,
        arnoldi_dim=directions,
        arnoldi_tol=_ARNOLDI_TOLERANCE * shift,
    )
