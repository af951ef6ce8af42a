"""A CSV, TSV or JSONL file: cleansed by a plan, and restored from what the undo file says."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from turnover.data.folders import inside
from turnover.data.images import MAX_BYTES
from turnover.data.own.columns import TEXTS, image_paths, named_like
from turnover.data.records import FORMS, utf8
from turnover.errors import TurnoverError
from turnover.patch.content import file_hash, text_hash
from turnover.patch.plan import Plan


class TextFile:
    """The rows of a file of texts; see `turnover.patch.plan.Source`.

    Args:
        content: of the file.
        name: what to call it in errors.
        form: the end of its name, `.csv`, `.tsv` or `.jsonl`.
        hashes: of the texts that a patch is about.
        column: that holds the texts, or paths of images; if it is None, the one that holds most of the texts, else one with a usual name.
        shape: of the images as a model sees them, whose paths begin at the file's folder; () for texts.

    Raises:
        TurnoverError: if the file cannot be read, or no column holds texts.
    """

    def __init__(self, content: bytes, name: str, form: str, hashes: Collection[str], column: str | None = None, shape: tuple[int, ...] = ()) -> None:
        self.name, self._form, self._shape, self._folder = name, FORMS[form], shape, Path(name).parent
        self._records = self._form.split(utf8(content, name), name)
        self.columns: dict[str, Sequence[Any]] = dict(self._records.columns)
        self._contents = self.columns[image_column(self.columns, name, column) if shape else text_column(self.columns, set(hashes), name, column)]

    def place(self, row: int) -> str:
        """What to call a row; rows count from 1, the header left out."""
        return f"row {row + 1}"

    def digest(self, row: int) -> str:
        """The hash of a row's text or image; "" for what is none."""
        cell = self._contents[row]
        if not self._shape:
            return _hash(cell)
        try:
            path = inside(self._folder, cell)
            large = path.stat().st_size > MAX_BYTES
            return "" if large else file_hash(str(path), path.read_bytes(), self._shape)
        except (OSError, ValueError, TypeError):
            return ""

    def cleansed(self, plan: Plan, label: str) -> tuple[bytes, list[dict[str, Any]]]:
        """The file with a plan carried out, and for each row that was changed what it was (`was`) and became (`now`).

        Raises:
            TurnoverError: if a label cannot be written into a row.
        """
        kept, changes, names = [self._records.head], list[dict[str, Any]](), list(self.columns)
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
            kept.append(record)
        return "".join(kept).encode(), changes


def restored(content: bytes, name: str, form: str, changes: Iterable[bytes]) -> bytes:
    """The file as it was before `cleansed`; `changes` are lines of JSON.

    Raises:
        TurnoverError: if the changes do not go with the file.
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
        raise TurnoverError(f"{name}: the undo file does not go with it; give the file that was written beside it") from None


def text_column(columns: dict[str, Sequence[Any]], hashes: set[str], name: str, named: str | None) -> str:
    """Which column holds the texts.

    Raises:
        TurnoverError: if there is none, or none of the name that was given.
    """
    if named is not None and named not in columns:
        raise TurnoverError(f"{name}: no column {named!r} (there are: {', '.join(columns)}); name one of these")
    if named is not None:
        return named
    found = {column: sum(_hash(cell) in hashes for cell in cells) for column, cells in columns.items()}
    best = max(found, key=found.__getitem__, default="")
    column = best if found.get(best) else named_like(columns, TEXTS) or ""
    if not column:
        raise TurnoverError(f"{name}: no column holds the texts of the patch (there are: {', '.join(columns)}); name it with --text-column")
    return column


def image_column(columns: dict[str, Sequence[Any]], name: str, named: str | None) -> str:
    """Which column holds paths of images.

    Raises:
        TurnoverError: if there is none, or none of the name that was given.
    """
    if named is not None and named not in columns:
        raise TurnoverError(f"{name}: no column {named!r} (there are: {', '.join(columns)}); name one of these")
    column = named or next((one for one, cells in columns.items() if image_paths(cells)), None)
    if column is None:
        raise TurnoverError(f"{name}: the patch is about images, and no column holds paths of image files; give the file or folder that holds them")
    return column


def _hash(cell: Any) -> str:
    return text_hash(cell) if isinstance(cell, str) else ""
