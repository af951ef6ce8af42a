"""The reference ("plain") backend: any model, two forward passes for every pair.

Rows of a batch are pairs: target t repeated once for every training instance, each row under that
instance's mask. This is the published method (Kobayashi et al. 2020, equation 2) and every faster
backend is tested against it. What all backends need to run a model is here too: reading its output,
evaluation mode, and the masks that it runs in training.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from turnover.attribution.device import exact_products
from turnover.attribution.dropout import TurnoverDropout, turnover_layers
from turnover.attribution.engine.tiling import Tiling
from turnover.attribution.ensemble import Members
from turnover.attribution.scope import MaskScope, ModelMasks, entered, turnover
from turnover.errors import TurnoverError

Inputs = Tensor | Mapping[str, Tensor]
"""A batch: one tensor, or the named tensors of a Hugging Face model; rows first."""

_ROWS, _ROWS_ON_GPU, _TAIL = 256, 4096, 8
_LARGEST_RESULTS = 6
_CACHED_BYTES, _ROWS_IN_CACHE = 2**23, 32
"""Bytes of a result that stays in a CPU's cache, and how many rows a pass may have in any case."""
_LOOKS = 8
"""How often a model is run to observe all its layers, some of which may be skipped at random."""


def row_count(inputs: Inputs) -> int:
    """How many rows a batch has.

    Raises:
        TurnoverError: if the named tensors differ in length.
    """
    if isinstance(inputs, Tensor):
        return len(inputs)
    lengths = {len(value) for value in inputs.values()}
    if len(lengths) != 1:
        raise TurnoverError(
            f"the named inputs have {sorted(lengths)} rows; all must have the same number"
        )
    return lengths.pop()


def take_rows(inputs: Inputs, rows: Tensor, device: torch.device) -> Inputs:
    """Some rows of a batch, on a device."""
    if isinstance(inputs, Tensor):
        return inputs[rows.to(inputs.device)].to(device)
    return {name: value[rows.to(value.device)].to(device) for name, value in inputs.items()}


def run_model(model: nn.Module, inputs: Inputs) -> Tensor:
    """Logits `(K, rows, …)`; a plain model counts as one member. Errors as `logits_of`."""
    logits = logits_of(model(inputs) if isinstance(inputs, Tensor) else model(**inputs))
    return logits if isinstance(model, Members) else logits.unsqueeze(0)


def logits_of(output: Any) -> Tensor:
    """The logits among what a model returns: the `logits` of a Hugging Face output or a mapping,
    the first tensor of a tuple that is no single number, as a loss is.

    Raises:
        TurnoverError: for any other output.
    """
    logits = (
        output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    )
    if isinstance(logits, tuple | list):
        logits = next((part for part in logits if isinstance(part, Tensor) and part.dim()), None)
    if not isinstance(logits, Tensor):
        raise TurnoverError(
            f"the model returns a {type(output).__name__} without logits; return the logits, a "
            "tensor with one row an input"
        )
    return logits


def weights_type(model: nn.Module) -> torch.dtype | None:
    """The number type of a model's first floating-point weights."""
    return next(
        (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()),
        None,
    )


def members_of(model: nn.Module) -> int:
    """K of a K-member model; any other model is one member."""
    return model.members if isinstance(model, Members) else 1


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Large products in `dtype` inside; unchanged for None. Cast weights are not cached, so that
    each pass is the same.
    """
    return (
        nullcontext() if dtype is None else torch.autocast(device.type, dtype, cache_enabled=False)
    )


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter lies (CPU if it has none)."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


@dataclass
class _Evaluated:
    """A model in use: the modules to return to training mode, and how many threads use it."""

    training: list[nn.Module]
    threads: int = 0


_changing_mode = threading.Lock()
_evaluated: WeakKeyDictionary[nn.Module, _Evaluated] = WeakKeyDictionary()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients and exact products inside; when the last thread leaves, every
    module's own mode is restored.
    """
    with _changing_mode:
        if model not in _evaluated:
            _evaluated[model] = _Evaluated(
                [module for module in model.modules() if module.training]
            )
        use = _evaluated[model]
        use.threads += 1
        for module in use.training:
            module.training = False
    try:
        with torch.no_grad(), exact_products():
            yield
    finally:
        with _changing_mode:
            use.threads -= 1
            if not use.threads:
                del _evaluated[model]
                for module in use.training:
                    module.training = True


def masks_of_training(model: nn.Module, inputs: Inputs) -> ModelMasks:
    """The mask layers that a model runs under training: those that must run under every mask (law
    10).

    The layers record whether they were trained in this process. If not, a copy of the model is run
    in training mode on the first row, several times if not all of its layers run. If that fails,
    for example because it needs more than the inputs, all layers count. Layers without a number get
    one there.

    Raises:
        TurnoverError: if in training some layers run in the scope and others only outside it, or
            masks do not fit the model.
    """
    layers = named_masks(model)
    seen = (
        layers
        if any(layer.trained_with for layer in layers.values())
        else _masks_of_copy(model, inputs)
    )
    trained = [name for name, layer in seen.items() if layer.trained_with]
    outside = [
        name for name, layer in seen.items() if layer.trained_outside and not layer.trained_with
    ]
    if trained and outside:
        raise TurnoverError(
            f"mask layer {outside[0]!r} ({seen[outside[0]]}) runs outside the turnover context in "
            "training, as in a thread of its own, where no masks apply; call it in the thread "
            "that opened the context, and train again"
        )
    for name in trained:
        if layers[name].layer is None:
            layers[name].layer = seen[name].layer
    return ModelMasks(
        frozenset(layers[name] for name in trained or layers),
        {layer: name for name, layer in layers.items()},
        bool(trained),
    )


def named_masks(model: nn.Module) -> dict[str, TurnoverDropout]:
    """The mask layers of a model by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, TurnoverDropout)
    }


def _masks_of_copy(model: nn.Module, inputs: Inputs) -> dict[str, TurnoverDropout]:
    """The mask layers of a copy of the model that was run in training mode; none if that fails. The
    copy has its own weights, which it may change.
    """
    rows = torch.zeros(2, dtype=torch.int64)
    try:
        twin = copy.deepcopy(model).train()
        masks = named_masks(twin)
        with torch.enable_grad(), torch.random.fork_rng():
            for _ in range(_LOOKS):
                with turnover(rows):
                    run_model(twin, take_rows(inputs, rows, device_of(model)))
                if all(mask.trained_with for mask in masks.values()):
                    break
    except TurnoverError:
        raise
    except Exception:
        return {}
    return masks


class _Largest(TorchDispatchMode):
    """Records the size of the largest tensor that any operation makes; a view, of weights perhaps,
    has no memory of its own.
    """

    bytes = 0

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        leaves = () if operation.is_view else tree_leaves(result)
        self.bytes = max(
            [self.bytes, *(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))]
        )
        return result


def rows_within(model: nn.Module, inputs: Inputs, memory: int, most: int) -> int:
    """How many rows a pass may have: at most `most`, and such that about six of the model's largest
    results fit into `memory` bytes. The model is run on one row to measure them.
    """
    if not row_count(inputs):
        return most
    with torch.no_grad(), _Largest() as watch:
        run_model(model, take_rows(inputs, torch.zeros(1, dtype=torch.int64), device_of(model)))
    return rows_of(watch.bytes, memory, most, device_of(model))


def rows_of(largest: int, memory: int, most: int, device: torch.device) -> int:
    """The same for a model whose largest result of a row has so many bytes; on a CPU that result
    should also stay in the cache until it is read.
    """
    if device.type == "cpu":
        most = min(most, max(_ROWS_IN_CACHE, _CACHED_BYTES // max(1, largest)))
    return max(1, min(most, memory // max(1, _LARGEST_RESULTS * largest)))


def most_tail_rows(device: torch.device) -> int:
    """Most rows of a pass of the layers from the first mask on, if memory does not matter."""
    return _TAIL * (_ROWS if device.type == "cpu" else _ROWS_ON_GPU)


def both_halves(
    model: nn.Module, inputs: Inputs, ids: Tensor, expected: ModelMasks | None = None
) -> tuple[Tensor, Tensor]:
    """Masked and flipped logits of rows under one instance each: two forward passes, each on its
    own copy of the batch.

    Raises:
        TurnoverError: if other mask layers run than `expected`, where given.
    """
    copied = (
        inputs.clone()
        if isinstance(inputs, Tensor)
        else {name: value.clone() for name, value in inputs.items()}
    )
    with entered(MaskScope(ids, False, expected=expected)):
        masked = run_model(model, copied)
    with entered(MaskScope(ids, True, expected=expected)):
        flipped = run_model(model, inputs)
    return masked, flipped


def number_masks(model: nn.Module, inputs: Inputs) -> None:
    """Let layers without a number get one, which they do when they first run."""
    if any(layer.layer is None for layer in turnover_layers(model)):
        row = torch.zeros(1, dtype=torch.int64)
        both_halves(model, take_rows(inputs, row, device_of(model)), row)


def bits_of_halves(layers: Iterable[TurnoverDropout], ids: Tensor) -> dict[TurnoverDropout, Tensor]:
    """Each layer's bits for some instances, and below them their complements, the flipped masks: a
    scope that knows these for the ids twice gives both halves in one pass.

    Layers without a number have none yet.
    """
    return {
        layer: torch.cat((bits, ~bits), -2)
        for layer, bits in ((layer, layer.bits(ids)) for layer in layers if layer.layer is not None)
    }


class NaiveBackend:
    """Two forward passes per pair, for any model with `TurnoverDropout` layers.

    Attributes:
        rows: how many rows a pass of the layers from the first mask on may have.
    """

    name = "plain: two forward passes per pair"

    def __init__(
        self, model: nn.Module, inputs: Inputs, memory: int, dtype: torch.dtype | None = None
    ) -> None:
        turnover_layers(model)
        self.model, self.inputs, self.device, self.dtype = model, inputs, device_of(model), dtype
        self.members, self.expected = members_of(model), masks_of_training(model, inputs)
        most = most_tail_rows(self.device)
        self.rows = rows_within(model, inputs, memory, most)
        self.tiling = Tiling(1, min(self.rows, most // _TAIL))

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(K, targets, ids, classes)`; no pass has more rows than
        the backend's tile.
        """
        pairs = [self._target(target, ids) for target in range(targets.start, targets.stop)]
        masked, flipped = (torch.stack(half, 1) for half in zip(*pairs, strict=True))
        return masked, flipped

    def samples(self, targets: Iterable[int], ids: Tensor) -> Iterator[Tensor]:
        """Logits `(K, 2 ids, classes)` of targets under few instances, one target after the other,
        those of the flipped masks last; in one pass where all mask layers have their numbers.
        """
        known, twice = bits_of_halves(self.expected.names, ids.to(self.device)), ids.repeat(2)
        for target in targets:
            if len(known) < len(self.expected.names):
                yield torch.cat(self._target(target, ids), 1)
                continue
            batch = take_rows(self.inputs, torch.full((len(twice),), target), self.device)
            scope = MaskScope(twice, False, expected=self.expected, known=known)
            with autocast(self.device, self.dtype), entered(scope):
                logits = run_model(self.model, batch)
            yield logits

    def _target(self, target: int, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(K, ids, classes)` of one target."""
        halves = []
        for part in ids.split(self.tiling.instances):
            batch = take_rows(self.inputs, torch.full((len(part),), target), self.device)
            with autocast(self.device, self.dtype):
                halves.append(both_halves(self.model, batch, part, self.expected))
        masked, flipped = (torch.cat(half, 1) for half in zip(*halves, strict=True))
        return masked, flipped
