"""What a user specifies about data of their own, and the table that it is read into."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turnover.errors import TurnoverError

FILES, HUB = "files", "hub:"
"""`data` of the settings for files, and its prefix for the hub: `hub:NAME`, or
`hub:NAME:CONFIGURATION`.
"""
SMALLEST, LARGEST = 8, 256
"""Smallest and largest side of images that the models read."""
_HUB_NAME = re.compile(r"hub:\w[\w.-]*(/\w[\w.-]*)?(:\w[\w.-]*)?", re.ASCII)


def is_own(data: str) -> bool:
    """Whether the settings' `data` is a user's own, not one of `turnover.data.sources.NAMES`."""
    return data == FILES or data.startswith(HUB)


@dataclass(frozen=True)
class OwnData:
    """Files, or splits of a hub data set, and the columns to use; None is inferred or not used.

    Attributes:
        train: file or folder with the training items; None for the hub.
        validation: the same for the validation items; None takes a share of the training items.
        test: the same for items on which the finished model is measured once.
        text_column: the column of the texts.
        image_column: the column of the images, or of their paths.
        label_column: the column of the labels.
        id_column: the column of the ids.
        train_split: the hub's split to train on.
        validation_split: the hub's split to validate on.
        classes: a file with the names of numbered classes, one per line.
        size: the side in pixels that all images get.
        kind: `text` or `image`, once the data were read.
    """

    train: str | None = None
    validation: str | None = None
    test: str | None = None
    text_column: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    train_split: str | None = None
    validation_split: str | None = None
    classes: str | None = None
    size: int | None = None
    kind: str | None = None

    def check(self, data: str) -> OwnData:
        """These choices, if they are valid for the settings' `data`.

        Raises:
            TurnoverError: if they are not.
        """
        if data.startswith(HUB):
            if not _HUB_NAME.fullmatch(data):
                raise TurnoverError(
                    f"--data {data!r:.80}: write hub:NAME, or hub:NAME:CONFIGURATION, with NAME as "
                    "on the hub"
                )
            if self.train or self.validation or self.test:
                raise TurnoverError(
                    "--train, --validation and --test name files; for the hub, name splits with "
                    "--train-split and --validation-split"
                )
        elif data != FILES:
            raise TurnoverError(
                f"--data {data} is a data set with files of its own form; leave --train and options"
                " on columns, splits, classes and size out"
            )
        elif not self.train:
            raise TurnoverError("name the file or folder with the training items with --train")
        elif self.train_split or self.validation_split:
            raise TurnoverError(
                "--train-split and --validation-split are splits of a hub data set; for files, give"
                " --train and --validation"
            )
        if self.text_column and self.image_column:
            raise TurnoverError(
                "--text-column and --image-column: a model reads one of the two; leave the "
                "other out"
            )
        if self.size is not None and not SMALLEST <= self.size <= LARGEST:
            raise TurnoverError(
                f"--size {self.size}: choose a side from {SMALLEST} to {LARGEST} pixels"
            )
        return self


@dataclass(frozen=True)
class Table:
    """Cells by column, and where they come from.

    Attributes:
        name: its name in errors: the path, or the hub's name and the split.
        stem: prefix of the ids of numbered rows.
        columns: all of the same length; missing cells are None or "".
        binary: the columns whose cells are image files.
        classes: class names of columns with class numbers.
        folder: the base of relative image paths; None where cells are not paths.
        places: each row's name in errors; empty for `row 1` and so on.
        stray: files in a folder that are not items.
        unread: those among them that count as rows that cannot be used.
        nested: what the cells of columns are that hold lists or objects and so cannot be used.
        notes: how the file was read, where there was a choice.
    """

    name: str
    stem: str
    columns: Mapping[str, Sequence[Any]]
    binary: frozenset[str] = frozenset()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    folder: Path | None = None
    places: Sequence[str] = ()
    stray: Sequence[str] = ()
    unread: Sequence[str] = ()
    nested: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def where(self, row: int, column: str | None = None) -> str:
        """The name of a row, or a cell, in an error; rows count from 1, without the header."""
        if self.places:
            return f"{self.name}/{self.places[row]}"
        return f"{self.name}, row {row + 1}" + (f", column {column}" if column else "")
