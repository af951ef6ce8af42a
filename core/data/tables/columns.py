"""Which columns are used: as the user names them, or inferred from names and contents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnover.data.tables.checks import check_column, listed
from turnover.data.tables.formats import IMAGE_ENDINGS
from turnover.data.tables.spec import OwnData, Table
from turnover.errors import TurnoverError

TEXTS = (
    "text",
    "sentence",
    "review",
    "content",
    "comment",
    "message",
    "body",
    "document",
    "question",
    "headline",
    "title",
)
LABELS = ("label", "labels", "class", "target", "sentiment", "category", "topic", "intent", "y")
IMAGES = ("image", "img", "picture", "bytes", "path", "file_name", "filename", "file")
IDS = ("id", "index", "idx", "uid", "guid", "item_id", "", "unnamed: 0", "__index_level_0__")
_LOOKED_AT = 200
"""Cells that are inspected to infer a column."""


@dataclass(frozen=True)
class Columns:
    """The columns that are used, with notes on how they were chosen; `id` is None where rows are
    numbered.
    """

    kind: str
    content: str
    label: str
    id: str | None
    notes: tuple[str, ...]


def named_like(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """The column with the first of these names, ignoring case."""
    by_name = {column.strip().lower(): column for column in reversed(list(columns))}
    return next((by_name[name] for name in names if name in by_name), None)


def image_paths(cells: Sequence[Any]) -> bool:
    """Whether a column holds paths of image files."""
    sample = [cell for cell in cells[:_LOOKED_AT] if cell not in (None, "")]
    return bool(sample) and all(
        isinstance(cell, str) and cell.lower().endswith(IMAGE_ENDINGS) for cell in sample
    )


def find_columns(table: Table, spec: OwnData) -> Columns:
    """The columns of a table.

    Raises:
        TurnoverError: if a named column does not exist, or a needed one cannot be inferred.
    """
    for column in filter(
        None, (spec.text_column, spec.image_column, spec.label_column, spec.id_column)
    ):
        check_column(column, table.columns, table.name, "name one of these")
    if table.places:
        return Columns("image", "image", "label", "id", ())
    label = spec.label_column or named_like(
        (name for name in table.columns if name not in table.binary), LABELS
    )
    kind, content = _content(table, spec, label)
    label = label or _only_candidate(table, content, spec.id_column)
    if label is None:
        raise TurnoverError(
            f"{table.name}: which column holds the labels? (there are: {listed(table.columns)}); "
            "name it with --label-column"
        )
    if label == content:
        raise TurnoverError(
            f"{table.name}: the column {label!r} cannot hold both the labels and the {kind}s; name "
            f"them with --label-column, --{kind}-column"
        )
    name = spec.id_column or _infer_id(table, {label, content})
    notes = [_note("id", name, spec.id_column)] if name else []
    if name is None and (seen := named_like(table.columns, IDS)) and seen not in (label, content):
        notes = [f"rows are numbered, since column {seen} has no id of its own for each"]
    named = spec.text_column or spec.image_column
    notes = [_note(kind, content, named), _note("label", label, spec.label_column), *notes]
    guessed = any("(inferred)" in note for note in notes)
    return Columns(
        kind,
        content,
        label,
        name,
        (
            (
                f"{table.name}: "
                f"{', '.join(notes)}{'; where that is wrong, name the column' if guessed else ''}"
            ),
        ),
    )


def _note(what: str, column: str, named: str | None) -> str:
    return (
        f"{what} from "
        f"{f'column {column}' if column.strip() else 'the column without a name'}"
        f"{'' if named else ' (inferred)'}"
    )


def _content(table: Table, spec: OwnData, label: str | None) -> tuple[str, str]:
    """`text` or `image`, and the column that holds them."""
    if spec.text_column:
        return "text", spec.text_column
    if spec.image_column:
        if spec.image_column not in table.binary and not (
            table.folder and image_paths(table.columns[spec.image_column])
        ):
            raise TurnoverError(
                f"{table.name}, column {spec.image_column}: neither image files nor paths of "
                f"{', '.join(IMAGE_ENDINGS)} files; name another"
            )
        return "image", spec.image_column
    if table.binary:
        return "image", named_like(sorted(table.binary), IMAGES) or min(table.binary)
    paths = [
        name
        for name in table.columns
        if name.strip().lower() in IMAGES and name != label and _lead_to_images(table, name)
    ]
    if paths:
        return "image", paths[0]
    others = {
        name: length
        for name in table.columns
        if name not in (label, spec.id_column) and (length := _length(table.columns[name]))
    }
    column = named_like(others, TEXTS) or max(others, key=others.__getitem__, default=None)
    if column is None:
        raise TurnoverError(
            f"{table.name}: no column holds texts or images (there are: {listed(table.columns)}); "
            "name it with --text-column or --image-column"
        )
    return "text", column


def _lead_to_images(table: Table, column: str) -> bool:
    """Whether a column holds paths of image files, the first of which exists."""
    if table.folder is None or not image_paths(table.columns[column]):
        return False
    first = next(cell for cell in table.columns[column] if cell not in (None, ""))
    return Path(table.folder, first).is_file()


def _length(cells: Sequence[Any]) -> float:
    """Mean length of a column's texts; 0 if it holds anything else."""
    sample = [cell for cell in cells[:_LOOKED_AT] if cell is not None]
    return (
        sum(map(len, sample)) / len(sample)
        if sample and all(isinstance(cell, str) for cell in sample)
        else 0
    )


def _only_candidate(table: Table, content: str, id: str | None) -> str | None:
    """The column of the labels where only one column can be."""
    others = [
        name
        for name in table.columns
        if name not in (content, id)
        and name.strip().lower() not in IDS
        and name not in table.binary
    ]
    return others[0] if len(others) == 1 else None


def has_ids(table: Table, column: str) -> bool:
    """Whether a column exists and has a different id for each row."""
    cells = [
        str(cell)
        for cell in table.columns.get(column, ())
        if isinstance(cell, str | int) and str(cell).strip()
    ]
    return len(cells) == len({*cells}) == len(table)


def _infer_id(table: Table, taken: set[str]) -> str | None:
    """A column with an id for each row, inferred from its name and its cells."""
    column = named_like((name for name in table.columns if name not in table.binary), IDS)
    return column if column is not None and column not in taken and has_ids(table, column) else None
