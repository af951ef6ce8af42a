"""The scope that `turnover(ids)` opens: whose masks apply, and a check that every mask in it runs.

The ids travel in a context variable, not in a field of the layers, so two threads can evaluate one
shared model under different masks, and a layer works deep inside a model whose `forward` we do not
control. For the same reason a layer may be bypassed silently, and a mask that does not run gives a
wrong number. So:

- Layers that run in training remember the layers that ran with them. A later scope, in evaluation,
  in which one of them is missing or another one runs, is rejected (law 10). Where the engine knows
  the model, the error names the layer.
- In a scope, `nn.TransformerEncoder` and similar modules do not take the fused path, which reads
  the weights of their parts and never calls their dropout modules.
- What `torch.utils.checkpoint` recomputes in the backward pass runs in the scope of its forward
  pass, or in none if there was none, whichever scope is open where `backward` is called.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from turnover.attribution.forms import array_of
from turnover.attribution.masks import MAX_ID
from turnover.errors import TurnoverError

if TYPE_CHECKING:
    from turnover.attribution.dropout import TurnoverDropout

InstanceIds = Tensor | np.ndarray | Sequence[int]


@dataclass(frozen=True)
class ModelMasks:
    """A model's mask layers that must run under every mask, the names of all its mask layers, and
    whether they were observed in training mode.
    """

    trained: frozenset[TurnoverDropout]
    names: Mapping[TurnoverDropout, str]
    seen: bool = True

    def of(self, copied: nn.Module) -> ModelMasks:
        """The same layers of a copy of the model."""
        layers: Any = {layer: copied.get_submodule(name) for layer, name in self.names.items()}
        names = {layers[layer]: name for layer, name in self.names.items()}
        return ModelMasks(frozenset(layers[layer] for layer in self.trained), names, self.seen)


@dataclass
class MaskScope:
    """The state of one `turnover` context: whose masks, which sub-network, and the layers run so
    far.

    Attributes:
        at_first_mask: called when the first layer runs.
        layers: those that ran, by the key that determines their masks.
        beside: those of them that run together: all but the layers of members, which have their
            own scopes.
        training: whether one of these is in training mode.
        expected: the layers that must run, and no others; None if the model is unknown.
        times: how often the rows of a batch go through the ids: row b is under the masks of
            `ids[b % len(ids)]`.
        known: the bits of these ids by layer, where the engine has made them; they may be those of
            flipped masks.
    """

    ids: Tensor
    flipped: bool
    at_first_mask: Callable[[], object] | None = None
    expected: ModelMasks | None = None
    layers: dict[tuple[int, ...], TurnoverDropout] = field(default_factory=dict)
    beside: set[TurnoverDropout] = field(default_factory=set)
    training: bool = False
    times: int = 1
    known: Mapping[TurnoverDropout, Tensor] | None = None
    on_device: dict[torch.device, Tensor] = field(default_factory=dict)

    def ids_on(self, device: torch.device) -> Tensor:
        """The ids on a device."""
        if device not in self.on_device:
            self.on_device[device] = self.ids.to(device)
        return self.on_device[device]

    def bits_of(self, layer: TurnoverDropout, device: torch.device) -> Tensor:
        """Which units of a layer are on in each row, `(…, rows, units)`."""
        bits = (self.known or {}).get(layer)
        if bits is None:
            bits = layer.bits(self.ids_on(device))
        bits = bits.to(device)
        return torch.cat([bits] * self.times, -2) if self.times > 1 else bits

    def enter(self, layer: TurnoverDropout, key: tuple[int, ...]) -> None:
        """Record that a layer runs, whose masks `key` determines.

        Raises:
            TurnoverError: if another layer has the same masks.
        """
        owner = self.layers.setdefault(key, layer)
        if owner is not layer:
            raise TurnoverError(
                f"two turn-over layers share seed {layer.seed} and layer {layer.layer}, so they "
                "would share masks; give them different layer="
            )

    def join(self, layer: TurnoverDropout) -> None:
        """Record that a layer runs beside the others.

        Raises:
            TurnoverError: if some of them share masks, and not all in the same cohorts.
        """
        for other in self.beside:
            shared = layer.masks or other.masks
            if shared and (layer.masks, layer.seeds) != (other.masks, other.seeds):
                raise TurnoverError(
                    f"turn-over layers {other} and {layer} would put instances into different "
                    "cohorts; give all layers of a network one seed= and one masks="
                )
            break  # the others agree with this one
        self.beside.add(layer)

    def close(self) -> None:
        """Record from a scope in training which layers run together; check any other scope against
        the record.
        """
        ran = set(self.layers.values())
        if not ran:
            raise TurnoverError(
                "no TurnoverDropout layer ran inside the turnover context; add one to the model or "
                "leave the context out"
            )
        if self.training and self.expected is None:
            for layer in self.beside:
                layer.trained_with |= self.beside
            return
        trained = (
            self.expected.trained
            if self.expected
            else set().union(*(layer.trained_with for layer in ran))
        )
        missing, new = (sorted(map(self._named, part)) for part in (trained - ran, ran - trained))
        if missing and self.expected and not self.expected.seen:
            raise TurnoverError(
                f"mask layer {missing[0]} did not run in this turnover context, and the model does "
                "not run in training mode on its inputs alone, so nobody knows whether it does "
                "then; let the model run it, or take it out"
            )
        if missing:
            raise TurnoverError(
                f"mask layer {missing[0]} runs in training but did not in this turnover context, so"
                " its masks would be skipped; let the model run it in evaluation too, or take it "
                "out and train again"
            )
        if trained and new:
            raise TurnoverError(
                f"mask layer {new[0]} runs in this turnover context but did not in training, so "
                "nobody learned under its masks; let the model run it in training too, or take "
                "it out"
            )

    def _named(self, layer: TurnoverDropout) -> str:
        name = self.expected and self.expected.names.get(layer)
        return f"{name!r} ({layer})" if name else str(layer)


_scope: ContextVar[MaskScope | None] = ContextVar("turnover_scope", default=None)
_decided_in: ContextVar[int] = ContextVar("turnover_decided_in", default=-1)
"""Torch's number of the backward pass (-1: none) in which the current scope was opened."""


def as_instance_ids(ids: InstanceIds) -> Tensor:
    """Check instance ids and return them as an int64 tensor.

    Raises:
        TurnoverError: if an id is not a whole number from 0 to 2⁶³ − 1.
    """
    if not isinstance(ids, Tensor):
        array = np.asarray(ids) if isinstance(ids, int) else array_of(ids, "instance ids")
        if array.size == 0:
            return torch.zeros(array.shape, dtype=torch.int64)
        if array.dtype.kind not in "iu" or int(array.max()) > MAX_ID:
            raise TurnoverError(
                f"instance ids must be whole numbers from 0 to 2^63-1, not {array.dtype} such as "
                f"{array.flat[0]!r}; give the positions of the training items"
            )
        ids = torch.from_numpy(array.astype(np.int64))
    if ids.dtype == torch.bool or ids.is_floating_point() or ids.is_complex():
        raise TurnoverError(f"instance ids must be whole numbers from 0 to 2^63-1, not {ids.dtype}")
    ids = ids.to(torch.int64)
    if ids.numel() and int(ids.min()) < 0:
        raise TurnoverError(
            f"instance ids must be whole numbers from 0 to 2^63-1; {int(ids.min())} is negative"
        )
    return ids


@contextmanager
def turnover(instance_ids: InstanceIds, flipped: bool = False) -> Iterator[None]:
    """Run the models called inside under the masks of the given instances.

    Args:
        instance_ids: one id per row of the batch, whole numbers from 0 to 2⁶³ − 1. A K-member model
            also takes `(K, B)` ids, one row of the batch per member.
        flipped: use the flipped masks, the sub-network that never saw the instance.

    Raises:
        TurnoverError: for ids out of range, a number of ids other than the batch size, if no
            turn-over layer ran, or if in evaluation others ran than in training.
    """
    with entered(MaskScope(as_instance_ids(instance_ids), flipped)):
        yield


@contextmanager
def entered(scope: MaskScope) -> Iterator[None]:
    """`turnover` for a given scope; the engine uses it to learn when the first mask is reached."""
    with _opened(scope), unfused:
        yield
    scope.close()


@contextmanager
def member_masks(member: int) -> Iterator[None]:
    """Inside a `turnover` context: the masks of one member, by its own ids if those are `(K, B)`,
    for a model without a member axis.
    """
    whole = _scope.get()
    if whole is None or not _is_decided():
        yield
        return
    ids = whole.ids[member] if whole.ids.dim() > 1 else whole.ids
    part = MaskScope(
        ids,
        whole.flipped,
        None if whole.layers else whole.at_first_mask,
        times=whole.times,
        known=whole.known,
    )
    with _opened(part):
        yield
    if part.layers:
        part.close()
    for key, layer in part.layers.items():
        whole.enter(layer, key)


def scope_for(layer: TurnoverDropout) -> MaskScope | None:
    """The scope that a layer runs in, if any.

    Raises:
        TurnoverError: if the layer runs again in a backward pass, without a scope that gives the
            masks.
    """
    if _is_decided():
        scope = _scope.get()
        layer.masked |= scope is not None
        return scope
    if layer.masked:
        raise TurnoverError(
            f"mask layer {layer} runs again in the backward pass, where nobody knows whose masks it"
            " ran under; use torch.utils.checkpoint, or open turnover.turnover(ids) around what is "
            "computed again"
        )
    return None


def under_masks() -> bool:
    """Whether the running code is in a mask context."""
    return _is_decided() and _scope.get() is not None


@contextmanager
def before_masks() -> Iterator[None]:
    """Inside, layers before the first mask run as in a mask context, whose ids do not matter to
    them.
    """
    with _opened(MaskScope(torch.zeros(1, dtype=torch.int64), False)):
        yield


def _backward() -> int:
    """Torch's number of the backward pass that this thread is in; -1 outside of any."""
    return torch._C._current_graph_task_id()


def _is_decided() -> bool:
    """Whether the current scope applies to the running code: a backward pass is called in one scope
    and may recompute what ran in another.
    """
    return _decided_in.get() == _backward()


@contextmanager
def _opened(scope: MaskScope | None) -> Iterator[None]:
    tokens = _scope.set(scope), _decided_in.set(_backward())
    try:
        yield
    finally:
        _scope.reset(tokens[0])
        _decided_in.reset(tokens[1])


class _Unfused:
    """Inside, torch's modules call their parts one by one, until the last thread leaves."""

    def __init__(self) -> None:
        self._changing, self._inside, self._before = threading.Lock(), 0, True

    def __enter__(self) -> None:
        with self._changing:
            if not self._inside:
                self._before = torch.backends.mha.get_fastpath_enabled()
                torch.backends.mha.set_fastpath_enabled(False)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._changing:
            self._inside -= 1
            if not self._inside:
                torch.backends.mha.set_fastpath_enabled(self._before)


unfused = _Unfused()


def _reopening(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function bound to the current scope, whenever it is called."""
    scope = _scope.get() if _is_decided() else None

    def run(*args: Any, **kwargs: Any) -> Any:
        if _scope.get() is scope and _is_decided():
            return function(*args, **kwargs)
        with _opened(scope and replace(scope, at_first_mask=None, layers={})), unfused:
            return function(*args, **kwargs)

    return run


def _carry_scopes_to_recomputation() -> None:
    """Let torch's two kinds of checkpoint keep the scope along with the random state and autocast.

    Torch has no hook for that, so this replaces the two functions that both kinds call.
    """
    checkpoint: Any = torch.utils.checkpoint
    reentrant, non_reentrant = (
        checkpoint.CheckpointFunction.forward,
        checkpoint._checkpoint_without_reentrant_generator,
    )

    def forward(context: Any, function: Callable[..., Any], *args: Any) -> Any:
        return reentrant(context, _reopening(function), *args)

    def generator(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return non_reentrant(_reopening(function), *args, **kwargs)

    checkpoint.CheckpointFunction.forward = staticmethod(forward)
    checkpoint._checkpoint_without_reentrant_generator = generator


_carry_scopes_to_recomputation()
