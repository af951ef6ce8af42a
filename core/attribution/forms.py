"""What notebooks hold, as arrays: lists, Series, NumPy arrays, tensors of any type or device.

Needs no torch, since the pages read items by the same rules. A `where` names the values in errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from turnover.errors import TurnoverError

T = TypeVar("T")


def array_of(values: Any, where: str) -> np.ndarray:
    """Values as an array of at least one dimension, in this machine's byte order.

    Raises:
        TurnoverError: if they have no regular shape, or are no sequence at all.
    """
    try:
        if isinstance(values, list | tuple) and any(hasattr(value, "detach") for value in values):
            values = [_numpy(value) for value in values]
        array = np.asarray(_numpy(values))
        if not array.ndim:
            raise ValueError("not a sequence")
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise TurnoverError(
            f"{where}: a {type(values).__name__} cannot be read as an array "
            f"({' '.join(str(error).split())[:100]}); give a list, array or tensor of one shape"
        ) from None


def _numpy(values: Any) -> Any:
    """A tensor's values in memory, which NumPy can read; other values unchanged."""
    if not hasattr(values, "detach"):
        return values
    plain = values.detach().cpu()
    return (plain.float() if str(plain.dtype) == "torch.bfloat16" else plain).numpy()


def column_of(values: Any, where: str) -> np.ndarray:
    """Values as an array `(N,)`; a single column is one too.

    Raises:
        TurnoverError: as `array_of`, or for values of another shape.
    """
    array = array_of(values, where)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise TurnoverError(
            f"{where}: of shape {array.shape}, one value an item is meant; of one-hot or score "
            "rows, .argmax(1)"
        )
    return array


def whole_numbers(values: Any, where: str) -> np.ndarray:
    """Whole numbers int64 `(N,)`; floats count if they are whole, and booleans are 0 and 1.

    Raises:
        TurnoverError: as `column_of`, or for a value that is not a whole number; the text names its
            row.
    """
    column = column_of(values, where)
    if column.dtype.kind in "iub" and column.dtype != np.uint64:
        return column.astype(np.int64, copy=False)
    return np.array(
        each_of(column, where, _whole, "is not a whole number; number classes from 0"), np.int64
    )


def _whole(value: Any) -> int | None:
    known = isinstance(value, int | float) or hasattr(value, "item")
    return int(value) if known and int(value) == value and abs(value) < 2**63 else None


def each_of(
    column: np.ndarray | list[Any], where: str, read: Callable[[Any], T | None], remedy: str
) -> list[T]:
    """What `read` makes of each value.

    Raises:
        TurnoverError: for the first value of which it makes None, or fails; `remedy` follows it.
    """
    made = []
    for row, value in enumerate(column if isinstance(column, list) else column.tolist()):
        try:
            result = read(value)
        except (TypeError, ValueError, OverflowError):
            result = None
        if result is None:
            shown = " ".join(repr(value).split())
            raise TurnoverError(f"{where}: row {row + 1}, {shown:.40}, {remedy}")
        made.append(result)
    return made
