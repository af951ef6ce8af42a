"""Files of a user as tables: CSV, TSV, JSONL and parquet; see also `folders` and `hub`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from turnover.data.base import Origin
from turnover.data.tables.arrow import PARQUET, arrow_table, parquet_table
from turnover.data.tables.checks import read_bytes, utf8
from turnover.data.tables.folders import folder_table
from turnover.data.tables.records import CSV, JSONL, MEANINGS, TSV, dialect_of, read_records
from turnover.data.tables.table import Table
from turnover.errors import TurnoverError

ENDINGS = (CSV, TSV, JSONL, PARQUET)


def read_own(path: Path) -> Table:
    """The table in a file or a folder.

    Raises:
        TurnoverError: if it cannot be used; the text names file, row or line, and remedy.
    """
    if path.is_dir():
        return folder_table(path)
    if path.exists() and path.suffix.lower() not in ENDINGS:
        raise TurnoverError(
            f"{path}: neither a folder nor a file that ends with {', '.join(ENDINGS)}; convert or "
            "rename it"
        )
    return table_in(read_bytes(path), path)


def table_in(content: bytes, path: Path) -> Table:
    """The table in a file's content; the form follows from the path, which is its name in errors,
    and is CSV where that has no other end. Errors as `read_own`.
    """
    if not content.strip():
        raise TurnoverError(f"{path}: the file is empty; add rows")
    origin = Origin(str(path.absolute()), hashlib.sha256(content).hexdigest(), len(content))
    if path.suffix.lower() == PARQUET:
        table = arrow_table(parquet_table(content, str(path)), str(path), path.stem, origin)
    else:
        table = _text_table(content, path, origin)
    if not len(table) and not table.nested:
        raise TurnoverError(f"{path}: no rows; add some")
    return table


def _text_table(content: bytes, path: Path, origin: Origin) -> Table:
    text = utf8(content, path)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise TurnoverError(f"{path}, line {line}: a null byte; save the file as UTF-8 text")
    ending = path.suffix.lower() if path.suffix.lower() in ENDINGS else CSV
    records = read_records(text, str(path), dialect_of(ending, text))
    nested = {column: kind for column, cells in records.columns.items() if (kind := _nested(cells))}
    return Table(
        str(path),
        path.stem,
        {column: cells for column, cells in records.columns.items() if column not in nested},
        records,
        ending,
        origin,
        folder=path.parent,
        nested=nested,
        notes=(f"{path}: {MEANINGS[records.form]}",) if records.form in MEANINGS else (),
    )


def _nested(cells: Sequence[Any]) -> str:
    """What a column of JSON holds, if it is nothing but lists or objects; else ""."""
    filled = [cell for cell in cells if cell not in (None, "")]
    nested = bool(filled) and all(isinstance(cell, list | dict) for cell in filled)
    return ("objects" if isinstance(filled[0], dict) else "lists") if nested else ""
