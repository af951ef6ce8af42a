"""Labels in one normal form, and notes on labels and texts that may not be what they seem."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]{0,14}))\.0+")
_ENDS = re.compile(r"^[\s\u200b-\u200f\u2060\ufeff]+|[\s\u200b-\u200f\u2060\ufeff]+$")
"""Blanks and marks without width around a name."""
_MARKS = re.compile(
    r"-?nan|n\.?/?a\.?|#n/?a|<na>|nat|null|none|nil|missing|undefined|unlabell?ed|\?|--?",
    re.IGNORECASE,
)
"""How pandas, spreadsheets and programs write that there is no value."""
_FEW = 0.1
_NAMED = 3


def label_name(cell: Any) -> str:
    """The class name in a cell, in one normal form: composed characters, no blanks around it, and
    a whole float as its integer, since pandas makes floats of integers beside empty cells.
    """
    text = _ENDS.sub("", unicodedata.normalize("NFC", str(cell)))
    whole = _WHOLE.fullmatch(text)
    return str(int(whole[1])) if whole else text


def joined(cells: Mapping[int, Any], labels: Mapping[int, str]) -> str:
    """Which cells are written differently and are one label, by row; "" if none are."""
    spellings: dict[str, set[str]] = {}
    for row, label in labels.items():
        spellings.setdefault(label, set()).add(str(cells[row]))
    several = [
        f"{' and '.join(map(_shown, sorted(names)))} are one label, {label:.40}"
        for label, names in sorted(spellings.items())
        if len(names) > 1
    ]
    more = ["and so on"] if len(several) > _NAMED else []
    return "; ".join([*several[:_NAMED], *more])


def _shown(name: str) -> str:
    """A label as it is written; escaped where it would look like another one."""
    return f"{name if name.isascii() and name == name.strip() else ascii(name):.40}"


def few_marks(cells: Mapping[int, Any], names: bool) -> dict[str, list[int]]:
    """Rows of the cells that read like marks of a missing value, by what is written there.

    Marks in more than a tenth of the rows are meant; as `names` of classes also those in more than
    half as many as the average class has.
    """
    rows: dict[str, list[int]] = {}
    for row, cell in cells.items():
        rows.setdefault(str(cell), []).append(row)
    most = _FEW * len(cells)
    if names and rows:
        most = min(most, len(cells) / len(rows) / 2)
    return {
        text: found
        for text, found in rows.items()
        if _MARKS.fullmatch(text.strip()) and len(found) <= most
    }
