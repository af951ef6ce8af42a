"""The shared prefix of any model: what lies before the first mask is computed once a target, found
by running the model.

Until the first `TurnoverDropout` layer runs, nothing depends on the training instance. Nobody has
to say where that is: a `TorchDispatchMode` sees every tensor operation below the model's Python
code.

1. *Record.* The model runs on two rows and on three rows of the same target. The operations before
   the first mask are the prefix. Those whose results are read after it (the masked layer's input,
   and what skip connections carry past it) are kept; and comparing two rows with three tells along
   which dimensions a result grows with the batch.
2. *Replay.* For a batch of instances the model's own Python code runs again, on the target
   repeated, but each operation of the prefix that has to do with the target is answered instead of
   computed: from what was kept, repeated for the batch; with unset memory of the right shape where
   nobody will read it; with the same number where the code asked for one. From the first mask on
   everything is computed, and so is what knows nothing of the target, such as positions and causal
   masks, which a model may keep for later. What it keeps in itself, a copy keeps: the model is run
   as a copy with the same weights.

So the model is used as it is: skip connections, attention masks and named inputs need no care. A
model whose operations before the first mask are not the same each time (for example, drawn at
random) cannot be replayed: `NotSplittable`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from turnover.attribution.engine.naive import Inputs, NaiveBackend, autocast, run_model, take_rows
from turnover.attribution.engine.tiling import Tiling
from turnover.attribution.scope import MaskScope, entered

_ROWS = 128
_RECORDED = (2, 3)
_ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4}


class NotSplittable(Exception):
    """This model's prefix cannot be shared; the message says why."""


@dataclass(frozen=True)
class _Result:
    """What a recorded operation gave, one leaf of it: a number, or a tensor with its layout, and
    its values if they are needed later.
    """

    value: Any
    shape: tuple[int, ...] = ()
    grows: tuple[bool, ...] = ()
    order: tuple[int, ...] = ()

    def rows(self, count: int) -> Any:
        """The result for a batch of `count` rows."""
        if not self.shape:
            return self.value
        shape = [
            size // _RECORDED[0] * count if grows else size
            for size, grows in zip(self.shape, self.grows, strict=True)
        ]
        strides, step = [0] * len(shape), 1
        for dimension in self.order:
            strides[dimension], step = step, step * shape[dimension]
        kept, dtype, device = self.value
        made = torch.empty_strided(shape, strides, dtype=dtype, device=device)
        if kept is not None:
            one = kept[
                tuple(
                    slice(size // _RECORDED[0]) if grows else slice(None)
                    for size, grows in zip(self.shape, self.grows, strict=True)
                )
            ]
            repeats = [
                (
                    made.shape[dimension] // one.shape[dimension]
                    if grows and one.shape[dimension] > 1
                    else 1
                )
                for dimension, grows in enumerate(self.grows)
            ]
            made.copy_(one.repeat(repeats))
        return made


@dataclass(frozen=True)
class _Call:
    """One recorded operation: which, whether its results depend on the target, and these as a flat
    list with the tree to rebuild them.
    """

    operation: Any
    answered: bool
    results: tuple[_Result, ...]
    tree: Any


class _Recorder(TorchDispatchMode):
    """Lets everything happen and writes down what comes before the first mask, and what is read
    after it.
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.recording = True
        self.calls: list[tuple[Any, Any]] = []
        self.read: set[int] = set()
        self.inputs = inputs  # kept alive, so that nothing else comes to lie in its place
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


class _Player(TorchDispatchMode):
    """Answers the operations of the prefix that have to do with the target, then lets everything
    happen.
    """

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
        if operation._schema.is_mutable:  # the kept values are those after all changes in place
            return kwargs["out"] if kwargs and "out" in kwargs else args[0]
        return tree_unflatten([result.rows(self.rows) for result in call.results], call.tree)


def _storages(leaves: Any) -> set[int]:
    """Where the tensors among some leaves lie in memory."""
    return {
        leaf.untyped_storage().data_ptr()
        for leaf in tree_flatten(leaves)[0]
        if isinstance(leaf, Tensor)
    }


def _is_free(operation: Any) -> bool:
    """Whether an operation only looks at its input in another way; such are always carried out."""
    return bool(operation.is_view) or operation in (
        torch.ops.aten.detach.default,
        torch.ops.aten.lift_fresh.default,
    )


Mode = TypeVar("Mode", _Recorder, _Player)


class PrefixBackend:
    """Two forward passes per pair from the first mask on, of no more rows than the plain backend
    has; what lies before it once a target.
    """

    name = "shared prefix: what lies before the first mask once a target, then two passes per pair"

    def __init__(self, plain: NaiveBackend) -> None:
        self.plain, self.members = plain, plain.members
        self.model = copy.deepcopy(
            plain.model, {id(parameter): parameter for parameter in plain.model.parameters()}
        )
        self.expected = plain.expected.of(self.model)
        self._recorded: tuple[int, tuple[_Call, ...]] | None = None
        self.tiling = Tiling(1, min(plain.tiling.instances, _ROWS))

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(K, targets, ids, classes)`.

        Raises:
            NotSplittable: if the model does not repeat its operations.
        """
        pairs = [self._target(target, ids) for target in range(targets.start, targets.stop)]
        masked, flipped = (torch.stack(half, 1) for half in zip(*pairs, strict=True))
        return masked, flipped

    def _target(self, target: int, ids: Tensor) -> list[Tensor]:
        if self._recorded is None or self._recorded[0] != target:
            self._recorded = None
            self._recorded = target, self._record(target, ids)
        calls = self._recorded[1]
        return [
            self._run(lambda _: _Player(calls, len(ids)), target, ids, flipped)[0]
            for flipped in (False, True)
        ]

    def _run(
        self, made: Callable[[Inputs], Mode], target: int, ids: Tensor, flipped: bool = False
    ) -> tuple[Tensor, Mode]:
        """Logits under the mode that `made` makes for the batch, and that mode."""
        plain = self.plain
        batch = take_rows(plain.inputs, torch.full((len(ids),), target), plain.device)
        mode = made(batch)
        with (
            autocast(plain.device, plain.dtype),
            entered(MaskScope(ids, flipped, mode.stop, self.expected)),
            mode,
        ):
            return run_model(self.model, batch), mode

    def _record(self, target: int, ids: Tensor) -> tuple[_Call, ...]:
        two, three = (self._run(_Recorder, target, ids[:1].expand(rows))[1] for rows in _RECORDED)
        if [operation for operation, _ in two.calls] != [operation for operation, _ in three.calls]:
            raise NotSplittable(
                "its operations before the first mask depend on the size of the batch"
            )
        return tuple(
            _call(*first, second, two)
            for first, (_, second) in zip(two.calls, three.calls, strict=True)
        )


def _call(operation: Any, two: Any, three: Any, recorder: _Recorder) -> _Call:
    """A recorded operation from its results on two and on three rows; what has no results is
    carried out.
    """
    leaves, tree = tree_flatten(two)
    answered = bool(_storages(leaves) & recorder.dependent) or not any(
        isinstance(leaf, Tensor) for leaf in leaves
    )
    results = (
        tuple(
            _result(*pair, recorder.read)
            for pair in zip(leaves, tree_flatten(three)[0], strict=True)
        )
        if answered
        else ()
    )
    return _Call(operation, answered, results, tree)


def _result(two: Any, three: Any, read: set[int]) -> _Result:
    if not isinstance(two, Tensor):
        return _Result(two)
    grows = tuple(first != second for first, second in zip(two.shape, three.shape, strict=True))
    for first, second, growing in zip(two.shape, three.shape, grows, strict=True):
        if growing and first * _RECORDED[1] != second * _RECORDED[0]:
            raise NotSplittable(
                f"a result before the first mask has size {first} for {_RECORDED[0]} rows and "
                f"{second} for {_RECORDED[1]}"
            )
    order = tuple(
        sorted(range(two.dim()), key=lambda dimension: (two.stride(dimension), -dimension))
    )
    if not two.dim():
        return _Result(two)
    kept = two if two.untyped_storage().data_ptr() in read else None
    result = _Result((kept, two.dtype, two.device), tuple(two.shape), grows, order)
    if kept is not None and not all(
        _alike(result.rows(rows), seen) for rows, seen in zip(_RECORDED, (two, three), strict=True)
    ):
        raise NotSplittable(
            "a result before the first mask differs between rows of the same target"
        )
    return result


def _alike(made: Tensor, seen: Tensor) -> bool:
    """Whether two results are the same, up to rounding."""
    if not seen.is_floating_point():
        return torch.equal(made, seen)
    bound = _ROUNDING.get(seen.dtype, 0.05) * max(1.0, float(seen.abs().nan_to_num(0, 0, 0).max()))
    return torch.allclose(made, seen, rtol=0, atol=bound, equal_nan=True)
