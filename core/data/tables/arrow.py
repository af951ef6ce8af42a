"""Arrow tables: parquet files, and what `datasets` holds of the hub.

Images are bytes, or a struct with `bytes` as on the hub; they are read on demand.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from turnover.data.base import Origin
from turnover.data.tables.table import Table
from turnover.errors import TurnoverError
from turnover.storage.atomic import write_atomic

PARQUET = ".parquet"


@dataclass(frozen=True)
class _Rows:
    """An Arrow table, written as a parquet file with its schema and metadata."""

    table: pa.Table

    def write(
        self, out: Path, dropped: Collection[int], labels: Mapping[int, Any], column: str
    ) -> None:
        """Write a copy; see `turnover.data.tables.table.Form`."""
        table = self.table
        if labels:
            cells = table.column(column).to_pylist()
            for row, label in labels.items():
                cells[row] = label
            field = table.schema.field(column)
            values = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            index = table.schema.get_field_index(column)
            table = table.set_column(index, field, pa.array(cells, values).cast(field.type))
        if dropped:
            table = table.take(pa.array(np.setdiff1d(np.arange(len(table)), sorted(dropped))))
        write_atomic(out, lambda beside: pq.write_table(table, beside))


def parquet_table(content: bytes, name: str) -> pa.Table:
    """The table in a parquet file's content; `name` is its name in errors.

    Raises:
        TurnoverError: if it is not a whole parquet file.
    """
    try:
        table = pq.read_table(pa.BufferReader(content))
        _ = table.column_names  # which may not be UTF-8
        return table
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise TurnoverError(
            f"{name}: not a readable parquet file ({reason}); write it again"
        ) from None


def _cells_of(table: pa.Table, column: str, name: str) -> list[Any]:
    """The cells of a column as Python objects.

    Raises:
        TurnoverError: if they cannot be converted, such as text that is not UTF-8.
    """
    try:
        return table.column(column).to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TurnoverError(
            f"{name}, column {column}: cannot be read ({reason:.80}); write or leave it out"
        ) from None


def _is_binary(kind: pa.DataType) -> bool:
    """Whether a column holds images."""
    if pa.types.is_struct(kind) and (index := kind.get_field_index("bytes")) >= 0:
        kind = kind.field(index).type
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _class_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Class names of columns with class numbers, from the metadata that `datasets` writes; {} if
    there are none.
    """
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        labels = {
            str(column): feature["names"]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
        return {column: tuple(map(str, names)) for column, names in labels.items()}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def arrow_table(table: pa.Table, name: str, stem: str, origin: Origin) -> Table:
    """A `Table` from an Arrow table; images are read on demand."""
    binary = frozenset(column.name for column in table.schema if _is_binary(column.type))
    nested = {
        column.name: str(column.type)
        for column in table.schema
        if column.name not in binary and pa.types.is_nested(column.type)
    }
    columns: dict[str, Sequence[Any]] = {
        column: _cells_of(table, column, name)
        for column in table.column_names
        if column not in binary and column not in nested
    }
    columns |= {column: _Images(table.column(column)) for column in sorted(binary)}
    classes = _class_names(table.schema)
    return Table(name, stem, columns, _Rows(table), PARQUET, origin, binary, classes, nested=nested)


class _Images(Sequence[Any]):
    """A column of image files."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: Any) -> Any:
        cell = self._column[row].as_py()
        return cell.get("bytes") if isinstance(cell, dict) else cell
