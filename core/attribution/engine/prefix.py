"""The backend of any model: what lies before the first mask is computed once per target.

Until the first `TurnoverDropout` layer runs, nothing depends on the training instance. Where that
is need not be declared: a `TorchDispatchMode` sees every tensor operation below the model's Python
code.

1. *Record.* The model runs on two rows and on three rows of each of some targets. The operations
   before the first mask are the prefix. Those whose results are read after it (the masked layer's
   input, and what skip connections carry past it) keep their results; comparing two rows with three
   shows along which dimensions a result grows with the batch.
2. *Replay.* For a batch of instances the model's own Python code runs again, on each target
   repeated, but each operation of the prefix that depends on the targets is answered instead of
   computed: from the kept result, repeated for the batch; with unset memory of the right shape if
   nothing will read it; with the same number where the code asked for one. From the first mask on
   everything is computed, and so is what does not depend on the target, such as positions and
   causal masks, which a model may cache. A copy of the model with the same weights is run, so
   whatever it caches stays in the copy.

So the model is used as it is: skip connections, attention masks and named inputs need no care. A
model whose operations before the first mask differ between runs (for example, drawn at random)
cannot be replayed: `NotSplittable`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode
from torch.utils._pytree import tree_flatten, tree_unflatten

from turnover.attribution.dropout import TurnoverDropout
from turnover.attribution.engine.naive import (
    Inputs,
    NaiveBackend,
    autocast,
    bits_of_halves,
    row_count,
    run_model,
    take_rows,
)
from turnover.attribution.engine.tiling import Tiling, pieces
from turnover.attribution.scope import MaskScope, entered

_TARGETS = 32
_RECORDED = (2, 3)
_ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4}


class NotSplittable(Exception):
    """This model's prefix cannot be shared; the message says why."""


@dataclass(frozen=True)
class _Result:
    """One leaf of a recorded operation's result: a number, or a tensor with its layout, and its
    values if they are needed later.
    """

    value: Any
    shape: tuple[int, ...] = ()
    grows: tuple[bool, ...] = ()
    order: tuple[int, ...] = ()
    targets: int = 1

    def rows(self, count: int) -> Any:
        """The result for a batch of `count` rows of each target."""
        if not self.shape:
            return self.value
        shape = [
            size // _RECORDED[0] * count if grows else size
            for size, grows in zip(self.shape, self.grows, strict=True)
        ]
        strides, step = [0] * len(shape), 1
        for dimension in self.order:
            strides[dimension], step = step, step * shape[dimension]
        values, dtype, device = self.value
        batch = torch.empty_strided(shape, strides, dtype=dtype, device=device)
        for dimension, grows in enumerate(self.grows) if values is not None else ():
            if grows:
                parts = values.unflatten(dimension, (self.targets, _RECORDED[0], -1))
                first = parts.narrow(dimension + 1, 0, 1)
                sizes = [count if at == dimension + 1 else -1 for at in range(first.dim())]
                values = first.expand(sizes).flatten(dimension, dimension + 2)
        if values is not None:
            batch.copy_(values)
        return batch


@dataclass(frozen=True)
class _Call:
    """One recorded operation: which, whether it is answered on replay, and its results as a flat
    list with the tree to rebuild them.
    """

    operation: Any
    answered: bool
    results: tuple[_Result, ...]
    tree: Any


class _Mode(TorchDispatchMode):
    """Sees every operation from when it enters `opened` until that is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = ExitStack()


class _Recorder(_Mode):
    """Runs every operation; records those before the first mask, and what is read after it."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.recording = True
        self.calls: list[tuple[Any, Any]] = []
        self.read: set[int] = set()
        self.inputs = inputs  # kept alive, so that their memory is not reused
        self.dependent = _storages(inputs if isinstance(inputs, Tensor) else dict(inputs))

    def stop(self) -> None:
        """The first mask is reached."""
        self.recording = False

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        given = _storages((args, kwargs))
        if not self.recording:
            self.read |= given
            return result
        if given & self.dependent:
            self.dependent |= _storages(result)
        if not _is_free(operation):
            self.calls.append((operation, result))
        return result


class _Player(_Mode):
    """Answers the operations of the prefix that depend on the target, then gets out of the way."""

    def __init__(self, calls: Sequence[_Call], rows: int) -> None:
        super().__init__()
        self.calls, self.rows, self.next, self.playing = calls, rows, 0, True

    def stop(self) -> None:
        """The first mask is reached."""
        if self.next != len(self.calls):
            raise NotSplittable(
                "it runs fewer operations before the first mask than when it was recorded"
            )
        self.playing = False
        if _get_current_dispatch_mode() is self:  # not the model's own, within its own code
            self.opened.close()

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if not self.playing or _is_free(operation):
            return operation(*args, **(kwargs or {}))
        if self.next == len(self.calls) or self.calls[self.next].operation is not operation:
            raise NotSplittable(
                f"its operations before the first mask are not always the same (at {operation})"
            )
        call = self.calls[self.next]
        self.next += 1
        if not call.answered:
            return operation(*args, **(kwargs or {}))
        if operation._schema.is_mutable:  # recorded values are those after all in-place changes
            return kwargs["out"] if kwargs and "out" in kwargs else args[0]
        return tree_unflatten([result.rows(self.rows) for result in call.results], call.tree)


def _storages(leaves: Any) -> set[int]:
    """The storage addresses of the tensors among some leaves."""
    return {
        leaf.untyped_storage().data_ptr()
        for leaf in tree_flatten(leaves)[0]
        if isinstance(leaf, Tensor)
    }


def _is_free(operation: Any) -> bool:
    """Whether an operation only returns a view of its input; views are always computed."""
    return bool(operation.is_view) or operation in (
        torch.ops.aten.detach.default,
        torch.ops.aten.lift_fresh.default,
    )


Mode = TypeVar("Mode", _Recorder, _Player)


class PrefixBackend:
    """The model from the first mask on for both halves of each pair, of at most `targets` targets
    at a time; what lies before it is computed once per target.
    """

    name = "shared prefix: what lies before the first mask once a target, then two passes per pair"

    def __init__(self, plain: NaiveBackend, targets: int = _TARGETS) -> None:
        self.plain, self.members = plain, plain.members
        self.model = copy.deepcopy(
            plain.model, {id(parameter): parameter for parameter in plain.model.parameters()}
        )
        self.expected = plain.expected.of(self.model)
        self._recorded: tuple[slice, tuple[_Call, ...]] | None = None
        self.targets = max(1, min(targets, row_count(plain.inputs), plain.rows // 2))
        self.tiling = Tiling(self.targets, max(1, plain.rows // (2 * self.targets)))

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(K, targets, ids, classes)`.

        Raises:
            NotSplittable: if the model does not repeat its operations.
        """
        parts = [self._part(part, ids) for part in pieces(targets, self.targets)]
        masked, flipped = torch.cat(parts, 1).chunk(2, 2)
        return masked, flipped

    def _part(self, targets: slice, ids: Tensor) -> Tensor:
        """Logits `(K, targets, 2 ids, classes)`, those of the flipped masks last."""
        if self._recorded is None or self._recorded[0] != targets:
            self._recorded = None
            self._recorded = targets, self._record(targets, ids[:1])
        calls, twice = self._recorded[1], ids.repeat(2)
        known = bits_of_halves(self.expected.names, ids.to(self.plain.device))
        logits = self._run(lambda _: _Player(calls, len(twice)), targets, twice, known)[0]
        return logits.unflatten(1, (-1, len(twice)))

    def _run(
        self,
        make_mode: Callable[[Inputs], Mode],
        targets: slice,
        ids: Tensor,
        known: dict[TurnoverDropout, Tensor],
    ) -> tuple[Tensor, Mode]:
        """Logits `(K, targets · ids, …)` under the mode that `make_mode` builds for the batch, and
        that mode; the masks are the `known` ones.
        """
        plain, count = self.plain, targets.stop - targets.start
        rows = torch.arange(targets.start, targets.stop).repeat_interleave(len(ids))
        batch = take_rows(plain.inputs, rows, plain.device)
        mode = make_mode(batch)
        scope = MaskScope(ids, False, mode.stop, self.expected, times=count, known=known)
        with autocast(plain.device, plain.dtype), entered(scope), mode.opened:
            mode.opened.enter_context(mode)
            logits = run_model(self.model, batch)
        if isinstance(mode, _Player) and not known.keys() >= set(scope.layers.values()):
            raise NotSplittable("a mask runs that did not when the model was recorded")
        return logits, mode

    def _record(self, targets: slice, first: Tensor) -> tuple[_Call, ...]:
        """The operations before the first mask, under the masks of one instance, `first` `(1,)`."""
        layers = [layer for layer in self.expected.names if layer.layer is not None]
        # made here, since in the recorder each operation of a hash would take ten times as long
        bits = {layer: layer.bits(first.to(self.plain.device)) for layer in layers}
        two, three = (
            self._run(
                _Recorder,
                targets,
                first.expand(rows),
                {layer: bit.expand(*bit.shape[:-2], rows, -1) for layer, bit in bits.items()},
            )[1]
            for rows in _RECORDED
        )
        if [operation for operation, _ in two.calls] != [operation for operation, _ in three.calls]:
            raise NotSplittable(
                "its operations before the first mask depend on the size of the batch"
            )
        return tuple(
            _call(*first, second, two, targets.stop - targets.start)
            for first, (_, second) in zip(two.calls, three.calls, strict=True)
        )


def _call(operation: Any, two: Any, three: Any, recorder: _Recorder, targets: int) -> _Call:
    """A recorded operation from its results on two and on three rows of each target; one whose
    results do not depend on the targets is computed on replay.
    """
    leaves, tree = tree_flatten(two)
    answered = bool(_storages(leaves) & recorder.dependent) or not any(
        isinstance(leaf, Tensor) for leaf in leaves
    )
    results = (
        tuple(
            _result(*pair, recorder.read, targets)
            for pair in zip(leaves, tree_flatten(three)[0], strict=True)
        )
        if answered
        else ()
    )
    return _Call(operation, answered, results, tree)


def _result(two: Any, three: Any, read: set[int], targets: int) -> _Result:
    if not isinstance(two, Tensor):
        return _Result(two)
    grows = tuple(first != second for first, second in zip(two.shape, three.shape, strict=True))
    for first, second, growing in zip(two.shape, three.shape, grows, strict=True):
        if growing and (first * _RECORDED[1] != second * _RECORDED[0] or first % targets):
            raise NotSplittable(
                f"a result before the first mask has size {first} for {_RECORDED[0]} rows and "
                f"{second} for {_RECORDED[1]}"
            )
    order = tuple(
        sorted(range(two.dim()), key=lambda dimension: (two.stride(dimension), -dimension))
    )
    if not two.dim():
        return _Result(two)
    values = two if two.untyped_storage().data_ptr() in read else None
    result = _Result((values, two.dtype, two.device), tuple(two.shape), grows, order, targets)
    if values is not None and not all(
        _alike(result.rows(rows), seen) for rows, seen in zip(_RECORDED, (two, three), strict=True)
    ):
        raise NotSplittable(
            "a result before the first mask differs between rows of the same target"
        )
    return result


def _alike(replayed: Tensor, recorded: Tensor) -> bool:
    """Whether two results are equal up to rounding."""
    if not recorded.is_floating_point():
        return torch.equal(replayed, recorded)
    bound = _ROUNDING.get(recorded.dtype, 0.05) * max(
        1.0, float(recorded.abs().nan_to_num(0, 0, 0).max())
    )
    return torch.allclose(replayed, recorded, rtol=0, atol=bound, equal_nan=True)
