"""A table as it was read, whatever it was read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """Cells by column, and where they come from.

    Attributes:
        name: what errors call it: the path, or the hub's name and the split.
        stem: what the ids of numbered rows begin with.
        columns: all of the same length; missing cells are None or "".
        binary: the columns whose cells are image files.
        classes: names of the classes of columns that number them.
        folder: that relative paths of images begin at; None where cells are no paths.
        places: what to call each row; empty for `row 1` and so on.
        stray: files that are no items, of folders.
    """

    name: str
    stem: str
    columns: Mapping[str, Sequence[Any]]
    binary: frozenset[str] = frozenset()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    folder: Path | None = None
    places: Sequence[str] = ()
    stray: Sequence[str] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def where(self, row: int, column: str | None = None) -> str:
        """What to call a row, or a cell, in an error; rows count from 1, the header left out."""
        if self.places:
            return f"{self.name}/{self.places[row]}"
        return f"{self.name}, row {row + 1}" + (f", column {column}" if column else "")

    @property
    def there(self) -> str:
        """The names of the columns, for an error."""
        return ", ".join(f"{name:.40}" for name in list(self.columns)[:20]) or "none"
