"""A table: cells by column for reading, and its form for writing it back with rows dropped and
labels changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from turnover.data.base import Origin


class Form(Protocol):
    """What a table was read from, as it was written."""

    def write(
        self, out: Path, dropped: Collection[int], labels: Mapping[int, Any], column: str
    ) -> None:
        """Write a copy without the rows in `dropped`, and with `labels`, by row, in the cells of
        `column`; whole or not at all.

        Raises:
            TurnoverError: if it cannot be written; the text names the place and says why.
        """


@dataclass(frozen=True)
class Table:
    """Cells by column, and where they come from.

    Attributes:
        name: its name in errors: the path, or the hub's name and the split.
        stem: prefix of the ids of numbered rows.
        columns: all of the same length; missing cells are None or "".
        form: what it was read from, which writes it back.
        ending: of the name of a file that it is written to; "" for a folder.
        origin: what a run remembers of it, without rows and columns.
        binary: the columns whose cells are image files.
        classes: class names of columns with class numbers.
        folder: the base of relative image paths; None where cells are not paths.
        places: each row's name in errors; empty for `row 1` and so on.
        stray: files in a folder that are not items.
        unread: those among them that count as rows that cannot be used.
        nested: what the cells of columns are that hold lists or objects and so cannot be used.
        notes: how the file was read, where there was a choice.
    """

    name: str
    stem: str
    columns: Mapping[str, Sequence[Any]]
    form: Form
    ending: str
    origin: Origin
    binary: frozenset[str] = frozenset()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    folder: Path | None = None
    places: Sequence[str] = ()
    stray: Sequence[str] = ()
    unread: Sequence[str] = ()
    nested: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def place(self, row: int) -> str:
        """The name of a row in the table; rows count from 1, without the header."""
        return self.places[row] if self.places else f"row {row + 1}"

    def where(self, row: int, column: str | None = None) -> str:
        """The name of a row, or a cell, in an error."""
        if self.places:
            return f"{self.name}/{self.places[row]}"
        return f"{self.name}, {self.place(row)}" + (f", column {column}" if column else "")
