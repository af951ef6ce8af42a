"""Labels in one normal form, and notes on labels and texts that may not be what they seem."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
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


_NUMBER = re.compile(r"-?\d*\.?\d+(e-?\d+)?", re.IGNORECASE)
_STEPS = 10
_LIST = re.compile(r"[\[({].*\S[\s,;].*\S.*[\])}]|[01]([\s,;|][01])+", re.DOTALL)
_BETWEEN = ";|,/+"
_SELDOM_IN_NAMES = ";|"


def no_classes(labels: Collection[str]) -> str:
    """What the different labels of a column are, if they are not classes; "" if they may be.

    Numbers with fractions, other than halves, are measured from eleven on. Several labels in a cell
    are a list, or names that stand in other cells alone, or in other company and number.
    """
    if len(labels) > _STEPS and all(map(_NUMBER.fullmatch, labels)):
        if any(2 * float(label) % 1 for label in labels):
            return (
                f"{len(labels):,} different numbers such as {max(labels, key=len):.20}, as if "
                "measured, where classes are learned and no regression; make classes of ranges, or "
                "names of the numbers"
            )
        return ""
    lists = [label for label in labels if label[:1] in tuple("[({01") and label[-1:] in "])}01"]
    several = [label for label in lists if _LIST.fullmatch(label) and label.count("1") != 1]
    if 2 * len(lists) <= len(labels) or not several:
        several = next(filter(None, (_combined(labels, mark) for mark in _BETWEEN)), [])
    if not several:
        return ""
    return (
        f"cells such as {min(several, key=len)!r:.60} hold several labels, where an item has one; "
        "write one into each row, or make a run of each label with yes and no"
    )


def _combined(labels: Collection[str], mark: str) -> list[str]:
    """The labels that put others together with a mark; [] where these are names with such a mark,
    or levels of a hierarchy.
    """
    parts = {label: [*map(str.strip, label.split(mark))] for label in labels}
    known = Counter(part for each in parts.values() for part in {*each})
    found = [
        label
        for label, each in parts.items()
        if len(each) > 1 and all(each) and all(known[part] > 1 for part in each)
    ]
    joined = sum(len(each) > 1 for each in parts.values())
    alike = len({len(each) for each in parts.values()}) == 1
    least = 1 if mark in _SELDOM_IN_NAMES else 2
    return [] if alike or len(found) < least or 2 * len(found) <= joined else found


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
