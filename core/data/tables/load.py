"""From what a user names to a `Dataset`.

A share of the items for validation: of every class, and no content on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from turnover.data.base import Dataset, Items, check_dataset
from turnover.data.tables.checks import read_class_names
from turnover.data.tables.columns import Columns, find_columns, has_ids
from turnover.data.tables.formats import ENDINGS, read_own
from turnover.data.tables.hub import read_hub
from turnover.data.tables.rows import Rows, pixels_of, usable_rows, usual_size
from turnover.data.tables.spec import FILES, HUB, OwnData, Table
from turnover.errors import TurnoverError
from turnover.storage.atomic import user_path

SHARE = 0.2


def split_off(
    labels: np.ndarray, contents: Sequence[Hashable], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train and to validate on, each in order: about `SHARE` of each class, drawn by the
    seed.

    Rows of the same content stay together. A class of one content is trained on only; of one with
    more, some is validated on.
    """
    groups: dict[Hashable, list[int]] = {}
    for row, content in enumerate(contents):
        groups.setdefault(content, []).append(row)
    by_class: dict[int, list[list[int]]] = {}
    for rows in groups.values():
        by_class.setdefault(int(labels[rows[0]]), []).append(rows)
    rng, chosen = np.random.default_rng(seed), list[int]()
    for number in sorted(by_class):
        own = by_class[number]
        count = max(1, int(SHARE * len(own) + 0.5)) if len(own) > 1 else 0
        chosen += [row for place in rng.permutation(len(own))[:count] for row in own[place]]
    validation = np.sort(np.array(chosen, np.int64))
    return np.setdiff1d(np.arange(len(labels)), validation), validation


_NUMBER = re.compile(r"-?[0-9]{1,18}")
_NAMED, _LISTED = 3, 20


def load_own(data: str, wish: OwnData, seed: int) -> Dataset:
    """The data set that a user names, with notes on how it was read; `data` is that of the
    settings.

    Raises:
        TurnoverError: if it cannot be used; the text names file, row and column where there are
            any.
    """
    wish.check(data)
    train, validation, test = _tables(data, wish)
    reader = _Reader(train, wish)
    training = reader.train
    if validation:
        validated, source = reader.items(validation), f"{train.name} and {validation.name}"
    else:
        training, validated = _shared(reader, train.name, seed)
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


def _tables(data: str, wish: OwnData) -> tuple[Table, Table | None, Table | None]:
    """The tables to train on, and to validate and test on as far as there are any."""
    if data != FILES:
        return *read_hub(data, wish), None
    paths = [user_path(name) if name else None for name in (wish.train, wish.validation, wish.test)]
    there = [path for path in paths if path is not None and path.exists()]
    for place, path in enumerate(there):
        if any(path.samefile(other) for other in there[:place]):
            raise TurnoverError(
                f"{path}: named twice; items to measure on must not be those that are trained on"
            )
    train, validation, test = (read_own(path) if path else None for path in paths)
    assert train is not None
    return train, validation, test


class _Reader:
    """Reads tables as the training table is read: the same columns, classes and size of images."""

    def __init__(self, table: Table, wish: OwnData) -> None:
        self.columns, self._named_id = find_columns(table, wish), wish.id_column is not None
        self.names = (
            _names_in(user_path(wish.classes))
            if wish.classes
            else table.classes.get(self.columns.label)
        )
        self.notes = [*self.columns.notes]
        self.shape: tuple[int, int] | None = None
        rows = usable_rows(table, self.columns, self.names)
        if self.columns.kind == "image":
            self.shape, sized = usual_size(rows, wish.size)
            self.notes += sized
        elif wish.size is not None:
            raise TurnoverError(f"--size {wish.size}: {table.name} holds texts; leave --size out")
        contents = self._contents(rows)
        self.classes = tuple(self.names) if self.names else _classes(rows)
        self.train = self._made(rows, contents)

    def items(self, table: Table) -> Items:
        """The items of another table.

        Raises:
            TurnoverError: if it cannot be used, or has labels that the training items have not.
        """
        rows = usable_rows(table, self._own_id(table), self.names)
        return self._made(rows, self._contents(rows))

    def _own_id(self, table: Table) -> Columns:
        """The training table's columns; ids that nobody named may be missing or repeat in
        another.
        """
        known = self.columns.id is None or self._named_id or has_ids(table, self.columns.id)
        return self.columns if known else replace(self.columns, id=None)

    def _contents(self, rows: Rows) -> list[str] | np.ndarray:
        if self.shape is not None:
            return pixels_of(rows, self.shape)
        return [rows.table.columns[rows.columns.content][row] for row in rows.kept]

    def _made(self, rows: Rows, contents: list[str] | np.ndarray) -> Items:
        numbers = {name: number for number, name in enumerate(self.classes)}
        for row in rows.kept:
            if rows.labels[row] not in numbers:
                known = ", ".join(f"{name:.40}" for name in self.classes[:_LISTED]) + (
                    " …" if len(self.classes) > _LISTED else ""
                )
                where = rows.table.where(row, rows.columns.label)
                raise TurnoverError(
                    f"{where}: the label {rows.labels[row]!r:.80} is not one that the training "
                    f"items have ({known}); correct it"
                )
        self.notes += _left_out(rows)
        labels = np.array([numbers[rows.labels[row]] for row in rows.kept], np.int64)
        return (
            Items(rows.ids(), labels, texts=contents)
            if isinstance(contents, list)
            else Items(rows.ids(), labels, images=contents)
        )


def _names_in(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() in ENDINGS:
        raise TurnoverError(
            f"{path}: a table; write the names of the classes one a line, in the order of their "
            "numbers, into a text file"
        )
    return read_class_names(path)


def _classes(rows: Rows) -> tuple[str, ...]:
    """The labels that occur: numbers in their order, names by the alphabet."""
    found = sorted({rows.labels[row] for row in rows.kept})
    return (
        tuple(sorted(found, key=int))
        if all(_NUMBER.fullmatch(name) for name in found)
        else tuple(found)
    )


def _left_out(rows: Rows) -> list[str]:
    """What was not used of a table."""
    stray = rows.table.stray
    if not stray:
        return rows.notes
    named = ", ".join(stray[:_NAMED]) + (" …" if len(stray) > _NAMED else "")
    files = (
        "1 file is no image in a class's folder and was"
        if len(stray) == 1
        else f"{len(stray):,} files are no images in a class's folder and were"
    )
    return [*rows.notes, f"{rows.table.name}: {files} left out: {named}"]


def _shared(reader: _Reader, name: str, seed: int) -> tuple[Items, Items]:
    """Items to train on and to validate on where only training items are named; the reader notes
    it.
    """
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
