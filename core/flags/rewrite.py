"""Data sets of each form, cleansed by a plan (`turnover.flags.plan`) and restored by an undo file.

- `TextFile`: CSV, TSV or JSONL. Unchanged records keep their bytes.
- `ImageFolder`: a folder with one folder of images per class; cleansed into a copy.
- `ParquetFile`: texts or images. Its bytes do not follow from its rows, so the undo file holds the
  whole original.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from turnover.data.images import MAX_BYTES
from turnover.data.tables.cells import image_paths
from turnover.data.tables.checks import check_column, listed
from turnover.data.tables.columns import TEXTS, named_like
from turnover.data.tables.formats import (
    cells_of,
    files_in,
    image_bytes,
    inside,
    is_binary,
    parquet_table,
)
from turnover.data.tables.records import FORMS, dialect_of, utf8
from turnover.errors import TurnoverError
from turnover.flags.flag_file import file_hash, text_hash
from turnover.flags.plan import Changes
from turnover.runs.run import sha256
from turnover.storage.atomic import disk_error, replace_folder

# CSV, TSV and JSONL files


class TextFile:
    """The rows of a file of texts; see `turnover.flags.plan.Source`.

    Args:
        content: of the file.
        name: for error messages.
        form: the end of its name, `.csv`, `.tsv` or `.jsonl`.
        hashes: of the flag file's texts.
        column: that holds the texts, or paths of images; if it is None, the one that holds most of
            the texts, else one with a usual name.
        shape: of the images as a model sees them, whose paths begin at the file's folder; () for
            texts.

    Raises:
        TurnoverError: if the file cannot be read, or no column holds texts.
    """

    def __init__(
        self,
        content: bytes,
        name: str,
        form: str,
        hashes: Collection[str],
        column: str | None = None,
        shape: tuple[int, ...] = (),
    ) -> None:
        self.name, self._shape, self._folder = name, shape, Path(name).parent
        text = utf8(content, name)
        self.form = dialect_of(form, text)
        self._form = FORMS[self.form]
        self._records = self._form.split(text, name)
        self.columns: dict[str, Sequence[Any]] = dict(self._records.columns)
        self._contents = self.columns[
            (
                image_column(self.columns, name, column)
                if shape
                else text_column(self.columns, set(hashes), name, column)
            )
        ]

    def place(self, row: int) -> str:
        """Name of a row; rows count from 1, without the header."""
        return f"row {row + 1}"

    def digest(self, row: int) -> str:
        """The hash of a row's text or image; "" if it has none."""
        cell = self._contents[row]
        if not self._shape:
            return _hash(cell)
        try:
            return _file_hash(inside(self._folder, cell), self._shape)
        except (OSError, ValueError, TypeError):
            return ""

    def cleansed(self, plan: Changes, label: str) -> tuple[bytes, list[dict[str, Any]]]:
        """The file with the plan applied, and each changed row before (`was`) and after (`now`).

        Raises:
            TurnoverError: if a label cannot be written into a row.
        """
        records, changes, names = [self._records.head], list[dict[str, Any]](), list(self.columns)
        for row, record in enumerate(self._records.rows):
            if row in plan.dropped:
                changes.append({"row": row + 1, "was": record})
                continue
            if row in plan.relabelled:
                try:
                    now = self._form.changed(record, names, label, plan.relabelled[row])
                except TurnoverError as error:
                    raise TurnoverError(f"{self.name}, {self.place(row)}: {error}") from None
                changes.append({"row": row + 1, "was": record, "now": now})
                record = now
            records.append(record)
        return "".join(records).encode(), changes


def restored(content: bytes, name: str, form: str, changes: Iterable[bytes]) -> bytes:
    """The file as it was before `cleansed`; `changes` are lines of JSON.

    Raises:
        TurnoverError: if the changes do not match the file.
    """
    records = FORMS[form].split(utf8(content, name), name)
    rows, left = [records.head], iter(records.rows)
    try:
        for line in changes:
            change = json.loads(line)
            while len(rows) < change["row"]:
                rows.append(next(left))
            if "now" in change and next(left) != change["now"]:
                raise ValueError
            rows.append(change["was"])
        return "".join([*rows, *left]).encode()
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError):
        raise TurnoverError(
            f"{name}: the undo file does not go with it; give the file that was written beside it"
        ) from None


def text_column(
    columns: dict[str, Sequence[Any]], hashes: set[str], name: str, named: str | None
) -> str:
    """Which column holds the texts.

    Raises:
        TurnoverError: if there is none, or none of the name that was given.
    """
    if named is not None:
        check_column(named, columns, name, "name one of these")
        return named
    matches = {
        column: sum(_hash(cell) in hashes for cell in cells) for column, cells in columns.items()
    }
    best = max(matches, key=matches.__getitem__, default="")
    column = best if matches.get(best) else named_like(columns, TEXTS) or ""
    if not column:
        raise TurnoverError(
            f"{name}: no column holds the texts of the flag file (there are: {listed(columns)}); "
            "name it with --text-column"
        )
    return column


def image_column(columns: dict[str, Sequence[Any]], name: str, named: str | None) -> str:
    """Which column holds paths of images.

    Raises:
        TurnoverError: if there is none, or none of the name that was given.
    """
    if named is not None:
        check_column(named, columns, name, "name one of these")
        return named
    for column, cells in columns.items():
        if image_paths(cells):
            return column
    raise TurnoverError(
        f"{name}: the flag file is about images, and no column holds paths of image files; give the"
        " file or folder that holds them"
    )


def _hash(cell: Any) -> str:
    return text_hash(cell) if isinstance(cell, str) else ""


def _file_hash(path: Path, shape: tuple[int, ...]) -> str:
    """`file_hash` of a file; "" for one too large to be read."""
    large = path.stat().st_size > MAX_BYTES
    return "" if large else file_hash(str(path), path.read_bytes(), shape)


# Folders of images

LABEL = "label"
"""The column of `ImageFolder` that holds the names of the folders."""


class ImageFolder:
    """The files in the folders of a folder; see `turnover.flags.plan.Source`. An id may be a
    file's path, its name, or its name without the end.

    Raises:
        TurnoverError: if the folder has no folders with files, has links in it, or cannot be read.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self.name, self._folder, self._shape = str(folder), folder, shape
        self.paths = [path for path in files_in(folder, hidden=False) if len(path.parts) > 1]
        if not self.paths:
            raise TurnoverError(
                f"{folder}: no folders with images in it; name the folder that holds one folder a "
                "class"
            )
        names = {
            "path": [str(path) for path in self.paths],
            "name": [path.name for path in self.paths],
            "stem": [path.stem for path in self.paths],
        }
        self.columns: dict[str, Sequence[Any]] = {
            **names,
            LABEL: [path.parts[0] for path in self.paths],
        }
        self._known: dict[int, str] = {}

    def place(self, row: int) -> str:
        """The path of a file in the folder."""
        return str(self.paths[row])

    def digest(self, row: int) -> str:
        """The hash of an image as a model sees it."""
        if row not in self._known:
            self._known[row] = _file_hash(self._folder / self.paths[row], self._shape)
        return self._known[row]

    def moves(self, plan: Changes) -> dict[PurePosixPath, PurePosixPath | None]:
        """New path of each changed file: in its new class's folder, or None if dropped."""
        taken = {*self.paths}
        where: dict[PurePosixPath, PurePosixPath | None] = {
            self.paths[row]: None for row in plan.dropped
        }
        for row, label in plan.relabelled.items():
            path = self.paths[row]
            new_path = _free(PurePosixPath(label, *path.parts[1:]), path.parts[0], taken)
            taken.add(new_path)
            where[path] = new_path
        return where


def folders_in(folder: Path) -> list[PurePosixPath]:
    """All folders below a folder, as paths relative to it."""
    return [
        PurePosixPath(path.relative_to(folder).as_posix())
        for path in sorted(folder.rglob("*"))
        if path.is_dir()
    ]


def folder_hash(folder: Path) -> str:
    """SHA-256 over all folders below a folder, and the paths and contents of all files."""
    digest = hashlib.sha256(
        "".join(f"{path}/\n" for path in folders_in(folder)).encode("utf-8", "surrogateescape")
    )
    for path in files_in(folder):
        digest.update(f"{path}\0{sha256(folder / path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def changes_of(
    folder: Path, moves: dict[PurePosixPath, PurePosixPath | None]
) -> list[dict[str, Any]]:
    """Undo records of a cleansing: new folders, and for each changed file its old path with its new
    path, or with its content.
    """
    existing = {*folders_in(folder)}
    new_folders = {
        parent
        for now in moves.values()
        if now
        for parent in now.parents
        if parent.parts and parent not in existing
    }
    return [{"made": str(path)} for path in sorted(new_folders)] + [
        (
            {"was": str(path), "now": str(now)}
            if now
            else {
                "was": str(path),
                "content": base64.b64encode((folder / path).read_bytes()).decode("ascii"),
            }
        )
        for path, now in sorted(moves.items())
    ]


def copy_cleansed(
    folder: Path,
    out: Path,
    moves: dict[PurePosixPath, PurePosixPath | None],
    finish: Callable[[Path], None],
) -> None:
    """Write a copy of a folder with files moved and dropped; complete or not at all. `finish` sees
    it before it is renamed into place.
    """
    _copy(folder, out, folders_in(folder), lambda path: moves.get(path, path), finish)


def copy_restored(folder: Path, out: Path, changes: Iterable[bytes], expected: str) -> None:
    """Write a copy of a cleansed folder as it was before; `changes` are lines of JSON, `expected`
    is the original's hash.

    Raises:
        TurnoverError: if the changes do not match the folder, or the copy cannot be written.
    """
    folders, back = folders_in(folder), dict[PurePosixPath, PurePosixPath]()
    dropped: list[tuple[PurePosixPath, bytes]] = []
    try:
        for line in changes:
            change = json.loads(line)
            if "made" in change:
                folders.remove(_inside(change["made"]))
            elif "content" in change:
                dropped.append(
                    (_inside(change["was"]), base64.b64decode(change["content"], validate=True))
                )
            else:
                back[_inside(change["now"])] = _inside(change["was"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _foreign(folder) from None

    def add(beside: Path) -> None:
        for path, content in dropped:
            (beside / path).parent.mkdir(parents=True, exist_ok=True)
            (beside / path).write_bytes(content)
        if folder_hash(beside) != expected:
            raise _foreign(folder)

    _copy(folder, out, folders, lambda path: back.get(path, path), add)


def _copy(
    folder: Path,
    out: Path,
    folders: Iterable[PurePosixPath],
    destination: Callable[[PurePosixPath], PurePosixPath | None],
    finish: Callable[[Path], None],
) -> None:
    """Copy these folders, and each file to its `destination` or not at all, into a work directory
    beside `out`, which is renamed after `finish`.
    """
    beside = out.with_name(f".{out.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        for inner in folders:
            (beside / inner).mkdir(parents=True, exist_ok=True)
        for path in files_in(folder):
            new_path = destination(path)
            if new_path is not None:
                (beside / new_path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(folder / path, beside / new_path)
        finish(beside)
        replace_folder(beside, out)
    except OSError as error:
        raise disk_error(out, error) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _free(path: PurePosixPath, origin: str, taken: set[PurePosixPath]) -> PurePosixPath:
    """The path itself or, if taken, one that names the folder of origin."""
    number, free = 1, path
    while free in taken:
        free = path.with_name(
            f"{path.stem}-from-{origin}{'' if number == 1 else f'-{number}'}{path.suffix}"
        )
        number += 1
    return free


def _foreign(folder: Path) -> TurnoverError:
    return TurnoverError(
        f"{folder}: the undo file does not go with it, or is damaged; give what was written "
        "beside it"
    )


def _inside(text: str) -> PurePosixPath:
    """A path that stays in its folder.

    Raises:
        ValueError: if it does not.
    """
    path = PurePosixPath(text)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in text:
        raise ValueError(text)
    return path


# Parquet files

_IMAGES = ("image", "img")


class ParquetFile:
    """The rows of a parquet file; see `turnover.flags.plan.Source`.

    Args:
        content: of the file.
        name: what to call it in errors.
        hashes: of the flag file's texts or images.
        shape: of the images as a model sees them; () for texts.
        column: of texts or images, inferred if None. Images are bytes, or a struct with `bytes`, as
            the hub has them.

    Raises:
        TurnoverError: if the file cannot be read, or no column holds texts or images.
    """

    def __init__(
        self,
        content: bytes,
        name: str,
        hashes: Collection[str],
        shape: tuple[int, ...],
        column: str | None = None,
    ) -> None:
        self.name, self._shape = name, shape
        self._table = parquet_table(content, name)
        binary = [field.name for field in self._table.schema if is_binary(field.type)]
        plain = [
            field.name
            for field in self._table.schema
            if field.name not in binary and not pa.types.is_nested(field.type)
        ]
        self.columns: dict[str, Sequence[Any]] = {
            column: cells_of(self._table, column, name) for column in plain
        }
        if shape:
            chosen = column or next(
                (candidate for candidate in (*_IMAGES, *binary) if candidate in binary), None
            )
            if chosen not in binary:
                raise TurnoverError(
                    f"{name}: no column holds images (there are: "
                    f"{listed(self._table.column_names)}); name it with --text-column"
                )
        else:
            chosen = text_column(self.columns, set(hashes), name, column)
        self._contents = self._table.column(chosen)
        self._known: dict[int, str] = {}

    def place(self, row: int) -> str:
        """Name of a row; rows count from 1."""
        return f"row {row + 1}"

    def digest(self, row: int) -> str:
        """The hash of a row's text or image."""
        if row not in self._known:
            cell = self._contents[row].as_py()
            if self._shape:
                content = image_bytes(cell)
                self._known[row] = (
                    file_hash(f"{self.name}, {self.place(row)}", content, self._shape)
                    if content
                    else ""
                )
            else:
                self._known[row] = _hash(cell)
        return self._known[row]

    def cleansed(self, plan: Changes, label: str) -> bytes:
        """The file with the plan applied; schema and metadata stay."""
        table = self._table
        if plan.relabelled:
            cells = [plan.relabelled.get(row, cell) for row, cell in enumerate(self.columns[label])]
            field = table.schema.field(label)
            values = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            column = pa.array(cells, values)
            table = table.set_column(
                table.schema.get_field_index(label),
                field,
                column.cast(field.type) if values is not field.type else column,
            )
        rows = np.setdiff1d(np.arange(table.num_rows), sorted(plan.dropped))
        written = io.BytesIO()
        pq.write_table(table.take(pa.array(rows)) if plan.dropped else table, written)
        return written.getvalue()
