"""Tables of Arrow: parquet files, and what `datasets` holds; images in them are bytes, or a struct with `bytes` as the hub has them."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from turnover.errors import TurnoverError


def parquet_table(content: bytes, name: str) -> pa.Table:
    """The table in a parquet file's content; `name` is what to call it.

    Raises:
        TurnoverError: if it is no whole parquet file.
    """
    try:
        table = pq.read_table(pa.BufferReader(content))
        _ = table.column_names  # which may be no UTF-8
        return table
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise TurnoverError(f"{name}: not a readable parquet file ({reason}); write it again") from None


def cells_of(table: pa.Table, column: str, name: str) -> list[Any]:
    """The cells of a column as Python has them.

    Raises:
        TurnoverError: if it cannot have them, such as text that is not UTF-8.
    """
    try:
        return table.column(column).to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TurnoverError(f"{name}, column {column}: cannot be read ({reason:.80}); write or leave it out") from None


def is_binary(kind: pa.DataType) -> bool:
    """Whether a column holds images."""
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and is_binary(kind.field(place).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def image_bytes(cell: Any) -> bytes | None:
    """The image file in a cell; None if there is none."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return content if isinstance(content, bytes) else None


def class_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Names of the classes of columns that number them, as `datasets` writes them beside a table; {} where nothing is said."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        labels = {str(column): one["names"] for column, one in features.items() if isinstance(one, dict) and one.get("_type") == "ClassLabel"}
        return {column: tuple(map(str, names)) for column, names in labels.items()}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
