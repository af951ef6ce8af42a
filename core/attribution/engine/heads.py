"""The backend of K-member heads: exact mask algebra, many pairs for about one forward pass.

The prefix has no masks, so its features f are computed once per target. Write a mask with p = ½ as
m = 1 + σ with σ = ±1 per unit; the flipped mask is then m̃ = 1 − σ, and with s = ±1 for the hidden
layer's mask,

    W(f ∘ m) = Wf + W(f ∘ σ)        W(f ∘ m̃) = Wf − W(f ∘ σ)

Hidden unit j belongs to the masked sub-network if its own mask keeps it (s_j = +1), otherwise to
the flipped one (s_j = −1), never to both. So one relu is enough for both sub-networks:

    h_j = relu(b_j + (Wf)_j + s_j (W(f ∘ σ))_j)

There are two ways to compute W(f ∘ σ) for all pairs, one class each:

- `GroupHeads`, for few groups of units: the partial products P_g = W_g f_g are computed once per
  target; then s_j Σ_g σ_g P_gj is one matrix product for all pairs, the signs of both masks in its
  right factor.
- `SubmatrixHeads`, for masks of single units: half of the inputs are off, so W(f ∘ σ) = 2 W_on f_on
  − Wf needs only half of the matrix, gathered once per instance for all targets.

Activations have the instances (or the targets) last, so that the narrow output layer is a product
with long rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from turnover.attribution.engine.naive import device_of
from turnover.attribution.engine.tiling import Cost, pieces, spread, tile_size
from turnover.attribution.ensemble import MemberModel, MemberTurnoverDropout

_MOST_SIGNS = 4096
_TARGETS, _PAIRS = 128, 2**17
_BLOCK, _LONG_BLOCK = 1024, 4096
_PAIRS_IN_CACHE, _PAIRS_ON_GPU = 2**11, 2**18
_INSTANCES_IN_CACHE = 256
_BLOCK_BUFFERS = 8
_FEWEST_TARGETS = 2
_SUBMATRICES = 2
_WIDE = 64
"""With more classes, two products over all hidden units cost less than sums over a product for each
of their groups.
"""
_FEW_TARGETS = 24


class _Heads(ABC):
    """What both classes share: the features of the targets, prepared once for all tiles of the same
    targets.
    """

    how = ""
    block = _BLOCK
    """Instances per task of `spread`."""

    def __init__(
        self, model: MemberModel, inputs: Tensor, memory: int, dtype: torch.dtype | None
    ) -> None:
        self.model, self.head, self.inputs, self.device = (
            model,
            model.head,
            inputs,
            device_of(model),
        )
        self.members, self.classes, self.hidden = (
            model.members,
            model.classes,
            model.head.linear_in.weight.shape[-1],
        )
        self.weight_dtype = model.head.linear_in.weight.dtype
        self.dtype = dtype or self.weight_dtype
        self.name = f"mask algebra: {self.how}" + (
            f", in {str(self.dtype).removeprefix('torch.')}"
            if self.dtype != self.weight_dtype
            else ""
        )
        most = _PAIRS_IN_CACHE if self.device.type == "cpu" else _PAIRS_ON_GPU
        self.pairs_at_once = max(
            1, min(most, memory // (_BLOCK_BUFFERS * self.hidden * self.dtype.itemsize))
        )
        self.tiling = tile_size(
            self._cost(),
            memory,
            _TARGETS,
            max(_BLOCK, _PAIRS // max(1, min(_TARGETS, len(inputs)))),
        )
        self._prepared: tuple[slice, tuple[Tensor, ...]] | None = None

    @staticmethod
    def fits(model: MemberModel) -> bool:
        """Whether both masks keep exactly half of the units, so that flipping changes the sign."""
        return all(
            2 * mask.on == mask.units for mask in (model.head.mask_in, model.head.mask_hidden)
        )

    def _cost(self) -> Cost:
        logits = 4 * self.members * self.classes * self.weight_dtype.itemsize
        return Cost(self.members * self._target_numbers() * self.dtype.itemsize, logits)

    @abstractmethod
    def _target_numbers(self) -> int:
        """How many numbers are prepared per target and member."""

    @abstractmethod
    def _prepare(self, features: Tensor) -> tuple[Tensor, ...]:
        """What all tiles need, from some targets' features `(K, t, D)`."""

    def _of(self, targets: slice) -> tuple[Tensor, ...]:
        """The result of `_prepare` for some targets, cached until other targets are requested."""
        if self._prepared is None or self._prepared[0] != targets:
            self._prepared = None
            self._prepared = (
                targets,
                self._prepare(self.model.features(self.inputs[targets].to(self.device, copy=True))),
            )
        return self._prepared[1]

    def _spread(self, ids: Tensor, work: Callable[[int, slice], object]) -> None:
        """Call `work` for every member and block of instances, on all cores."""
        spread(
            lambda task: work(*task),
            list(product(range(self.members), pieces(slice(0, len(ids)), self.block))),
            self.device,
        )

    def _signs(self, mask: MemberTurnoverDropout, member: int, ids: Tensor) -> Tensor:
        """σ of each instance as columns, `(units or groups, n)`."""
        bits = mask.seeded_bits(ids.to(self.device), mask.seeds[member]).T.contiguous()
        return bits.to(torch.int8).mul_(2).sub_(1).to(self.dtype)


class GroupHeads(_Heads):
    """Exact influences of `MemberModel`s whose masks have few groups."""

    block = _LONG_BLOCK

    def __init__(
        self, model: MemberModel, inputs: Tensor, memory: int, dtype: torch.dtype | None = None
    ) -> None:
        self.groups, self.readers = model.head.mask_in.units, model.head.mask_hidden.units
        self.how = f"{self.groups} partial products a target, one product for all pairs"
        super().__init__(model, inputs, memory, dtype)
        weights = self.head.linear_out.weight.to(self.dtype)
        self.wide = self.classes > _WIDE
        self.readout = (
            weights.transpose(1, 2).contiguous()
            if self.wide
            else weights.view(self.members, self.readers, -1, self.classes)
            .transpose(2, 3)
            .contiguous()
        )

    @staticmethod
    def fits(model: MemberModel) -> bool:
        """Whether both masks keep half of their groups, and the groups are few."""
        return (
            _Heads.fits(model)
            and model.head.mask_in.units * model.head.mask_hidden.units <= _MOST_SIGNS
        )

    def _target_numbers(self) -> int:
        return self.hidden * (self.groups + 1)

    def _prepare(self, features: Tensor) -> tuple[Tensor, ...]:
        """Partial products and, in one more column, the full pre-activations `(K, Q, t, H/Q, G +
        1)`; Q is the number of groups of the hidden mask.
        """
        members, rows, width = features.shape
        weights = self.head.linear_in.weight.view(members, self.groups, width // self.groups, -1)
        partials = features.view(members, rows, self.groups, -1).transpose(1, 2) @ weights
        full = partials.sum(1, keepdim=True) + self.head.linear_in.bias.unsqueeze(1)
        by_reader = torch.cat((partials, full), 1).unflatten(-1, (self.readers, -1))
        return (by_reader.permute(0, 3, 2, 4, 1).to(self.dtype).contiguous(),)

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(K, targets, ids, classes)`."""
        (partials,) = self._of(targets)
        out = torch.empty(
            2,
            self.members,
            partials.shape[2],
            self.classes,
            len(ids),
            dtype=self.weight_dtype,
            device=self.device,
        )
        self._spread(ids, lambda member, block: self._block(member, block, partials, ids, out))
        masked, flipped = (out + self.head.linear_out.bias.unsqueeze(-1)).transpose(-1, -2)
        return masked, flipped

    def _block(self, member: int, block: slice, partials: Tensor, ids: Tensor, out: Tensor) -> None:
        """Logits of one member for some instances and all targets, without the output bias."""
        sign_in, sign_hidden = (
            self._signs(mask, member, ids[block])
            for mask in (self.head.mask_in, self.head.mask_hidden)
        )
        readout, outputs = self.readout[member], out[:, member, ..., block]
        count = partials.shape[2]
        few_targets = count <= _FEWEST_TARGETS
        width = min(sign_in.shape[1], max(_INSTANCES_IN_CACHE, self.pairs_at_once // count))
        step = max(1, min(count, self.pairs_at_once // width))
        buffer = sign_in.new_empty(self.hidden * step * width)
        for columns in pieces(slice(0, sign_in.shape[1]), width):
            part_in, part_hidden = sign_in[:, columns], sign_hidden[:, columns]
            signs = None if few_targets else _both_signs(part_in, part_hidden)
            for rows in pieces(slice(0, count), step):
                products = partials[member, :, rows].flatten(1, 2)
                result = buffer[: products.shape[0] * products.shape[1] * part_in.shape[1]].view(
                    *products.shape[:2], -1
                )
                if signs is None:
                    _pre_activations(products, part_in, part_hidden, result)
                else:
                    torch.bmm(products, signs, out=result)
                hidden = result.clamp_(min=0).unflatten(1, (-1, self.hidden // self.readers))
                if self.wide:
                    for side, own in enumerate((1 + part_hidden, 1 - part_hidden)):
                        kept = (hidden * own[:, None, None]).transpose(0, 1).flatten(1, 2)
                        outputs[side, rows, :, columns] = torch.matmul(readout, kept)
                    continue
                read = readout.unsqueeze(1) @ hidden
                total = read.sum(0, dtype=self.weight_dtype)
                swing = read.mul_(part_hidden[:, None, None]).sum(0, dtype=self.weight_dtype)
                torch.add(total, swing, out=outputs[0, rows, :, columns])
                torch.sub(total, swing, out=outputs[1, rows, :, columns])


def _both_signs(sign_in: Tensor, sign_hidden: Tensor) -> Tensor:
    """Right factors `(Q, G + 1, n)` of the product for all pairs: s σ, and ones for the full
    pre-activations.
    """
    signs = sign_in.new_ones(len(sign_hidden), len(sign_in) + 1, sign_in.shape[1])
    torch.mul(sign_hidden.unsqueeze(1), sign_in, out=signs[:, :-1])
    return signs


def _pre_activations(
    products: Tensor, sign_in: Tensor, sign_hidden: Tensor, result: Tensor
) -> None:
    """The result `(Q, t·H/Q, n)` of the same product, with the hidden signs applied afterwards:
    cheaper for few targets.
    """
    torch.mm(products.flatten(0, 1)[:, :-1], sign_in, out=result.flatten(0, 1))
    result.mul_(sign_hidden.unsqueeze(1)).add_(products[..., -1:])


class SubmatrixHeads(_Heads):
    """Exact influences of `MemberModel`s whose masks keep half of the single units."""

    how = "half of the first matrix for each instance, both halves of the output from one relu"

    def __init__(
        self, model: MemberModel, inputs: Tensor, memory: int, dtype: torch.dtype | None = None
    ) -> None:
        few_on_cpu = len(inputs) <= _FEW_TARGETS and device_of(model).type == "cpu"
        # where thin products in bfloat16 are slower
        super().__init__(model, inputs, memory, None if few_on_cpu else dtype)

    def _cost(self) -> Cost:
        cost = super()._cost()
        return Cost(cost.target + _SUBMATRICES * 3 * self.hidden * self.dtype.itemsize, cost.pair)

    def _target_numbers(self) -> int:
        return self.head.linear_in.weight.shape[1] + 2 * self.hidden

    def _prepare(self, features: Tensor) -> tuple[Tensor, ...]:
        """Features `(K, D, t)`, their products Wf without and with the bias `(K, H, t)`."""
        plain = (features @ self.head.linear_in.weight).transpose(1, 2)
        full = plain + self.head.linear_in.bias.transpose(1, 2)
        first, second, third = (
            part.to(self.dtype).contiguous() for part in (features.transpose(1, 2), plain, full)
        )
        return first, second, third

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(K, targets, ids, classes)`."""
        prepared = self._of(targets)
        out = torch.empty(
            self.members,
            len(ids),
            2,
            self.classes,
            prepared[0].shape[-1],
            dtype=self.weight_dtype,
            device=self.device,
        )
        self._spread(ids, lambda member, block: self._rows(member, block, ids, prepared, out))
        out = out + self.head.linear_out.bias[:, :, None, :, None]
        masked, flipped = out.permute(2, 0, 4, 1, 3)
        return masked, flipped

    def _rows(
        self, member: int, block: slice, ids: Tensor, prepared: tuple[Tensor, ...], out: Tensor
    ) -> None:
        """Logits of one member for some instances and all targets, without the output bias."""
        features, plain, full = (part[member] for part in prepared)
        weight = self.head.linear_in.weight[member].to(self.dtype)
        inputs, hidden = (
            mask.seeded_bits(ids[block].to(self.device), mask.seeds[member])
            for mask in (self.head.mask_in, self.head.mask_hidden)
        )
        inputs = self.head.mask_in.scale(inputs, False, self.dtype)
        sign, readout = self._hidden(member, hidden)
        few_targets = features.shape[1] <= _FEW_TARGETS and self.dtype == self.weight_dtype
        selected = inputs.nonzero()[:, 1].view(len(inputs), -1) if not few_targets else inputs
        step = (
            max(1, self.pairs_at_once // features.shape[1])
            if few_targets or self.device.type != "cpu"
            else _SUBMATRICES
        )
        for rows in pieces(slice(0, len(selected)), step):
            swing = (_product if few_targets else _submatrix_product)(
                features, weight, plain, selected[rows]
            )
            activations = torch.addcmul(full, swing, sign[rows]).clamp_(min=0)
            out[member, block][rows] = (readout[rows] @ activations).unflatten(1, (2, self.classes))

    def _hidden(self, member: int, bits: Tensor) -> tuple[Tensor, Tensor]:
        """Signs s `(n, H, 1)`, and the readout `(n, 2·classes, H)`: masked rows, then flipped
        ones.
        """
        weight = self.head.linear_out.weight[member].T.to(self.dtype)
        on, off = (
            self.head.mask_hidden.scale(bits, flipped, self.dtype).unsqueeze(1)
            for flipped in (False, True)
        )
        return (on - 1).transpose(1, 2).contiguous(), torch.cat((on * weight, off * weight), 1)


def _submatrix_product(features: Tensor, weight: Tensor, plain: Tensor, units: Tensor) -> Tensor:
    """W(f ∘ σ) `(n, H, t)` for features `(D, t)` and the units that are on, `(n, D/2)`."""
    matrix, part = (
        whole.index_select(0, units.flatten()).unflatten(0, units.shape)
        for whole in (weight, features)
    )
    return torch.baddbmm(
        plain.expand(len(units), -1, -1), matrix.transpose(1, 2), part, beta=-1, alpha=2
    )


def _product(features: Tensor, weight: Tensor, plain: Tensor, mask: Tensor) -> Tensor:
    """The same from the masks `(n, D)`: cheaper for few targets."""
    masked = (mask - 1).unsqueeze(1) * features.T
    return (masked @ weight).transpose(1, 2)
