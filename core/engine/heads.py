"""The path of our own K-member models: mask algebra, exact, thousands of pairs for the price of one forward pass.

The prefix has no masks, so its features f are computed once a target. Write a mask with p = ½ as m = 1 + σ with σ = ±1
per group of units; the flipped mask is then m̃ = 1 − σ. With P_g = W_g f_g, the partial product of group g,

    W(f ∘ m) = Wf + Σ_g σ_g P_g        W(f ∘ m̃) = Wf − Σ_g σ_g P_g

so one matrix product, (instances × groups) · (groups × targets·hidden), serves all pairs. A hidden unit j is read by the
masked network if its own mask keeps it (s_j = +1), else by the flipped one (s_j = −1), never by both. One relu is enough:

    h_j = relu(b_j + (Wf)_j + s_j Σ_g σ_g P_gj)

and the two outputs collect the two halves of h. Tiles are kept small enough for the processor's cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.engine.plain import device_of
from core.models.members import MemberModel

_PARTIALS_BYTES = 96 * 2**20
_INSTANCES = 256
_TARGETS_IN_CACHE = 8


class HeadPath:
    """Exact influences of `MemberModel`s whose masks keep exactly half of the units."""

    def __init__(self, model: MemberModel, inputs: Tensor) -> None:
        self.model, self.members, self.inputs, self.device = model, model.members, inputs, device_of(model)
        head = model.head
        self.name = f"mask algebra: {head.mask_in.units} partial products a target, one product for all pairs"
        hidden = head.linear_in.weight.shape[-1]
        bytes_a_target = head.mask_in.units * hidden * self.members * head.linear_in.weight.element_size()
        self.targets_per_tile = max(1, min(128, _PARTIALS_BYTES // bytes_a_target))
        self.instances_per_tile = _INSTANCES
        self._prepared: tuple[slice, Tensor, Tensor] | None = None

    @staticmethod
    def fits(model: MemberModel) -> bool:
        """Whether both masks keep exactly half, so that flipping is a change of sign."""
        return all(2 * mask.on == mask.units for mask in (model.head.mask_in, model.head.mask_hidden))

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(K, targets, ids, classes)`."""
        full, partials = self._prepare(targets)
        count, hidden = full.shape[1:]
        classes = self.model.classes
        out = full.new_empty(self.members, len(ids), count, 2 * classes)
        for member in range(self.members):
            sign_in, sign_hidden, readout = self._instances(member, ids)
            for first in range(0, count, _TARGETS_IN_CACHE):
                rows = slice(first, min(first + _TARGETS_IN_CACHE, count))
                swing = (sign_in @ partials[member, :, rows].flatten(1)).view(len(ids), -1, hidden)
                units = torch.addcmul(full[member, rows], swing, sign_hidden.unsqueeze(1)).clamp_(min=0)
                out[member, :, rows] = torch.bmm(units, readout)
        out = out.transpose(1, 2) + self.model.head.linear_out.bias.repeat(1, 1, 2).unsqueeze(1)
        return out[..., :classes], out[..., classes:]

    def _prepare(self, targets: slice) -> tuple[Tensor, Tensor]:
        """Full pre-activations `(K, t, H)` and partial products `(K, G, t, H)` of a slice of targets, kept for its tiles."""
        if self._prepared is None or self._prepared[0] != targets:
            head = self.model.head
            features = self.model.features(self.inputs[targets].to(self.device))
            members, rows, width = features.shape
            groups = head.mask_in.units
            by_group = features.view(members, rows, groups, width // groups).transpose(1, 2)
            weights = head.linear_in.weight.view(members, groups, width // groups, -1)
            partials = by_group @ weights
            self._prepared = targets, partials.sum(1) + head.linear_in.bias, partials
        return self._prepared[1:]

    def _instances(self, member: int, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Signs σ `(n, G)` and s `(n, H)`, and the readout `(n, H, 2·classes)`: masked columns, then flipped ones."""
        head = self.model.head
        ids = ids.to(self.device)
        weight = head.linear_out.weight[member]
        sign_in = head.mask_in.seeded_bits(ids, head.mask_in.seeds[member]).to(weight.dtype) * 2 - 1
        bits = head.mask_hidden.seeded_bits(ids, head.mask_hidden.seeds[member])
        kept, dropped = (head.mask_hidden.scale(bits, flipped, weight.dtype) for flipped in (False, True))
        readout = torch.cat((kept.unsqueeze(-1) * weight, dropped.unsqueeze(-1) * weight), -1)
        return sign_in, kept - 1, readout
