"""Files and folders of a user as tables: CSV, TSV, JSONL, parquet, and folders of images.

In Arrow tables (parquet files, and what `datasets` holds) images are bytes, or a struct with
`bytes` as on the hub. A folder of images has one folder per class.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from turnover.data.images import FORMATS
from turnover.data.tables.checks import unreadable
from turnover.data.tables.records import CSV, DIALECTS, FORMS, JSONL, TSV, dialect_of, utf8
from turnover.data.tables.spec import Table
from turnover.errors import TurnoverError

# Arrow tables


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


def cells_of(table: pa.Table, column: str, name: str) -> list[Any]:
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


def is_binary(kind: pa.DataType) -> bool:
    """Whether a column holds images."""
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and is_binary(kind.field(index).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def image_bytes(cell: Any) -> bytes | None:
    """The image file in a cell; None if there is none."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return content if isinstance(content, bytes) else None


def class_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
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


# Files and folders

PARQUET = ".parquet"
ENDINGS = (CSV, TSV, JSONL, PARQUET)
IMAGE_ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)
IMAGE, LABEL, ID = "image", "label", "id"
"""Columns of a folder's table."""
_SYSTEM = frozenset(("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))
_SPLITS = frozenset(("train", "training", "val", "valid", "validation", "dev", "test", "testing"))


def files_in(folder: Path, hidden: bool = True) -> list[PurePosixPath]:
    """All files below a folder, or those that are not hidden, as paths relative to it.

    Raises:
        TurnoverError: if it cannot be read, or contains a link, which a copy would not keep.
    """
    try:
        paths = [
            path
            for path in sorted(folder.rglob("*"))
            if hidden or not is_hidden(path.relative_to(folder))
        ]
    except OSError as error:
        raise unreadable(folder, error) from None
    for path in paths:
        if path.is_symlink():
            raise TurnoverError(f"{path}: a link; put the file itself there")
    return [PurePosixPath(path.relative_to(folder).as_posix()) for path in paths if path.is_file()]


def inside(folder: Path, path: str) -> Path:
    """The file that a path in a table names, relative to the table's folder.

    Raises:
        ValueError: if it leads out of the folder or over a link.
    """
    file = Path(folder, path)
    if file.resolve() != folder.resolve() / file.relative_to(folder):
        raise ValueError(path)
    return file


def read_own(path: Path) -> Table:
    """The table in a file or a folder.

    Raises:
        TurnoverError: if it cannot be used; the text names file, row or line, and remedy.
    """
    if path.is_dir():
        return _folder(path)
    if path.exists() and path.suffix.lower() not in ENDINGS:
        raise TurnoverError(
            f"{path}: neither a folder nor a file that ends with {', '.join(ENDINGS)}; convert or "
            "rename it"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    if not content.strip():
        raise TurnoverError(f"{path}: the file is empty; add rows")
    is_parquet = path.suffix.lower() == PARQUET
    table = (
        arrow_table(parquet_table(content, str(path)), str(path), path.stem)
        if is_parquet
        else _text_table(content, path)
    )
    if not len(table) and not table.nested:
        raise TurnoverError(f"{path}: no rows; add some")
    return table


def arrow_table(table: pa.Table, name: str, stem: str) -> Table:
    """A `Table` from an Arrow table; images are read on demand."""
    binary = frozenset(column.name for column in table.schema if is_binary(column.type))
    nested = {
        column.name: str(column.type)
        for column in table.schema
        if column.name not in binary and pa.types.is_nested(column.type)
    }
    columns: dict[str, Sequence[Any]] = {
        column: cells_of(table, column, name)
        for column in table.column_names
        if column not in binary and column not in nested
    }
    columns |= {column: _Images(table.column(column)) for column in sorted(binary)}
    return Table(name, stem, columns, binary, class_names(table.schema), nested=nested)


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
    form = dialect_of(path.suffix.lower(), text)
    columns = FORMS[form].split(text, str(path)).columns
    nested = {column: kind for column, cells in columns.items() if (kind := _nested(cells))}
    return Table(
        str(path),
        path.stem,
        {column: cells for column, cells in columns.items() if column not in nested},
        folder=path.parent,
        nested=nested,
        notes=(f"{path}: {DIALECTS[form]}",) if form in DIALECTS else (),
    )


def _nested(cells: Sequence[Any]) -> str:
    """What a column of JSON holds, if it is nothing but lists or objects; else ""."""
    filled = [cell for cell in cells if cell not in (None, "")]
    nested = bool(filled) and all(isinstance(cell, list | dict) for cell in filled)
    return ("objects" if isinstance(filled[0], dict) else "lists") if nested else ""


def _folder(folder: Path) -> Table:
    """Images in folders; an id is a file's path, which `turnover apply` uses."""
    paths = files_in(folder, hidden=False)
    images = [
        path for path in paths if len(path.parts) > 1 and path.suffix.lower() in IMAGE_ENDINGS
    ]
    classes = {path.parts[0] for path in images}
    if not images:
        raise TurnoverError(
            f"{folder}: no folders with images in it; name the folder that holds one folder of "
            "images a class"
        )
    if len(classes) > 1 and {name.lower() for name in classes} <= _SPLITS:
        names = " and ".join(sorted(classes)[:3])
        raise TurnoverError(
            f"{folder}: its folders {names} are splits, not classes; name them with --train and "
            "--validation"
        )
    known = {*images}
    columns = {
        IMAGE: [str(path) for path in images],
        LABEL: [path.parts[0] for path in images],
        ID: [str(path) for path in images],
    }
    for place in sorted(folder.iterdir()):
        if (
            place.is_dir()
            and place.name not in classes
            and not is_hidden(place.relative_to(folder))
        ):
            raise TurnoverError(
                f"{place}: a class's folder without an image that can be read (files that end with "
                f"{', '.join(IMAGE_ENDINGS)}); convert its images, or move the folder elsewhere"
            )
    stray = [path for path in paths if path not in known]
    return Table(
        str(folder),
        folder.name,
        columns,
        folder=folder,
        places=columns[ID],
        stray=[*map(str, stray)],
        unread=[
            str(path)
            for path in stray
            if len(path.parts) > 1 or path.suffix.lower() in IMAGE_ENDINGS
        ],
    )


def is_hidden(path: PurePath) -> bool:
    """Whether a file or a folder above it is hidden, or made by an operating system."""
    return any(part.startswith(".") or part.lower() in _SYSTEM for part in path.parts)
