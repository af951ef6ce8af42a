"""What the cells of a column read like: texts, links, paths, names of image files, images."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from turnover.data.images import IMAGE_ENDINGS, image_size

_LOOKED_AT = 200
"""Cells that are inspected to infer a column."""
_LINK = re.compile(r"(\w+://|www\.)\S*|[^\s/\\]*[/\\]\S*")
_CODE = re.compile(r"[!-~]*(?:[\d_@]|\w\.\w)[!-~]*|[!-~]{25,}")
"""A number, a time, a name of a file, of a computer or of a user, a checksum: one ASCII word with
more than letters, or a very long one.
"""

_WORD = re.compile(r"[^\W\d_]+")
_OF_DATES = re.compile(
    r"jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|"
    r"nov(ember)?|dec(ember)?|(mon|tue|wed|thu|fri|sat|sun|tues|wednes|thurs|satur)(day)?|"
    r"st|nd|rd|th|of|the|at|[ap]m?|t|z|utc|gmt"
)
"""A word in a date."""


def image_paths(cells: Sequence[Any]) -> bool:
    """Whether most cells of a column are paths of image files."""
    return share(cells, _is_image_name) > 0.5


def _is_image_name(cell: Any) -> bool:
    return isinstance(cell, str) and cell.lower().endswith(IMAGE_ENDINGS)


def filled(cells: Sequence[Any]) -> Iterator[Any]:
    """The cells of a column's beginning that are not empty."""
    sample = (cells[row] for row in range(min(len(cells), _LOOKED_AT)))
    return (cell for cell in sample if cell not in (None, "", b""))


def share(cells: Sequence[Any], kind: Callable[[Any], bool]) -> float:
    """The share of a column's cells that are of a kind."""
    kinds = [kind(cell) for cell in filled(cells)]
    return sum(kinds) / len(kinds) if kinds else 0


def reads_like_text(cell: Any) -> bool:
    """Whether a cell has letters and is no link, path, code or date."""
    return (
        isinstance(cell, str)
        and any(map(str.isalpha, cell))
        and not is_link(cell)
        and not _CODE.fullmatch(cell)
        and not _is_date(cell)
    )


def _is_date(text: str) -> bool:
    return any(map(str.isdigit, text)) and all(
        map(_OF_DATES.fullmatch, _WORD.findall(text.lower()))
    )


def is_link(cell: Any) -> bool:
    """Whether a cell is a URL or a path with folders."""
    return isinstance(cell, str) and bool(_LINK.fullmatch(cell.strip()))


def is_path(cell: Any) -> bool:
    """Whether a cell is a path of a file, or the name of an image file."""
    return _is_image_name(cell) or (is_link(cell) and "://" not in cell)


def holds_images(cells: Sequence[Any]) -> bool:
    """Whether some cell of a binary column is an image file."""
    return any(image_size(cell) for cell in filled(cells))


def mean_length(cells: Sequence[Any]) -> float:
    """Mean length of the texts in a column."""
    sample = [len(cell) for cell in filled(cells) if isinstance(cell, str)]
    return sum(sample) / len(sample) if sample else 0
