"""Rows of a table, checked one by one, and their images in one form.

A few rows that cannot be used are skipped, with a note; many are an error to be corrected. Images
become RGB of one size, by `turnover.data.images.fit_image`, as does every later image to explain.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from turnover.data.images import MAX_BYTES, fit_image, image_size, open_image
from turnover.data.tables.checks import MAX_CHARACTERS, check_column, unreadable
from turnover.data.tables.columns import Columns
from turnover.data.tables.folders import inside
from turnover.data.tables.labels import label_name, no_classes
from turnover.data.tables.spec import SMALLEST
from turnover.data.tables.table import Table
from turnover.errors import TurnoverError, counted
from turnover.storage.progress import bar

MOST_LOST = 0.1
"""Largest share of a table's rows that may be skipped."""
TRUTH = "truth"
"""The column of the right labels, where the user knows that some are wrong."""
_MOST_CLASSES, _FEW_CLASSES = 1000, 20
_MOST_REASONS = 5


class Lost(Exception):
    """Why a row cannot be used, in words that follow its position."""


@dataclass
class Rows:
    """The rows of a table that can be used so far: their numbers from 0, and each one's label; and
    why others are skipped, by row.
    """

    table: Table
    columns: Columns
    kept: list[int] = field(default_factory=list)
    labels: dict[int, str] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)

    def lose(self, row: int, why: str) -> None:
        """Skip a row.

        Raises:
            TurnoverError: if too many rows are skipped.
        """
        self.lost[row] = why
        unread = len(self.table.unread)
        if len(self.lost) + unread > MOST_LOST * (len(self.table) + unread):
            first, columns = min(self.lost), self.columns
            column = columns.label if self.lost[first] == "no label" else columns.content
            raise TurnoverError(
                f"{self.table.where(first, column)}: {self.lost[first]}; more than a tenth of the "
                f"{len(self.table) + unread:,} rows cannot be used, so correct or remove them"
            )

    @property
    def notes(self) -> list[str]:
        """How many rows were skipped, by reason."""
        reasons: dict[str, list[int]] = {}
        for row, why in sorted(self.lost.items()):
            reasons.setdefault(why.partition(":")[0], []).append(row)
        unit = "file" if self.table.places else "row"
        lines = [
            f"{self.table.where(rows[0])}: {why}; {counted(len(rows), unit)} skipped for that"
            for why, rows in reasons.items()
        ]
        if others := lines[_MOST_REASONS:]:
            more = f"more {unit}s are skipped, for {len(others):,} other reasons"
            lines[_MOST_REASONS:] = [f"{self.table.name}: {more}"]
        return lines

    def ids(self) -> list[str]:
        """The ids of the rows in use: their cells, or numbers from 0, by which `turnover apply`
        finds rows.
        """
        if self.columns.id is None or self.columns.id not in self.table.columns:
            return [f"{self.table.stem}-{row}" for row in self.kept]
        ids, seen = [], dict[str, int]()
        for row in self.kept:
            cell = self.table.columns[self.columns.id][row]
            if not isinstance(cell, str | int) or not str(cell).strip():
                raise TurnoverError(
                    f"{self.table.where(row, self.columns.id)}: no id; give every row one, or leave"
                    " --id-column out"
                )
            first = seen.setdefault(str(cell), row)
            if first != row:
                raise TurnoverError(
                    f"{self.table.where(row, self.columns.id)}: the id {cell!r:.80} is that of row "
                    f"{first + 1}; make ids unique"
                )
            ids.append(str(cell))
        return ids


def usable_rows(table: Table, columns: Columns, names: Sequence[str] | None) -> Rows:
    """The rows with a text, or a cell for an image, and a label; `names` are those of numbered
    classes.

    Raises:
        TurnoverError: for a missing column, a cell of another kind, or too many rows that cannot be
            used.
    """
    for column in (columns.content, columns.label):
        remedy = "it needs those of the training items"
        check_column(column, table.columns, table.name, remedy, table.nested)
    _check_unread(table)
    rows, contents = Rows(table, columns), table.columns[columns.content]
    labels = table.columns[columns.label]
    for row in range(len(table)):
        try:
            if columns.kind == "text":
                _check_text(contents[row], table.where(row, columns.content))
            elif columns.content not in table.binary and not _is_filled(contents[row]):
                raise Lost("no image")
            where = table.where(row, columns.label)
            rows.labels[row] = _label(labels[row], where, names, whole=not table.places)
            rows.kept.append(row)
        except Lost as error:
            rows.lose(row, str(error))
    _check_classes(rows, names)
    return rows


def _check_unread(table: Table) -> None:
    """Check that the files of a folder are images in class folders.

    Raises:
        TurnoverError: if more than a tenth of them are not.
    """
    count = len(table) + len(table.unread)
    if len(table.unread) > MOST_LOST * count:
        raise TurnoverError(
            f"{table.name}/{table.unread[0]}: no image in a class's folder; more than a tenth of "
            f"the {count:,} files cannot be used, so convert or move them"
        )


def check_folders(rows: Rows) -> None:
    """Check that every class's folder has an image in use.

    Raises:
        TurnoverError: for one that has none.
    """
    folders = {rows.table.columns[rows.columns.label][row]: row for row in reversed(rows.lost)}
    kept = {rows.table.columns[rows.columns.label][row] for row in rows.kept}
    for folder, row in folders.items():
        if rows.table.places and folder not in kept:
            raise TurnoverError(
                f"{rows.table.where(row)}: {rows.lost[row]}, and no other image of its folder can "
                "be used; correct or remove the folder"
            )


def image_file(table: Table, column: str, row: int) -> bytes:
    """The image file of a row.

    Raises:
        TurnoverError: for a path that leads out of the table's folder or through a link.
        Lost: if there is no file.
    """
    cell = table.columns[column][row]
    if column in table.binary:
        if cell is None:
            raise Lost("no image")
        return bytes(cell)
    assert table.folder is not None
    try:
        path = inside(table.folder, cell)
    except ValueError:  # also for null bytes
        reason = f"{cell!r:.80} leads out of the folder of {table.name} or over a link"
        raise TurnoverError(
            f"{table.where(row, column)}: {reason}; put the image file there"
        ) from None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Lost(f"an image file of more than {MAX_BYTES // 2**20} MB")
        return path.read_bytes()
    except FileNotFoundError:
        raise Lost(f"no such image file: {path}") from None
    except OSError as error:
        raise unreadable(path, error) from None


def _is_filled(cell: Any) -> bool:
    return isinstance(cell, str) and bool(cell.strip())


def _check_text(cell: Any, where: str) -> None:
    if _is_missing(cell) or (isinstance(cell, str) and not cell.strip()):
        raise Lost("no text")
    if not isinstance(cell, str):
        raise TurnoverError(
            f"{where}: {cell!r:.40} is not a text; write it in quotes, or name the column of the "
            "texts with --text-column"
        )
    if "\0" in cell:
        raise TurnoverError(f"{where}: a null byte; remove it")
    if len(cell) > MAX_CHARACTERS:
        raise Lost(f"a text of more than {MAX_CHARACTERS:,} characters")
    if not _is_unicode(cell):
        raise Lost("half a character (a lone surrogate)")


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _label(cell: Any, where: str, names: Sequence[str] | None, whole: bool) -> str:
    """A label as a class name; `whole` floats are integers."""
    if _is_missing(cell) or (isinstance(cell, str) and not label_name(cell)):
        raise Lost("no label")
    if not isinstance(cell, str | int | float):
        raise TurnoverError(f"{where}: {cell!r:.40} is not a label; write a name or a number")
    label = str(cell)
    if "\0" in label or not _is_unicode(label):
        raise TurnoverError(
            f"{where}: the label {label!r:.40} holds a null byte or half a character; correct it"
        )
    if whole and label not in (names or ()):
        label = label_name(cell)
    if names is None or label in names:
        return label
    if label == "-1":  # the hub's mark for a hidden label
        raise Lost("no label")
    if not (label.isascii() and label.isdigit() and len(label) < 10 and int(label) < len(names)):
        raise TurnoverError(
            f"{where}: the label {label!r:.80} is not one of 0 to {len(names) - 1}, which have "
            "names; correct it"
        )
    return names[int(label)]


def right_labels(rows: Rows, names: Sequence[str] | None) -> dict[int, str]:
    """The labels that a column `truth` says are right, by row, where it is for nothing else and
    its cell is filled.

    Raises:
        TurnoverError: for a cell that is no label.
    """
    table, used = rows.table, (rows.columns.content, rows.columns.label, rows.columns.id)
    right = {}
    for row in rows.kept if TRUTH in table.columns and TRUTH not in used else ():
        with suppress(Lost):
            where = table.where(row, TRUTH)
            right[row] = _label(table.columns[TRUTH][row], where, names, whole=not table.places)
    return right


def _check_classes(rows: Rows, names: Sequence[str] | None) -> None:
    labels, where = {*rows.labels.values()}, f"{rows.table.name}, column {rows.columns.label}"
    if names is None and not rows.table.places and (why := no_classes(labels)):
        raise TurnoverError(f"{where}: {why}")
    count = len(labels)
    if names is None and (count > _MOST_CLASSES or count > max(_FEW_CLASSES, len(rows.kept) / 2)):
        raise TurnoverError(
            f"{where}: {count:,} different labels in {len(rows.kept):,} rows; is it the column of "
            "the labels? Name it with --label-column"
        )


# Images in one form

_KEPT, _USUAL = 64, 32
"""Images whose usual sides are at most `_KEPT` keep their size; larger ones get sides of `_USUAL`.
"""


def usual_size(rows: Rows, side: int | None) -> tuple[tuple[int, int], list[str]]:
    """Height and width for all images, and notes on that; `side` is the user's choice."""
    sizes = Counter(_sizes(rows))
    if not sizes:
        return (_USUAL, _USUAL), []
    (height, width), most = sizes.most_common(1)[0]
    fits = min(height, width) >= SMALLEST and max(height, width) <= _KEPT
    shape = (side, side) if side else (height, width) if fits else (_USUAL, _USUAL)
    others = sizes.total() - sizes[shape]
    if not others:
        return shape, []
    total = sizes.total()
    stated = f"{'all' if most == total else 'most of the'} {total:,} images are"
    if most <= total / 2:
        stated = f"the commonest size, {most:,} of {total:,} images, is"
    stated += f" {width} x {height} pixels"
    reason = "as --size says" if side else "choose another with --size"
    return shape, [
        f"{stated}; {others:,} are scaled and cropped to {shape[1]} x {shape[0]}; {reason}"
    ]


def _sizes(rows: Rows) -> list[tuple[int, int]]:
    """Height and width of every image that can be read."""
    sizes = []
    for row in rows.kept:
        try:
            size = image_size(image_file(rows.table, rows.columns.content, row))
        except Lost:
            continue
        sizes += [size] if size else []
    return sizes


def pixels_of(rows: Rows, shape: tuple[int, int]) -> np.ndarray:
    """The images of the rows in use, uint8 `(N, H, W, 3)`; those that cannot be read are skipped,
    here and in `rows`.

    Raises:
        TurnoverError: as `Rows.lose`.
    """
    images, read = list[np.ndarray](), list[int]()
    with bar(len(rows.kept), f"{rows.table.stem}: images", "images") as advance:
        for row in rows.kept:
            advance(1)
            try:
                images.append(_fitted(rows, row, shape))
                read.append(row)
            except Lost as error:
                rows.lose(row, str(error))
    rows.kept = read
    return np.stack(images) if images else np.empty((0, *shape, 3), np.uint8)


def _fitted(rows: Rows, row: int, shape: tuple[int, int]) -> np.ndarray:
    content = image_file(rows.table, rows.columns.content, row)
    try:
        image = open_image(content, "", colour=True)
    except TurnoverError as error:
        raise Lost(str(error).removeprefix(": ").partition(";")[0]) from None
    return fit_image(image, *shape)
