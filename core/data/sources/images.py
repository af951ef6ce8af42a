"""Image data sets: CIFAR-10 and the handwritten digits of scikit-learn.

CIFAR-10 (Krizhevsky 2009) has 32 × 32 colour photographs of ten classes, from a folder or the hub,
validated on the test split. A folder holds one of two forms:

- the official *binary version* (`cifar-10-binary.tar.gz`), in the folder or its subfolder
  `cifar-10-batches-bin`: `data_batch_1.bin` to `data_batch_5.bin`, `test_batch.bin` and optionally
  `batches.meta.txt`. A row of 3,073 bytes is a label and 1,024 red, green and blue pixels each. The
  *python version* is pickled: reading it can run any program that it contains, so it is rejected;
- parquet files: `train.parquet` and `test.parquet` (or `test_shared.parquet`) with columns `image`
  (bytes of an image file), `label` (0 to 9) and optionally `index` (a number that becomes the
  item's id), and optionally `classes.csv` (label, name).

Near duplicates of its test images in the training set are a known influence. Their CSV is that of
Barz and Denzler (2020, `ciFAIR`), with columns test_index and train_index numbered as in CIFAR-10;
other columns are ignored. Item 12 of the test split has the id `test-12`.

The digits are 1,797 real 8 × 8 images that come with scikit-learn (Alpaydin and Kaynak 1998, UCI).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from turnover.data.base import Dataset, Items, Origin, check_dataset
from turnover.data.images import open_image
from turnover.data.tables.arrow import arrow_table
from turnover.data.tables.checks import (
    check_names,
    first_of,
    read_class_names,
    require_folder,
    unreadable,
)
from turnover.data.tables.hub import hub_splits
from turnover.data.tables.known import label_column, read_table
from turnover.data.tables.table import Table
from turnover.errors import TurnoverError
from turnover.storage.atomic import looked_at
from turnover.storage.progress import bar

# CIFAR-10

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HUB_NAME = "uoft-cs/cifar10"
SIDE = 32
ROW_BYTES = 1 + 3 * SIDE * SIDE
_BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST_BATCH, _BINARY_FOLDER = "test_batch.bin", "cifar-10-batches-bin"
_PICKLED = ("cifar-10-batches-py", "data_batch_1")
_TRAINING_FILES = ("train.parquet",)
_TEST_FILES = ("test.parquet", "test_shared.parquet")
SPLITS = ("train", "test")


def load_cifar10(folder: Path | None) -> Dataset:
    """CIFAR-10 from a folder in one of the two forms, or the hub.

    Raises:
        TurnoverError: if the folder or its files cannot be used, or the hub cannot be reached.
    """
    if folder is None:
        return _from_hub()
    require_folder(folder, "the CIFAR-10 files")
    for location in (folder, folder / _BINARY_FOLDER):
        if (location / _BATCHES[0]).is_file():
            return _from_binary(location)
    if not (folder / _TRAINING_FILES[0]).is_file():
        for name in _PICKLED:
            if (folder / name).exists():
                raise TurnoverError(
                    f"{folder / name}: the python version is pickled and not read; get the binary "
                    "version, cifar-10-binary.tar.gz"
                )
        raise TurnoverError(
            f"{folder}: neither {_TRAINING_FILES[0]} nor {_BATCHES[0]} is there; put the CIFAR-10 "
            "files into the folder"
        )
    paths = first_of(folder, _TRAINING_FILES), first_of(folder, _TEST_FILES)
    named = folder / "classes.csv"
    classes = _class_table(named) if named.exists() else CLASSES
    splits = map(_read_parquet, paths, SPLITS)
    return check_dataset(
        Dataset("cifar10", f"{paths[0].name} and {paths[1].name} in {folder}", classes, *splits)
    )


# CIFAR-10: the binary version


def _from_binary(folder: Path) -> Dataset:
    named = folder / "batches.meta.txt"
    classes = read_class_names(named, len(CLASSES)) if named.exists() else CLASSES
    splits = (
        _read_batches([folder / name for name in names], split)
        for split, names in (("train", _BATCHES), ("test", (_TEST_BATCH,)))
    )
    return check_dataset(Dataset("cifar10", f"the binary version in {folder}", classes, *splits))


def _read_batches(paths: list[Path], split: str) -> Items:
    rows = np.concatenate([_read_batch(path) for path in paths])
    images = rows[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Items(
        [f"{split}-{row}" for row in range(len(rows))],
        rows[:, 0].astype(np.int64),
        images=np.ascontiguousarray(images),
    )


def _read_batch(path: Path) -> np.ndarray:
    """The rows of one file, `(n, ROW_BYTES)`."""
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise unreadable(path, error) from None
    count, rest = divmod(len(content), ROW_BYTES)
    if rest or not count:
        raise TurnoverError(
            f"{path}, row {count + 1}: truncated, {rest:,} bytes instead of {ROW_BYTES:,}; get the "
            "file again"
        )
    rows = content.reshape(count, ROW_BYTES)
    wrong = np.flatnonzero(rows[:, 0] >= len(CLASSES))
    if len(wrong):
        row = int(wrong[0])
        raise TurnoverError(
            f"{path}, row {row + 1}: the label {rows[row, 0]} is not one of 0 to "
            f"{len(CLASSES) - 1}; get the file again"
        )
    return rows


# CIFAR-10: parquet files and the hub


def _class_table(path: Path) -> tuple[str, ...]:
    table = read_table(path, ("label", "name"))
    if len(table) != len(CLASSES):
        raise TurnoverError(
            f"{path}: {len(table)} rows instead of {len(CLASSES)}; write one a class"
        )
    numbers = label_column(table, "label", tuple(map(str, range(len(CLASSES))))).tolist()
    for row, number in enumerate(numbers):
        if number in numbers[:row]:
            raise TurnoverError(
                f"{path}, row {row + 1}, column label: the label {number} occurs twice; give each "
                "class one row"
            )
    names = check_names(path, "row", list(enumerate(table.columns["name"], start=1)))
    return tuple(names[numbers.index(number)] for number in range(len(CLASSES)))


def _read_parquet(path: Path, split: str) -> Items:
    table = read_table(path, ("image", "label"))
    if (count := pq.read_metadata(path).num_rows) != len(table):
        raise TurnoverError(
            f"{path}: {len(table):,} rows, where its own count says {count:,}; write it again"
        )
    rows = np.arange(len(table))
    origin = replace(table.origin, content="image", label="label", rows=rows)
    return replace(_items(table, split), origin=origin)


def _from_hub() -> Dataset:
    splits = hub_splits(HUB_NAME, "CIFAR-10", SPLITS, ("img", "label"))
    parts = []
    for split, rows in zip(SPLITS, splits, strict=True):
        columns = rows.select_columns(["img", "label"]).rename_column("img", "image")
        arrow = columns.with_format("arrow")[:]
        table = arrow_table(arrow, f"{HUB_NAME}, split {split}", split, Origin(HUB_NAME))
        parts.append(_items(table, split))
    return check_dataset(Dataset("cifar10", f"hub data set {HUB_NAME}", CLASSES, *parts))


def _items(table: Table, split: str) -> Items:
    """The items of a table with the columns image, label and optionally index."""
    images = np.empty((len(table), SIDE, SIDE, 3), np.uint8)
    labels = table.columns["label"]
    numbers = table.columns.get("index", range(len(table)))
    with bar(len(table), f"cifar10: {split}", "images") as advance:
        for row, content in enumerate(table.columns["image"]):
            if labels[row] not in range(len(CLASSES)):
                raise TurnoverError(
                    f"{table.where(row, 'label')}: {labels[row]!r} is not one of 0 to "
                    f"{len(CLASSES) - 1}; correct it"
                )
            if not isinstance(numbers[row], int):
                raise TurnoverError(
                    f"{table.where(row, 'index')}: {numbers[row]!r} is not a whole number; give "
                    "every image one"
                )
            images[row] = _pixels(content, table.where(row, "image"))
            advance(1)
    ids = [f"{split}-{number}" for number in numbers]
    return Items(ids, np.asarray(labels, np.int64), images=images)


def _pixels(content: Any, where: str) -> np.ndarray:
    if content is None:
        raise TurnoverError(f"{where}: there is no image; add one or remove the row")
    if not isinstance(content, bytes):
        raise TurnoverError(
            f"{where}: {content!r:.80} is not the bytes of an image file; convert it"
        )
    image = open_image(content, where, colour=True)
    if image.size != (SIDE, SIDE):
        raise TurnoverError(
            f"{where}: {image.width} x {image.height} pixels instead of {SIDE} x {SIDE}; scale it"
        )
    return np.asarray(image)


# Handwritten digits

TRAINING = 1200


def load_digits() -> Dataset:
    """1,200 training and 597 validation images, bright strokes on black, always the same split."""
    from sklearn.datasets import load_digits as sklearn_digits

    pixels, labels = sklearn_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(labels))
    ids = [f"digit-{row:04d}" for row in range(len(labels))]
    items = Items(ids, labels.astype(np.int64), images=images)
    splits = items.take(order[:TRAINING]), items.take(order[TRAINING:])
    return check_dataset(
        Dataset("digits", "scikit-learn digits", tuple(map(str, range(10))), *splits)
    )


# Near duplicates

_PAIR_FILES = ("test_train_near_duplicates.csv", "test_train_near_duplicates_shared.csv")
_PAIR_COLUMNS = ("test_index", "train_index")


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Ids of the validation and the training item of each pair, from a file or its folder.

    Raises:
        TurnoverError: for a table that cannot be used, or an index that is not a number.
    """
    file = first_of(path, _PAIR_FILES) if looked_at(path).is_dir() else path
    table = read_table(file, _PAIR_COLUMNS)
    for column in _PAIR_COLUMNS:
        for row, index in enumerate(table.columns[column]):
            if not (index.isascii() and index.isdigit()):
                raise TurnoverError(
                    f"{table.where(row, column)}: {index!r} is not a whole number; correct it"
                )
    return [
        (f"test-{int(test)}", f"train-{int(train)}")
        for test, train in zip(*(table.columns[column] for column in _PAIR_COLUMNS), strict=True)
    ]


def pairs_between(
    path: Path, validation: Sequence[str], train: Sequence[str]
) -> list[tuple[int, int]]:
    """Positions of the validation and the training item of each pair with both ids in the lists.

    Raises:
        TurnoverError: as `read_pairs`, or if there is no such pair.
    """
    positions = [
        {name: position for position, name in enumerate(ids)} for ids in (validation, train)
    ]
    pairs = [
        (positions[0][validation_id], positions[1][train_id])
        for validation_id, train_id in read_pairs(path)
        if validation_id in positions[0] and train_id in positions[1]
    ]
    if not pairs:
        raise TurnoverError(
            f"{path}: no pair has both its items here; train on a data set that has them, and with "
            "--limit name this file by --keep"
        )
    return pairs
