"""Files and folders of a user as tables: CSV, TSV, JSONL, parquet, and folders with one folder of images a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from turnover.data.arrow import cells_of, class_names, image_bytes, is_binary, parquet_table
from turnover.data.folders import files_in
from turnover.data.own.table import Table
from turnover.data.records import FORMS, utf8
from turnover.data.tables import unreadable
from turnover.errors import TurnoverError

PARQUET = ".parquet"
ENDINGS = (*FORMS, PARQUET)
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
IMAGE, LABEL, ID = "image", "label", "id"
"""Columns of a folder's table."""
_SPLITS = frozenset(("train", "training", "val", "valid", "validation", "dev", "test", "testing"))


def read_own(path: Path) -> Table:
    """The table in a file or a folder.

    Raises:
        TurnoverError: if it cannot be used; the text names file, row or line, and remedy.
    """
    if path.is_dir():
        return _folder(path)
    if path.exists() and path.suffix.lower() not in ENDINGS:
        raise TurnoverError(f"{path}: neither a folder nor a file that ends with {', '.join(ENDINGS)}; convert or rename it")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    if not content.strip():
        raise TurnoverError(f"{path}: the file is empty; add rows")
    is_parquet = path.suffix.lower() == PARQUET
    table = arrow_table(parquet_table(content, str(path)), str(path), path.stem) if is_parquet else _text_table(content, path)
    if not len(table):
        raise TurnoverError(f"{path}: no rows; add some")
    return table


def arrow_table(table: pa.Table, name: str, stem: str) -> Table:
    """An Arrow table, whose images are read when they are needed."""
    binary = frozenset(column.name for column in table.schema if is_binary(column.type))
    plain = [column.name for column in table.schema if column.name not in binary and not pa.types.is_nested(column.type)]
    columns: dict[str, Sequence[Any]] = {column: cells_of(table, column, name) for column in plain}
    columns |= {column: _Images(table.column(column)) for column in sorted(binary)}
    return Table(name, stem, columns, binary, class_names(table.schema))


class _Images(Sequence[Any]):
    """A column of image files."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: Any) -> Any:
        return image_bytes(self._column[row].as_py())


def _text_table(content: bytes, path: Path) -> Table:
    text = utf8(content, str(path))
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise TurnoverError(f"{path}, line {line}: a null byte; save the file as UTF-8 text")
    columns = FORMS[path.suffix.lower()].split(text, str(path)).columns
    other = next((mark for mark in (";", "\t", "|", ",") if len(columns) == 1 and mark in next(iter(columns))), None)
    if other:
        raise TurnoverError(f"{path}: one column only; CSV has commas between fields and TSV tabs, not {other!r}; rename or convert the file")
    return Table(str(path), path.stem, columns, folder=path.parent)


def _folder(folder: Path) -> Table:
    """Images in folders; an id is a file's path, as `turnover apply` knows it."""
    found = files_in(folder)
    inside = [path for path in found if len(path.parts) > 1]
    images = [path for path in inside if path.suffix.lower() in IMAGE_ENDINGS]
    classes = {path.parts[0] for path in images}
    if not images:
        raise TurnoverError(f"{folder}: no folders with images in it; name the folder that holds one folder of images a class")
    if len(classes) > 1 and {name.lower() for name in classes} <= _SPLITS:
        names = " and ".join(sorted(classes)[:3])
        raise TurnoverError(f"{folder}: its folders {names} are splits, not classes; name them with --train and --validation")
    known = {*images}
    columns = {IMAGE: [str(path) for path in images], LABEL: [path.parts[0] for path in images], ID: [str(path) for path in images]}
    stray = [str(path) for path in found if path not in known and not _hidden(path)]
    return Table(str(folder), folder.name, columns, folder=folder, places=columns[ID], stray=stray)


def _hidden(path: PurePosixPath) -> bool:
    """Whether it is a file that systems leave behind."""
    return path.name.startswith(".") or path.name in ("Thumbs.db", "desktop.ini")
