"""Tables of data sets whose columns are known, checked row by row.

`read_labelled_texts` is what most sources need: a file with one text and one label per row.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from turnover.data.base import Items
from turnover.data.tables.checks import check_column, check_text
from turnover.data.tables.formats import read_own
from turnover.data.tables.table import Table
from turnover.errors import TurnoverError


def read_table(path: Path, columns: tuple[str, ...]) -> Table:
    """The table in a file, with at least `columns`.

    Raises:
        TurnoverError: for a file that cannot be read, or a missing column.
    """
    table = read_own(path)
    for column in columns:
        check_column(column, table.columns, path)
    return table


def text_column(table: Table, column: str) -> list[str]:
    """The texts of a table, each checked."""
    return [
        check_text(str(cell), table.where(row, column))
        for row, cell in enumerate(table.columns[column])
    ]


def label_column(table: Table, column: str, classes: tuple[str, ...]) -> np.ndarray:
    """The labels of a table as class numbers.

    Raises:
        TurnoverError: for a label that is not one of `classes`.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    cells = table.columns[column]
    for row, cell in enumerate(cells):
        if cell not in numbers:
            raise TurnoverError(
                f"{table.where(row, column)}: the label {cell!r} is not one of "
                f"{', '.join(classes)}; correct it"
            )
    return np.array([numbers[cell] for cell in cells], np.int64)


def read_labelled_texts(path: Path, classes: tuple[str, ...]) -> Items:
    """A table with columns `text` (or `sentence`) and `label`, a class number from 0; other columns
    are ignored.

    Raises:
        TurnoverError: for a table, text or label that cannot be used.
    """
    table = read_table(path, ("label",))
    column = "text" if "text" in table.columns else "sentence"
    check_column(column, table.columns, path)
    rows = np.arange(len(table))
    return Items(
        [f"{path.stem}-{row}" for row in rows],
        label_column(table, "label", tuple(map(str, range(len(classes))))),
        texts=text_column(table, column),
        origin=replace(table.origin, content=column, label="label", rows=rows),
    )
