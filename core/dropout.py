"""The turn-over dropout layer, and the context that says whose masks apply.

A `TurnoverDropout` layer does nothing until a model is called inside `turnover(ids)`. Then row b of its input is
multiplied by the mask of instance ids[b] (Kobayashi et al. 2020, section 3):

    x ∘ m(z),   m(z) ∈ {0, 1/p}                       the sub-network that learns from z
    x ∘ m̃(z),  m̃(z) = 1/p − m(z)   (flipped=True)    the sub-network that never sees z

The ids travel in a context variable, not in a field of the layer: two threads that evaluate one shared model under
different masks do not meet, and the layer works deep inside a model whose `forward` we do not control.

Layers of one network need different masks. A layer without a number gets one the first time it runs inside a context:
the count of turn-over layers that ran before it. Pass `layer=` to fix the number by hand.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import TurnoverError
from core.masks import MAX_ID, MAX_UNITS, instance_masks, units_on

InstanceIds = Tensor | np.ndarray | Sequence[int]


@dataclass
class MaskScope:
    """What one `turnover` context knows: whose masks, which half, and the layers that asked so far."""

    ids: Tensor
    flipped: bool
    at_first_mask: Callable[[], object] | None = None
    layers: dict[tuple[int, ...], TurnoverDropout] = field(default_factory=dict)
    on_device: dict[torch.device, Tensor] = field(default_factory=dict)

    def ids_on(self, device: torch.device) -> Tensor:
        if device not in self.on_device:
            self.on_device[device] = self.ids.to(device)
        return self.on_device[device]


_scope: ContextVar[MaskScope | None] = ContextVar("turnover_scope", default=None)
_numbering = threading.Lock()


def as_instance_ids(ids: InstanceIds) -> Tensor:
    """Check instance ids and return them as an int64 tensor.

    Raises:
        TurnoverError: if an id is not a whole number from 0 to 2⁶³ − 1.
    """
    if not isinstance(ids, Tensor):
        array = np.asarray(ids)
        if array.size == 0:
            return torch.zeros(array.shape, dtype=torch.int64)
        if array.dtype.kind not in "iu" or int(array.max()) > MAX_ID:
            raise TurnoverError(f"instance ids must be whole numbers from 0 to 2^63-1, not {array.dtype} such as {array.flat[0]!r}")
        ids = torch.from_numpy(array.astype(np.int64))
    if ids.dtype == torch.bool or ids.is_floating_point() or ids.is_complex():
        raise TurnoverError(f"instance ids must be whole numbers from 0 to 2^63-1, not {ids.dtype}")
    ids = ids.to(torch.int64)
    if ids.numel() and int(ids.min()) < 0:
        raise TurnoverError(f"instance ids must be whole numbers from 0 to 2^63-1; {int(ids.min())} is negative")
    return ids


@contextmanager
def turnover(instance_ids: InstanceIds, flipped: bool = False) -> Iterator[None]:
    """Run the models called inside under the masks of the given instances.

    Args:
        instance_ids: one id per row of the batch, whole numbers from 0 to 2⁶³ − 1. A K-member model also takes
            `(K, B)` ids, one row of the batch per member.
        flipped: use the flipped masks, the half of the network that never saw the instance.

    Raises:
        TurnoverError: for ids out of range, a number of ids other than the batch size, or if no turn-over layer ran.
    """
    with entered(MaskScope(as_instance_ids(instance_ids), flipped)):
        yield


@contextmanager
def entered(scope: MaskScope) -> Iterator[None]:
    """`turnover` for a scope made by hand; the engine's way to learn when the first mask is reached."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)
    if not scope.layers:
        raise TurnoverError("no TurnoverDropout layer ran inside the turnover context; add one to the model or leave the context out")


@contextmanager
def member_masks(member: int) -> Iterator[None]:
    """Inside a `turnover` context with ids `(K, B)`: the ids of one member, for a model that knows nothing of members."""
    scope = _scope.get()
    if scope is None or scope.ids.dim() < 2:
        yield
        return
    with entered(replace(scope, ids=scope.ids[member], on_device={})):
        yield


class TurnoverDropout(nn.Module):
    """Turn-over dropout on one dimension of an activation; the identity outside a `turnover` context.

    Args:
        width: size of the masked dimension.
        p: keep rate. Exactly k = floor(p · units + .5) units are on, and `self.p` is k / units.
        groups: mask this many equal groups of neighbouring units instead of single units; must divide `width`.
        seed: mask seed. Layers with the same seed and different numbers have independent masks.
        layer: the layer's number; by default, its place in the order in which the layers first run.
        dim: the masked dimension: -1 for features and tokens, 1 for the channels of images.

    Shapes: input and output `(B, …)` with `width` at `dim`; B is the number of instance ids.

    Raises:
        TurnoverError: if `groups` does not divide `width`, or the mask would be all on or all off.
    """

    def __init__(self, width: int, p: float = 0.5, groups: int | None = None, seed: int = 0, *, layer: int | None = None, dim: int = -1) -> None:
        super().__init__()
        units = width if groups is None else groups
        if units < 1 or width % units:
            raise TurnoverError(f"{groups} groups do not divide a width of {width}; choose a divisor")
        if units > MAX_UNITS:
            raise TurnoverError(f"a layer can have at most {MAX_UNITS} maskable units, not {units}; use groups=")
        try:
            self.on = units_on(units, p)
        except ValueError as error:
            raise TurnoverError(str(error)) from None
        self.width, self.groups, self.units, self.seed, self.layer, self.dim = width, groups, units, seed, layer, dim
        self.p = self.on / units
        if 2 * self.on != units:
            warnings.warn(
                f"with p={self.p:g} the flipped mask has mean {(1 - self.p) / self.p:.3g} instead of 1, so flipped losses are not comparable; p=0.5 is",
                stacklevel=2,
            )

    def extra_repr(self) -> str:
        return f"width={self.width}, p={self.p:g}, groups={self.groups}, seed={self.seed}, layer={self.layer}, dim={self.dim}"

    def bits(self, ids: Tensor) -> Tensor:
        """Which units are on: booleans `ids.shape + (units,)` on the ids' device."""
        return self.seeded_bits(ids, self.seed)

    def seeded_bits(self, ids: Tensor, seed: int) -> Tensor:
        """`bits` under another mask seed."""
        return instance_masks(ids, self.units, self.on, seed=seed, layer=self.layer or 0)

    def scale(self, bits: Tensor, flipped: bool, dtype: torch.dtype) -> Tensor:
        """Mask values from bits: 0 or 1/p, widened from groups to single units."""
        kept = ~bits if flipped else bits
        values = kept.to(dtype) * (1 / self.p)
        return values if self.groups is None else values.repeat_interleave(self.width // self.units, dim=-1)

    def mask(self, ids: InstanceIds, flipped: bool = False, dtype: torch.dtype | None = None) -> Tensor:
        """The masks themselves, `(B, width)`, with values 0 and 1/p (law 2: mask + flipped = 1/p)."""
        return self.scale(self.bits(as_instance_ids(ids)), flipped, dtype or torch.get_default_dtype())

    def forward(self, x: Tensor) -> Tensor:
        scope = _scope.get()
        if scope is None:
            return x
        if not scope.layers and scope.at_first_mask:
            scope.at_first_mask()
        self._enter(scope)
        return x * self._broadcast(self.scale(self.bits(self._ids_for(x, scope)), scope.flipped, x.dtype), x)

    def _key(self) -> tuple[int, ...]:
        """What decides the masks: two layers of a network with the same key would share them."""
        return (self.seed, self.layer or 0)

    def _enter(self, scope: MaskScope) -> None:
        if self.layer is None:
            with _numbering:
                if self.layer is None:
                    taken = {layer.layer for layer in scope.layers.values()}
                    self.layer = next(number for number in count(len(scope.layers)) if number not in taken)
        owner = scope.layers.setdefault(self._key(), self)
        if owner is not self:
            raise TurnoverError(f"two turn-over layers share seed {self.seed} and layer {self.layer}, so they would share masks; give them different layer=")

    def _ids_for(self, x: Tensor, scope: MaskScope) -> Tensor:
        if x.shape[self.dim] != self.width:
            raise TurnoverError(f"the turn-over layer masks {self.width} units, but dimension {self.dim} of its input {tuple(x.shape)} has {x.shape[self.dim]}")
        if scope.ids.shape != x.shape[:1]:
            raise TurnoverError(f"{scope.ids.numel()} instance ids for a batch of {x.shape[0]} rows; give one id per row")
        return scope.ids_on(x.device)

    def _broadcast(self, mask: Tensor, x: Tensor) -> Tensor:
        """`(B, width)` shaped so that it lines up with x."""
        shape = [1] * x.dim()
        shape[0], shape[self.dim] = x.shape[0], self.width
        return mask.view(shape)


def turnover_layers(model: nn.Module) -> list[TurnoverDropout]:
    """The turn-over layers of a model, in the order of its modules.

    Raises:
        TurnoverError: if there is none.
    """
    layers = [module for module in model.modules() if isinstance(module, TurnoverDropout)]
    if not layers:
        raise TurnoverError(f"{type(model).__name__} has no TurnoverDropout layer, so no instance owns a part of it; add one")
    return layers
