"""Ids, labels, texts, images and class names as notebooks hold them, in the one form of `Items`.

What has one meaning is accepted: any sequence, array, Series or tensor; whole numbers of any type;
names as labels; images with channels first or last, of floats in [0, 1] or numbers up to 255, or
as Pillow opens them. Anything else is refused in one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np

from turnover.attribution.forms import array_of, column_of, each_of, whole_numbers
from turnover.errors import TurnoverError

_NUMBER = re.compile(r"-?[0-9]{1,18}")


def _listed(values: Any, where: str) -> list[Any]:
    """The values of a sequence as Python has them; texts never as one array, which would give each
    the length of the longest.
    """
    unordered = isinstance(values, str | bytes | Mapping | Set)
    if unordered or not isinstance(values, Iterable) or getattr(values, "ndim", 1) != 1:
        raise TurnoverError(f"{where}: a {type(values).__name__}; give a list with one an item")
    if isinstance(values, list):
        return values
    plain = values.tolist() if hasattr(values, "tolist") else list(values)
    return plain if isinstance(plain, list) else [plain]


def _string(value: Any) -> str | None:
    """A text that a file can hold; None for anything else."""
    if not isinstance(value, str) or "\0" in value:
        return None
    if not value.isascii():
        value.encode()
    return str(value)


def texts_of(values: Any) -> list[str]:
    """Texts, checked one by one.

    Raises:
        TurnoverError: for anything that is not a text, such as a pair or a missing value.
    """
    remedy = "is not a text; give one string an item (of pairs, join both), without null bytes"
    return each_of(_listed(values, "texts"), "texts", _string, remedy)


def ids_of(values: Any, count: int) -> list[str]:
    """Ids as strings; None numbers the items from 0.

    Raises:
        TurnoverError: for a missing or empty one, or one that is neither a name nor a number.
    """
    if values is None:
        return [str(row) for row in range(count)]
    return each_of(_listed(values, "ids"), "ids", _name, "is no id; give every item one")


def _name(value: Any) -> str | None:
    """A name; numbers are their digits, whole floats those of integers."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        value = int(value) if value == int(value) else value
    if isinstance(value, int | float):
        return str(value)
    return _string(value) if isinstance(value, str) and value.strip() else None


def labels_of(values: Any, where: str = "labels") -> np.ndarray:
    """Class numbers int64 `(N,)`, or names as an array of objects, which a `Dataset` numbers.

    Raises:
        TurnoverError: for values that are neither.
    """
    column = column_of(values, where)
    cells = column.tolist() if column.dtype.kind in "OUT" else []
    if any(isinstance(cell, str) for cell in cells):
        names = each_of(
            cells,
            where,
            lambda cell: _name(cell) if isinstance(cell, str) else None,
            "is not the name of a class, as others are; give every item a name, or a number",
        )
        return np.array(names, object)
    return whole_numbers(column, where)


def class_names(names: Any, labels: np.ndarray) -> tuple[str, ...]:
    """Names of the classes in the order of their numbers.

    Args:
        names: a sequence; a mapping of numbers to names or back; how many there are; or None, for
            the labels that occur, `in_order`.
        labels: of the training items.

    Raises:
        TurnoverError: for names that repeat, are empty, or leave a number out.
    """
    if names is None and labels.dtype == object:
        names = in_order(labels.tolist())
    elif names is None or isinstance(names, int | np.integer):
        names = range(int(labels.max(initial=0)) + 1 if names is None else names)
        names = [*map(str, names)]
    elif isinstance(names, Mapping):
        numbered = {str(key): value for key, value in names.items()}
        if not {*map(str, range(len(numbered)))} <= {*numbered}:
            numbered = {str(number): name for name, number in names.items()}
        try:
            names = [numbered[str(number)] for number in range(len(names))]
        except KeyError as missing:
            raise TurnoverError(
                f"classes: nothing is named number {missing.args[0]}; number them from 0"
            ) from None
    remedy = "is no name of a class; give every class one"
    listed = each_of(_listed(names, "classes"), "classes", _name, remedy)
    if again := [name for row, name in enumerate(listed) if name in listed[:row]]:
        raise TurnoverError(f"classes: {again[0]!r} is there twice; give every class its own name")
    return tuple(listed)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The different names: numbers in numerical order, others alphabetically."""
    found = sorted({*names})
    return tuple(sorted(found, key=int if all(map(_NUMBER.fullmatch, found)) else str))


def by_value(names: Any) -> bool:
    """Whether classes are given by whole numbers, which labels then are: of 3 and 7, label 7 is the
    second.
    """
    if names is None or isinstance(names, int | np.integer | Mapping):
        return False
    return all(
        isinstance(name, int | np.integer) and not isinstance(name, bool)
        for name in _listed(names, "classes")
    )


def numbered(
    labels: np.ndarray, classes: tuple[str, ...], where: str, named: bool = False
) -> np.ndarray:
    """Labels as class numbers; numbers are names of classes where these are `named` by numbers.

    Raises:
        TurnoverError: for one that is no class's.
    """
    shown = ", ".join(f"{name:.20}" for name in classes[:5]) + (" …" if len(classes) > 5 else "")
    remedy = f"is none of the {len(classes)} classes ({shown}), numbered from 0; correct it"
    if named and labels.dtype != object and classes != tuple(map(str, range(len(classes)))):
        labels = labels.astype(str).astype(object)
    if labels.dtype == object:
        numbers = {name: number for number, name in enumerate(classes)}
        if not any(map(_NUMBER.fullmatch, classes)):
            numbers |= {str(number): number for number in range(len(classes))}
        return np.array(each_of(labels, where, numbers.get, remedy), np.int64)
    if len(wrong := np.flatnonzero((labels < 0) | (labels >= len(classes)))):
        raise TurnoverError(f"{where}: row {wrong[0] + 1}, {labels[wrong[0]]}, {remedy}")
    return labels


# Images

_FORM = "(N, height, width) grey or (N, height, width, 3)"


def images_of(values: Any) -> np.ndarray:
    """Images uint8, `(N, H, W)` grey or `(N, H, W, 3)` RGB.

    Raises:
        TurnoverError: for another shape, or levels that are neither in [0, 1] nor from 0 to 255.
    """
    if str(getattr(values, "dtype", "")) == "object":
        values = list(values)
    if isinstance(values, list | tuple) and any(hasattr(image, "getbands") for image in values):
        values = _opened(values)
    pixels = array_of(values, "images")
    if pixels.dtype.kind not in "iufb":
        raise TurnoverError(
            f"images: a {type(values).__name__} of {pixels.dtype}, not pixels; open the files first"
        )
    if pixels.ndim == 4 and pixels.shape[3] not in (1, 3) and pixels.shape[1] in (1, 3):
        pixels = pixels.transpose(0, 2, 3, 1)
    if pixels.ndim == 4 and pixels.shape[3] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim != 3 and (pixels.ndim != 4 or pixels.shape[3] != 3):
        raise TurnoverError(
            f"images: of shape {pixels.shape}, not {_FORM}; bring all to one size, without an "
            "alpha channel"
        )
    return pixels if pixels.dtype == np.uint8 else _levels(pixels)


def _opened(images: Iterable[Any]) -> list[np.ndarray]:
    """Images of Pillow as arrays, all in colour if one is."""
    from turnover.data.images import reduced

    pictures = list(images)
    if not all(hasattr(image, "getbands") for image in pictures):
        raise TurnoverError("images: some are Pillow's and some are not; give all in one form")
    colour = any(len({*image.getbands()} - {"A"}) > 1 or image.mode == "P" for image in pictures)
    return [np.asarray(reduced(image, colour)) for image in pictures]


def _levels(pixels: np.ndarray) -> np.ndarray:
    """Levels of another type as uint8: fractions of white, or numbers from 0 to 255."""
    low, high = (float(pixels.min(initial=0)), float(pixels.max(initial=0)))
    if not (low >= 0 and high <= 255):
        raise TurnoverError(
            f"images: levels from {low:g} to {high:g}, where 0 to 1 or 0 to 255 are meant; undo "
            "what was done to them for the model, such as (x + 1) / 2"
        )
    if pixels.dtype.kind in "fb" and high <= 1:
        pixels = pixels.astype(np.float32) * 255
    return np.rint(pixels).astype(np.uint8)
