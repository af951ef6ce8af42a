"""A parquet file of texts or images: cleansed by a plan. Its bytes cannot be told from its rows, so the undo file keeps it whole."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from turnover.data.arrow import cells_of, image_bytes, is_binary, parquet_table
from turnover.errors import TurnoverError
from turnover.patch.content import file_hash, text_hash
from turnover.patch.plan import Plan
from turnover.patch.tables import text_column

_IMAGES = ("image", "img")


class ParquetFile:
    """The rows of a parquet file; see `turnover.patch.plan.Source`.

    Args:
        content: of the file.
        name: what to call it in errors.
        hashes: of the texts or images that a patch is about.
        shape: of the images as a model sees them; () for texts.
        column: that holds texts or images, guessed if it is None. Images are bytes, or a struct with `bytes`, as the hub has them.

    Raises:
        TurnoverError: if the file cannot be read, or no column holds texts or images.
    """

    def __init__(self, content: bytes, name: str, hashes: Collection[str], shape: tuple[int, ...], column: str | None = None) -> None:
        self.name, self._shape = name, shape
        self._table = parquet_table(content, name)
        binary = [field.name for field in self._table.schema if is_binary(field.type)]
        plain = [field.name for field in self._table.schema if field.name not in binary and not pa.types.is_nested(field.type)]
        self.columns: dict[str, Sequence[Any]] = {column: cells_of(self._table, column, name) for column in plain}
        if shape:
            chosen = column or next((one for one in (*_IMAGES, *binary) if one in binary), None)
            if chosen not in binary:
                raise TurnoverError(f"{name}: no column holds images (there are: {', '.join(self._table.column_names)}); name it with --text-column")
        else:
            chosen = text_column(self.columns, set(hashes), name, column)
        self._contents = self._table.column(chosen)
        self._known: dict[int, str] = {}

    def place(self, row: int) -> str:
        """What to call a row; rows count from 1."""
        return f"row {row + 1}"

    def digest(self, row: int) -> str:
        """The hash of a row's text or image."""
        if row not in self._known:
            cell = self._contents[row].as_py()
            if self._shape:
                content = image_bytes(cell)
                self._known[row] = file_hash(f"{self.name}, {self.place(row)}", content, self._shape) if content else ""
            else:
                self._known[row] = text_hash(cell) if isinstance(cell, str) else ""
        return self._known[row]

    def cleansed(self, plan: Plan, label: str) -> bytes:
        """The file with a plan carried out; schema and metadata stay."""
        table = self._table
        if plan.relabelled:
            cells = [plan.relabelled.get(row, cell) for row, cell in enumerate(self.columns[label])]
            field = table.schema.field(label)
            values = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            column = pa.array(cells, values)
            table = table.set_column(table.schema.get_field_index(label), field, column.cast(field.type) if values is not field.type else column)
        kept = np.setdiff1d(np.arange(table.num_rows), sorted(plan.dropped))
        written = io.BytesIO()
        pq.write_table(table.take(pa.array(kept)) if plan.dropped else table, written)
        return written.getvalue()
