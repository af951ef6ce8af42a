"""A user's images in one form: RGB, all of one size, as `turnover.data.images.fit_image` makes every later image that is asked about."""

from __future__ import annotations

from collections import Counter

import numpy as np

from turnover.data.images import fit_image, image_size, open_image
from turnover.data.own.rows import Lost, Rows, image_file
from turnover.data.own.wish import SMALLEST
from turnover.errors import TurnoverError
from turnover.progress import bar

_KEPT, _USUAL = 64, 32
"""Images whose usual sides are at most `_KEPT` keep their size; larger ones get sides of `_USUAL`."""


def usual_size(rows: Rows, side: int | None) -> tuple[tuple[int, int], list[str]]:
    """Height and width that images get, and what that does to them, in lines; `side` is the user's wish."""
    found = Counter(_sizes(rows))
    if not found:
        return (_USUAL, _USUAL), []
    (height, width), most = found.most_common(1)[0]
    shape = (side, side) if side else (height, width) if min(height, width) >= SMALLEST and max(height, width) <= _KEPT else (_USUAL, _USUAL)
    others = found.total() - found[shape]
    if not others:
        return shape, []
    usual = "all" if most == found.total() else "most of the"
    reason = "as --size says" if side else "choose another with --size"
    sizes = f"{usual} {found.total():,} images are {width} x {height} pixels"
    return shape, [f"{sizes}; {others:,} are scaled and cropped to {shape[1]} x {shape[0]}; {reason}"]


def _sizes(rows: Rows) -> list[tuple[int, int]]:
    """Height and width of every image that can be read."""
    found = []
    for row in list(rows.kept):
        try:
            size = image_size(image_file(rows.table, rows.columns.content, row))
        except Lost:
            continue
        found += [size] if size else []
    return found


def pixels_of(rows: Rows, shape: tuple[int, int]) -> np.ndarray:
    """The images of the rows that are kept, uint8 `(N, H, W, 3)`; those that cannot be read are left out, here and in `rows`.

    Raises:
        TurnoverError: as `Rows.lose`.
    """
    made, kept = list[np.ndarray](), list[int]()
    with bar(len(rows.kept), f"{rows.table.stem}: images", "images") as advance:
        for row in rows.kept:
            advance(1)
            try:
                made.append(_fitted(rows, row, shape))
                kept.append(row)
            except Lost as error:
                rows.lose(row, str(error))
    rows.kept = kept
    return np.stack(made) if made else np.empty((0, *shape, 3), np.uint8)


def _fitted(rows: Rows, row: int, shape: tuple[int, int]) -> np.ndarray:
    content = image_file(rows.table, rows.columns.content, row)
    try:
        image = open_image(content, "", colour=True)
    except TurnoverError as error:
        raise Lost(str(error).removeprefix(": ").partition(";")[0]) from None
    return np.asarray(image) if image.size == shape[::-1] else fit_image(image, *shape)
