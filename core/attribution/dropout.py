"""The turn-over dropout layer.

A `TurnoverDropout` layer does nothing until a model is called inside `turnover(ids)`. Then row b of
its input is multiplied by the mask of instance ids[b] (Kobayashi et al. 2020, section 3):

    x ∘ m(z),   m(z) ∈ {0, 1/p}                       the sub-network that learns from z
    x ∘ m̃(z),  m̃(z) = 1/p − m(z)   (flipped=True)    the sub-network that never sees z

With `masks=M` the instances share M masks, in cohorts: the same instances in all layers of a
network, others in another network's.

Layers of one network need different masks. A layer without a number gets one the first time it runs
inside a context: the count of turn-over layers that ran before it. `layer=` sets the number.
"""

from __future__ import annotations

import threading
import warnings
from itertools import count
from operator import index

import torch
from torch import Tensor, nn

from turnover.attribution.masks import (
    MAX_MASKS,
    MAX_UNITS,
    cohort_masks,
    instance_cohorts,
    instance_masks,
    units_on,
)
from turnover.attribution.scope import InstanceIds, MaskScope, as_instance_ids, scope_for
from turnover.errors import TurnoverError

_numbering = threading.Lock()


class TurnoverDropout(nn.Module):
    """Turn-over dropout on one dimension of an activation; the identity outside a `turnover`
    context.

    Args:
        width: size of the masked dimension.
        p: keep rate. Exactly k = floor(p · units + .5) units are on, and `self.keep` is k / units.
        groups: mask this many equal groups of neighbouring units instead of single units; must
            divide `width`.
        seed: mask seed. Layers with the same seed and different numbers have independent masks.
        masks: how many masks the instances share, even, from 2 to 2²⁰, the same in all layers, as
            is the seed; p is then ½, of an even number of units. None: every instance has its own.
        layer: the layer's number; by default, its position in the order in which the layers first
        run.
        dim: the masked dimension: -1 for features and tokens, 1 for the channels of images.

    Attributes:
        seeds: the mask seed of each member.
        trained_with: the layers that ran in a scope with this one in training, including itself.
        trained_outside: whether it ran in training without a scope.
        masked: whether it ever ran in a scope.

    Shapes: input and output `(B, …)` with `width` at `dim`; B is the number of instance ids.

    Raises:
        TurnoverError: if `groups` does not divide `width`, the mask would be all on or all off, or
            `masks` masks cannot be shared.
    """

    def __init__(
        self,
        width: int,
        p: float = 0.5,
        groups: int | None = None,
        seed: int = 0,
        *,
        masks: int | None = None,
        layer: int | None = None,
        dim: int = -1,
    ) -> None:
        super().__init__()
        try:
            width, seed = index(width), index(seed)
        except TypeError:
            raise TurnoverError(
                f"TurnoverDropout({width!r:.20}, seed={seed!r:.20}): give whole numbers"
            ) from None
        units = width if groups is None else groups
        if units < 1 or width % units:
            raise TurnoverError(
                f"{groups} groups do not divide a width of {width}; choose a divisor"
            )
        if units > MAX_UNITS:
            raise TurnoverError(
                f"a layer can have at most {MAX_UNITS} maskable units, not {units}; use groups="
            )
        try:
            self.on = units_on(units, p)
        except ValueError as error:
            raise TurnoverError(str(error)) from None
        if masks is not None:
            check_masks(masks)
            if units % 2 or 2 * self.on != units:
                raise TurnoverError(
                    f"shared masks (masks={masks}) come in pairs that keep half of the units each; "
                    f"choose p=0.5 and an even number of units or groups, not p={p:g} of {units}"
                )
        self.width, self.groups, self.units = width, groups, units
        self.seed, self.masks, self.layer, self.dim = seed, masks, layer, dim
        self.seeds: tuple[int, ...] = (seed,)
        self.keep = self.on / units
        self.trained_with: set[TurnoverDropout] = set()
        self.trained_outside = self.masked = False
        if 2 * self.on != units:
            warnings.warn(
                f"with p={self.keep:g} the flipped mask has mean {1 / self.keep - 1:.3g} instead of"
                " 1, so flipped losses are not comparable; p=0.5 is",
                stacklevel=2,
            )

    def extra_repr(self) -> str:
        return (
            f"width={self.width}, p={self.keep:g}, groups={self.groups}, seed={self.seed}, "
            f"layer={self.layer}, dim={self.dim}"
            f"{'' if self.masks is None else f', masks={self.masks}'}"
        )

    def bits(self, ids: Tensor) -> Tensor:
        """Which units are on: booleans `ids.shape + (units,)` on the ids' device."""
        return self.seeded_bits(ids, self.seed)

    def seeded_bits(self, ids: Tensor, seed: int) -> Tensor:
        """`bits` under another mask seed."""
        if self.masks is not None:
            return cohort_masks(ids, self.units, self.masks, seed=seed, layer=self.layer or 0)
        return instance_masks(ids, self.units, self.on, seed=seed, layer=self.layer or 0)

    def scale(self, bits: Tensor, flipped: bool, dtype: torch.dtype) -> Tensor:
        """Mask values from bits: 0 or 1/p, widened from groups to single units."""
        on = ~bits if flipped else bits
        values = on.to(dtype) * (1 / self.keep)
        return (
            values
            if self.groups is None
            else values.repeat_interleave(self.width // self.units, dim=-1)
        )

    def mask(
        self, ids: InstanceIds, flipped: bool = False, dtype: torch.dtype | None = None
    ) -> Tensor:
        """The masks themselves, `(B, width)`, with values 0 and 1/p
        (law 2: mask + flipped = 1/p).
        """
        return self.scale(
            self.bits(as_instance_ids(ids)), flipped, dtype or torch.get_default_dtype()
        )

    @property
    def p(self) -> float:
        """0, so that code that reads an `nn.Dropout` rate here and drops units itself drops
        nothing.
        """
        return 0.0

    def forward(self, x: Tensor) -> Tensor:
        return _uncompiled(self, x) if torch.compiler.is_compiling() else self._masked(x)

    def _masked(self, x: Tensor) -> Tensor:
        scope = scope_for(self)
        if scope is None:
            self.trained_outside |= self.training and torch.is_grad_enabled()
            return x
        if not scope.layers and scope.at_first_mask:
            scope.at_first_mask()
        self._number(scope)
        scope.enter(self, self._key())
        scope.join(self)
        scope.training |= self.training
        self._check_rows(x, scope)
        bits = scope.bits_of(self, x.device)
        return x * self._broadcast(self.scale(bits, scope.flipped, x.dtype), x)

    def _replicate_for_data_parallel(self) -> TurnoverDropout:
        if scope_for(self) is not None:
            raise TurnoverError(
                f"mask layer {self} would run in a thread of nn.DataParallel, where no masks apply;"
                " use DistributedDataParallel"
            )
        return super()._replicate_for_data_parallel()

    def _key(self) -> tuple[int, ...]:
        """What determines the masks: two layers of a network with the same key would share them."""
        return (self.seed, self.layer or 0)

    def _number(self, scope: MaskScope) -> None:
        if self.layer is None:
            with _numbering:
                if self.layer is None:
                    taken = {layer.layer for layer in scope.layers.values()}
                    self.layer = next(
                        number for number in count(len(scope.layers)) if number not in taken
                    )

    def _check_rows(self, x: Tensor, scope: MaskScope) -> None:
        if x.shape[self.dim] != self.width:
            raise TurnoverError(
                f"the turn-over layer masks {self.width} units, but dimension {self.dim} of its "
                f"input {tuple(x.shape)} has {x.shape[self.dim]}"
            )
        if scope.ids.dim() != 1 or len(scope.ids) * scope.times != x.shape[0]:
            raise TurnoverError(
                f"{scope.ids.numel()} instance ids for a batch of {x.shape[0]} rows at mask layer "
                f"{self}; give one id per row, and mask where dimension 0 holds the rows of the "
                "batch (not windows, experts or time steps)"
            )

    def _broadcast(self, mask: Tensor, x: Tensor) -> Tensor:
        """`(B, width)` reshaped to broadcast with x."""
        shape = [1] * x.dim()
        shape[0], shape[self.dim] = x.shape[0], self.width
        return mask.view(shape)


def check_masks(masks: int) -> None:
    """Check a number of shared masks.

    Raises:
        TurnoverError: if it is odd, below 2 or above 2²⁰.
    """
    if masks % 2 or not 2 <= masks <= MAX_MASKS:
        raise TurnoverError(
            f"masks={masks}: choose an even number from 2 to {MAX_MASKS:,}, or None for a mask of "
            "each instance's own"
        )


def cohorts(ids: InstanceIds, seed: int, masks: int) -> Tensor:
    """The cohort of each instance, from 0 to `masks` − 1, `(N,)`, in a network whose layers have
    this seed and `masks` shared masks; cohorts 2j and 2j + 1 have complementary masks.

    Raises:
        TurnoverError: for ids out of range, and a number of masks that cannot be shared.
    """
    check_masks(masks)
    return instance_cohorts(as_instance_ids(ids), masks, seed=seed)


_uncompiled = torch._disable_dynamo(TurnoverDropout._masked)  # type: ignore[attr-defined]
"""The forward pass outside a compiled graph, which could not see whose masks apply
(`torch.compiler.disable` would import the compiler at once).
"""


def turnover_layers(model: nn.Module) -> list[TurnoverDropout]:
    """The turn-over layers of a model, in the order of its modules.

    Raises:
        TurnoverError: if there is none.
    """
    layers = [module for module in model.modules() if isinstance(module, TurnoverDropout)]
    if not layers:
        raise TurnoverError(
            f"{type(model).__name__} has no TurnoverDropout layer, so no instance owns a part of "
            "it; add one"
        )
    return layers
