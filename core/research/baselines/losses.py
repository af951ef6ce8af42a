"""A model's loss as a function of one flat parameter vector, and its derivatives.

All trainable parameters (or those of one layer) form one vector θ of length P; everything else is
fixed. With l_i the loss of row i, L their mean, and directions u `(K, P)`, the methods need

    l_i(θ),    ∇l_i(θ),    ⟨∇l_i(θ), u⟩,    H u = ∇²L(θ) u

The inner products and H u are directional derivatives (Pearlmutter 1994): of (∇L, l_1 … l_B) along
u, all at once, by `torch.func`. No P × P matrix and no gradient of a single row is stored for them.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from turnover.attribution.device import row_bytes
from turnover.attribution.scope import unfused
from turnover.errors import TurnoverError
from turnover.research.baselines.base import cross_entropy
from turnover.training.fit import Split

_DIRECTIONS = 16
_PAIRS = 8192
_PASS_BYTES = 2**29
_COPIES = 4  # of each layer's result: itself, its gradient, and both along a direction
_GRADIENT_BYTES = 2**28


def parameter_names(model: nn.Module, layers: Literal["all", "last"]) -> list[str]:
    """Names of the trainable parameters, of all layers ("all") or of the last linear one ("last").

    Raises:
        TurnoverError: if there are none.
    """
    names = [name for name, value in model.named_parameters() if value.requires_grad]
    if layers == "last":
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise TurnoverError("the model has no linear layer, so there is no last one")
        names = [name for name in names if name.rpartition(".")[0] == linear[-1]]
    if not names:
        raise TurnoverError("the model has no parameter that is trained there")
    return names


class RowLosses:
    """Row losses as a function of a flat vector, for a copy of the model in evaluation mode.

    Attributes:
        names: the parameters that the vector holds, in its order.
        vector: the vector of the model as it was given.
    """

    def __init__(self, model: nn.Module, names: Collection[str] | None = None) -> None:
        self.model = copy.deepcopy(model).eval()
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
        rows = max(1, self.pairs(split.inputs) // vectors)
        for start in range(0, len(split.labels), rows):
            yield split.take(slice(start, start + rows))

    def __call__(self, vector: Tensor, batch: Split) -> Tensor:
        """Loss of each row, `(B,)`."""
        with unfused:  # torch knows no derivative of the fused path
            logits = functional_call(self.model, self.named(vector), (batch.inputs,))
        return cross_entropy(logits, batch.labels)

    def many(self, vectors: Tensor, batch: Split) -> Tensor:
        """Losses `(K, B)` of the same rows for each of K vectors, with the same units dropped."""
        return vmap(lambda vector: self(vector, batch), randomness="same")(vectors)

    def of(self, vectors: Tensor, split: Split) -> Tensor:
        """Losses `(K, N)` of a whole split for K vectors, without gradients."""
        with torch.no_grad():
            return torch.cat(
                [self.many(vectors, batch) for batch in self._parts(split, len(vectors))], 1
            )

    def gradients(self, vector: Tensor, split: Split) -> Tensor:
        """Gradient of each row's loss, `(N, P)`."""
        each = grad(lambda point, row, label: self(point, Split(row[None], label[None]))[0])
        if not split.inputs.is_floating_point():
            # a model may look at token ids to cut off padding, which vmap forbids
            rows = zip(split.inputs, split.labels, strict=True)
            return torch.stack([each(vector, row, label) for row, label in rows])
        size = max(1, min(self.pairs(split.inputs), _GRADIENT_BYTES // vector.nbytes))
        return vmap(each, (None, 0, 0), chunk_size=size)(vector, split.inputs, split.labels)

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
