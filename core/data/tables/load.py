"""From the user's own data to a `Dataset`, with a share of the items split off for validation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from turnover.data.base import Dataset, Items, check_dataset
from turnover.data.forms import in_order
from turnover.data.tables.checks import read_class_names
from turnover.data.tables.columns import Columns, find_columns, has_ids
from turnover.data.tables.formats import ENDINGS, read_own
from turnover.data.tables.hub import read_hub
from turnover.data.tables.labels import few_marks, joined
from turnover.data.tables.rows import (
    TRUTH,
    Rows,
    check_folders,
    pixels_of,
    right_labels,
    usable_rows,
    usual_size,
)
from turnover.data.tables.spec import FILES, HUB, OwnData
from turnover.data.tables.table import Table
from turnover.errors import TurnoverError, counted
from turnover.storage.atomic import user_path

SHARE = 0.2
_NAMED, _LISTED = 3, 20


def load_own(data: str, spec: OwnData, seed: int) -> Dataset:
    """The data set that a user names, with notes on how it was read; `data` is that of the
    settings.

    Raises:
        TurnoverError: if it cannot be used; the text names file, row and column, if any.
    """
    spec.check(data)
    train, validation, test = _tables(data, spec)
    reader = _Reader(train, spec)
    training = reader.train
    if validation:
        validated, source = reader.items(validation), f"{train.name} and {validation.name}"
    else:
        training, validated = _split_training(reader, train.name, seed)
        source = train.name
    tested = reader.items(test) if test else None
    name = data.removeprefix(HUB) if data != FILES else Path(train.name).name
    return check_dataset(
        Dataset(
            name,
            source,
            reader.classes,
            training,
            validated,
            test=tested,
            notes=tuple(reader.notes),
        )
    )


def _tables(data: str, spec: OwnData) -> tuple[Table, Table | None, Table | None]:
    """The training table, and the validation and test tables if given."""
    if data != FILES:
        return *read_hub(data, spec), None
    paths = [user_path(name) if name else None for name in (spec.train, spec.validation, spec.test)]
    there = [path for path in paths if path is not None and path.exists()]
    for number, path in enumerate(there):
        if any(path.samefile(earlier) for earlier in there[:number]):
            raise TurnoverError(
                f"{path}: named twice; items to measure on must not be those that are trained on"
            )
    train, validation, test = (read_own(path) if path else None for path in paths)
    assert train is not None
    return train, validation, test


class _Reader:
    """Reads tables like the training table: the same columns, classes and image size."""

    def __init__(self, table: Table, spec: OwnData) -> None:
        self.columns, self._named_id = find_columns(table, spec), spec.id_column is not None
        named = table.classes.get(self.columns.label)
        self.names = _names_in(user_path(spec.classes)) if spec.classes else named
        self.notes = [*self.columns.notes]
        self.shape: tuple[int, int] | None = None
        rows = usable_rows(table, self.columns, self.names)
        if self.columns.kind == "image":
            self.shape, sized = usual_size(rows, spec.size)
            self.notes += sized
        elif spec.size is not None:
            raise TurnoverError(f"--size {spec.size}: {table.name} holds texts; leave --size out")
        contents = self._contents(rows)
        self.classes = (
            tuple(self.names) if self.names else in_order(rows.labels[row] for row in rows.kept)
        )
        self.train = self._items_of(rows, contents)

    def items(self, table: Table) -> Items:
        """The items of another table.

        Raises:
            TurnoverError: if it cannot be used, or has labels that the training items do not have.
        """
        rows = usable_rows(table, self._columns_for(table), self.names)
        return self._items_of(rows, self._contents(rows))

    def _columns_for(self, table: Table) -> Columns:
        """The training table's columns; inferred ids may be missing or repeat in another table."""
        known = self.columns.id is None or self._named_id or has_ids(table, self.columns.id)
        return self.columns if known else replace(self.columns, id=None)

    def _contents(self, rows: Rows) -> list[str] | np.ndarray:
        if self.shape is not None:
            images = pixels_of(rows, self.shape)
            check_folders(rows)
            return images
        return [rows.table.columns[rows.columns.content][row] for row in rows.kept]

    def _items_of(self, rows: Rows, contents: list[str] | np.ndarray) -> Items:
        numbers = {name: number for number, name in enumerate(self.classes)}
        for row in rows.kept:
            if rows.labels[row] not in numbers:
                more = " …" if len(self.classes) > _LISTED else ""
                known = ", ".join(f"{name:.40}" for name in self.classes[:_LISTED]) + more
                where = rows.table.where(row, rows.columns.label)
                raise TurnoverError(
                    f"{where}: the label {rows.labels[row]!r:.80} is not one that the training "
                    f"items have ({known}); correct it"
                )
        self.notes += _notes_of(rows)
        labels = np.array([numbers[rows.labels[row]] for row in rows.kept], np.int64)
        true_labels = self._true_labels(rows, numbers, labels)
        columns, kept = rows.columns, np.array(rows.kept, np.int64)
        origin = replace(rows.table.origin, content=columns.content, label=columns.label, rows=kept)
        if isinstance(contents, list):
            return Items(rows.ids(), labels, texts=contents, true_labels=true_labels, origin=origin)
        return Items(rows.ids(), labels, images=contents, true_labels=true_labels, origin=origin)

    def _true_labels(
        self, rows: Rows, numbers: dict[str, int], labels: np.ndarray
    ) -> np.ndarray | None:
        """The labels with those of the column `truth`, noted; None where it says nothing, or holds
        something else.
        """
        where = f"{rows.table.name}, column {TRUTH}"
        try:
            right = right_labels(rows, self.names)
            known = {row: numbers[name] for row, name in right.items()}
        except (TurnoverError, KeyError) as error:
            self.notes.append(f"{where}: not used, since it holds what is no label ({error})")
            return None
        if not known:
            return None
        true = np.array(
            [known.get(row, label) for row, label in zip(rows.kept, labels, strict=True)]
        )
        self.notes.append(
            f"{where}: {counted(int((true != labels).sum()), 'label')} known as wrong"
        )
        return true


def _names_in(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() in ENDINGS:
        raise TurnoverError(
            f"{path}: a table; write the names of the classes one a line, in the order of their "
            "numbers, into a text file"
        )
    return read_class_names(path)


def _notes_of(rows: Rows) -> list[str]:
    """Notes on how a table was read, its odd cells, and the rows and files that were skipped."""
    table, columns, stray = rows.table, rows.columns, rows.table.stray
    notes = [*table.notes, *rows.notes]
    notes += [
        f"{table.name}: column {name} is nested ({kind:.60}), so it is not used"
        for name, kind in table.nested.items()
    ]
    labels = {row: table.columns[columns.label][row] for row in rows.kept}
    if spellings := joined(labels, {row: rows.labels[row] for row in rows.kept}):
        notes.append(f"{table.name}, column {columns.label}: {spellings}")
    if not table.places:
        notes += _marks_in(rows, columns.label, labels)
    if columns.kind == "text":
        texts = {row: table.columns[columns.content][row] for row in rows.kept}
        notes += _marks_in(rows, columns.content, texts)
    if not stray:
        return notes
    named = ", ".join(stray[:_NAMED]) + (" …" if len(stray) > _NAMED else "")
    files = (
        "1 file is no image in a class's folder and was"
        if len(stray) == 1
        else f"{len(stray):,} files are no images in a class's folder and were"
    )
    return [*notes, f"{table.name}: {files} skipped: {named}"]


def _marks_in(rows: Rows, column: str, cells: dict[int, Any]) -> list[str]:
    """Notes on the few cells of a column that may stand for a missing value."""
    return [
        f"{rows.table.where(found[0], column)}: {text!r:.40} often marks a missing value; if it "
        f"does here, empty the cell ({counted(len(found), 'row')} of {len(cells):,} like this)"
        for text, found in few_marks(cells, column == rows.columns.label).items()
    ]


def _split_training(reader: _Reader, name: str, seed: int) -> tuple[Items, Items]:
    """Training and validation items where only training items are named; noted in the reader."""
    items = reader.train
    train, validation = split_off(items.labels, items.contents, seed)
    if not len(validation):
        raise TurnoverError(
            f"{name}: no class has two different items, so none can be spared for validation; add "
            "rows, or name a file with --validation"
        )
    drawn = (
        f"{len(validation):,} of {len(items):,} items, about {SHARE:.0%} of each class, were drawn "
        f"for it by the seed {seed}"
    )
    reader.notes.append(f"no validation items were named: {drawn}")
    return items.take(train), items.take(validation)


def split_off(
    labels: np.ndarray, contents: Sequence[Hashable], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation rows, each in order: about `SHARE` of each class for validation,
    drawn by the seed.

    Rows with the same content stay together. A class with one content is for training only; of a
    class with more, at least one is for validation.
    """
    groups: dict[Hashable, list[int]] = {}
    for row, content in enumerate(contents):
        groups.setdefault(content, []).append(row)
    by_class: dict[int, list[list[int]]] = {}
    for rows in groups.values():
        by_class.setdefault(int(labels[rows[0]]), []).append(rows)
    rng, chosen = np.random.default_rng(seed), list[int]()
    for number in sorted(by_class):
        class_groups = by_class[number]
        count = max(1, int(SHARE * len(class_groups) + 0.5)) if len(class_groups) > 1 else 0
        chosen += [
            row
            for index in rng.permutation(len(class_groups))[:count]
            for row in class_groups[index]
        ]
    validation = np.sort(np.array(chosen, np.int64))
    return np.setdiff1d(np.arange(len(labels)), validation), validation
