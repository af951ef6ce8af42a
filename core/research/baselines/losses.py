"""A model's loss as a function of one flat parameter vector: derivatives, and Hessian solvers.

All trainable parameters (or those of one layer) form one vector θ of length P; everything else is
fixed. With l_i the loss of row i, L their mean, and directions u `(K, P)`, the methods need

    l_i(θ),    ∇l_i(θ),    ⟨∇l_i(θ), u⟩,    H u = ∇²L(θ) u

The inner products and H u are directional derivatives (Pearlmutter 1994): of (∇L, l_1 … l_B) along
u, all at once, by `torch.func`. No P × P matrix and no gradient of a single row is stored for them.

The solvers find x in A x = b for A = H + δ, known only through products A u:

- `ends` finds the least and the greatest eigenvalue by Lanczos' method.
- `ConjugateGradient` (Hestenes and Stiefel 1952; Martens 2010 for Hessians) solves to a tolerance;
  A must be positive definite. Its steps grow like the square root of A's condition number.
- `Lissa` (Agarwal, Bullins and Hazan 2017) sums the Neumann series A⁻¹ = 1/s · Σⱼ (1 − A/s)ʲ with a
  fresh random batch in every term: h₀ = b, hⱼ₊₁ = b + (1 − A_batch/s) hⱼ, x ≈ h/s. It converges if
  the scale s is at least A's greatest eigenvalue (half of it, for a fixed batch). After J terms,
  directions with eigenvalues below s/J have not converged: stopping early damps as well. Batches
  make x noisy; repeats are averaged.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from turnover.attribution.scope import unfused
from turnover.errors import TurnoverError
from turnover.research.baselines.base import RowLoss
from turnover.training.fit import Split

_DIRECTIONS = 16
_PAIRS = 8192
_PASS_BYTES = 2**29
_COPIES = 4  # of each layer's result: itself, its gradient, and both along a direction
_GRADIENT_BYTES = 2**28


def last_linear(model: nn.Module) -> str:
    """Name of the model's last linear layer.

    Raises:
        TurnoverError: if it has none.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise TurnoverError(
            "the model has no linear layer, so there is no last one; use layers='all'"
        )
    return names[-1]


def parameter_names(model: nn.Module, layers: str) -> list[str]:
    """Names of the trainable parameters, of all layers ("all") or of the last linear one ("last").

    Raises:
        TurnoverError: if there are none, or `layers` is another word.
    """
    if layers not in ("all", "last"):
        raise TurnoverError(f"layers {layers!r} is not known; choose 'all' or 'last'")
    names = [name for name, value in model.named_parameters() if value.requires_grad]
    if layers == "last":
        layer = last_linear(model)
        names = [name for name in names if name.rpartition(".")[0] == layer]
    if not names:
        raise TurnoverError("the model has no parameter that is trained there")
    return names


def parts(split: Split, rows: int) -> Iterator[Split]:
    """The split, some rows at a time."""
    for start in range(0, len(split.labels), rows):
        yield split.take(slice(start, start + rows))


def row_bytes(model: nn.Module, inputs: Tensor) -> int:
    """Bytes of all layers' outputs for one row, measured by running the model on one."""
    sizes: list[int] = []

    def note(_: nn.Module, __: object, output: object) -> None:
        sizes.append(output.nbytes if isinstance(output, Tensor) else 0)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    with torch.no_grad():
        model(inputs[:1])
    for hook in hooks:
        hook.remove()
    return sum(sizes)


class RowLosses:
    """Row losses as a function of a flat vector, for a copy of the model in evaluation mode.

    Attributes:
        names: the parameters that the vector holds, in its order.
        vector: the vector of the model as it was given.
    """

    def __init__(
        self, model: nn.Module, loss: RowLoss, names: Collection[str] | None = None
    ) -> None:
        self.model = copy.deepcopy(model).eval()
        self.loss = loss
        named = dict(self.model.named_parameters())
        self.names = tuple(parameter_names(self.model, "all") if names is None else names)
        self.model.requires_grad_(False)
        self.vector = self.flat({name: named[name].detach() for name in self.names})
        self._shapes = [named[name].shape for name in self.names]
        self._sizes = [named[name].numel() for name in self.names]
        self._pairs: int | None = None

    def flat(self, named: Mapping[str, Tensor]) -> Tensor:
        """The vector that holds these parameters."""
        return torch.cat([named[name].flatten() for name in self.names])

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """The parameters that a vector holds, as views of it."""
        pieces = vector.split(self._sizes)
        return {
            name: piece.view(shape)
            for name, piece, shape in zip(self.names, pieces, self._shapes, strict=True)
        }

    def pairs(self, inputs: Tensor) -> int:
        """How many (row, vector or direction) pairs of one pass fit into memory."""
        if self._pairs is None:
            self._pairs = max(
                1, min(_PAIRS, _PASS_BYTES // max(1, _COPIES * row_bytes(self.model, inputs)))
            )
        return self._pairs

    def _parts(self, split: Split, vectors: int) -> Iterator[Split]:
        """The split in parts whose pass for so many vectors fits into memory."""
        return parts(split, max(1, self.pairs(split.inputs) // vectors))

    def __call__(self, vector: Tensor, batch: Split) -> Tensor:
        """Loss of each row, `(B,)`."""
        with unfused:  # torch knows no derivative of the fused path
            logits = functional_call(self.model, self.named(vector), (batch.inputs,))
        return self.loss(logits, batch.labels)

    def many(self, vectors: Tensor, batch: Split) -> Tensor:
        """Losses `(K, B)` of the same rows for each of K vectors."""
        return vmap(lambda vector: self(vector, batch))(vectors)

    def of(self, vectors: Tensor, split: Split) -> Tensor:
        """Losses `(K, N)` of a whole split for K vectors, without gradients."""
        with torch.no_grad():
            return torch.cat(
                [self.many(vectors, batch) for batch in self._parts(split, len(vectors))], 1
            )

    def gradients(self, vector: Tensor, split: Split) -> Tensor:
        """Gradient of each row's loss, `(N, P)`."""
        rows = max(1, min(self.pairs(split.inputs), _GRADIENT_BYTES // vector.nbytes))
        each = vmap(
            grad(lambda point, inputs, label: self(point, Split(inputs[None], label[None]))[0]),
            (None, 0, 0),
            chunk_size=rows,
        )
        return each(vector, split.inputs, split.labels)

    def along(self, vector: Tensor, directions: Tensor, split: Split) -> Tensor:
        """⟨∇l_i, u⟩ for each of K directions and N rows, `(K, N)`."""

        def slopes(batch: Split) -> Tensor:
            return vmap(
                lambda u: jvp(lambda point: self(point, batch), (vector,), (u,))[1],
                chunk_size=_DIRECTIONS,
            )(directions)

        return torch.cat([slopes(batch) for batch in self._parts(split, _DIRECTIONS)], 1)

    def curved(self, vector: Tensor, directions: Tensor, batch: Split) -> tuple[Tensor, Tensor]:
        """H u `(K, P)` of the batch's mean loss, and ⟨∇l_i, u⟩ `(K, B)`."""

        def mean(point: Tensor) -> tuple[Tensor, Tensor]:
            rows = self(point, batch)
            return rows.mean(), rows

        def both(u: Tensor) -> tuple[Tensor, Tensor]:
            derivatives: tuple[Tensor, Tensor] = jvp(grad(mean, has_aux=True), (vector,), (u,))[1]
            return derivatives

        return vmap(
            both, chunk_size=max(1, min(_DIRECTIONS, self.pairs(batch.inputs) // len(batch.labels)))
        )(directions)

    def hessian(self, vector: Tensor, directions: Tensor, split: Split) -> Tensor:
        """H u `(K, P)` of the split's mean loss."""
        total = torch.zeros_like(directions)
        for batch in self._parts(split, _DIRECTIONS):
            total += self.curved(vector, directions, batch)[0] * (
                len(batch.labels) / len(split.labels)
            )
        return total


# Solvers

_LANCZOS_STEPS = 30
_SEED = 0


@dataclass(frozen=True)
class Curvature:
    """H + shift of the training items' mean loss at the trained vector, by its products with
    directions `(K, P)`.
    """

    losses: RowLosses
    train: Split
    shift: float = 0.0

    def __call__(self, directions: Tensor) -> Tensor:
        """A u over all training items."""
        return (
            self.losses.hessian(self.losses.vector, directions, self.train)
            + self.shift * directions
        )

    def on(self, rows: Tensor, directions: Tensor) -> Tensor:
        """A u over some training items alone."""
        return (
            self.losses.hessian(self.losses.vector, directions, self.train.take(rows))
            + self.shift * directions
        )


class Solver(Protocol):
    """A way to solve A x = b for several b."""

    @property
    def name(self) -> str:
        """The way in a word or two."""

    def solve(self, curvature: Curvature, right: Tensor, greatest: float) -> Tensor:
        """x `(K, P)` for b = `right` `(K, P)`; `greatest` is about A's greatest eigenvalue."""


def ends(curvature: Curvature) -> tuple[float, float]:
    """Least and greatest eigenvalue, both from inside the spectrum: the true ones may lie slightly
    beyond.
    """
    vector = curvature.losses.vector
    start = torch.randn(
        len(vector), generator=torch.Generator().manual_seed(_SEED), dtype=vector.dtype
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


@dataclass(frozen=True)
class ConjugateGradient:
    """Conjugate gradients for all right-hand sides side by side.

    Attributes:
        tolerance: of the residual's length, relative to the right-hand side's.
        steps: maximum number.
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
                raise TurnoverError(
                    "the damped Hessian is not positive definite; choose more damping"
                )
            step = torch.where(open_, length / bend, 0.0)[:, None]
            x, residual = x + step * direction, residual - step * image
            length, before = residual.square().sum(1), length
            direction = residual + torch.where(open_, length / before, 0.0)[:, None] * direction
        if (length > goal).any():
            missing = float((length / right.square().sum(1)).max().sqrt())
            raise TurnoverError(
                f"{self.steps} steps left a residual of {missing:.1g}, not {self.tolerance:.1g}; "
                "choose more damping, more steps or more tolerance"
            )
        return x


@dataclass(frozen=True)
class Lissa:
    """The Neumann series on random batches.

    Attributes:
        depth: terms of the series.
        batch: training items in a term's batch, at most all.
        repeats: series that are averaged.
        scale: s; by default twice A's greatest eigenvalue, since a batch's may lie above the
            whole's.
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
            yield from (
                batch
                for batch in torch.randperm(rows, generator=random).split(self.batch)
                if len(batch) == min(self.batch, rows)
            )

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
        # of a series whose terms do not grow
        longest = 1.01 * self.repeats * (self.depth + 1) / scale * right.norm(dim=1)
        if not (total.norm(dim=1) <= longest).all():
            raise TurnoverError(
                f"LiSSA diverged with scale {scale:.3g}; choose a greater scale or more damping"
            )
        return total / self.repeats
