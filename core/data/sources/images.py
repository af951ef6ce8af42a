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

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from turnover.data.base import Dataset, Items, Origin, check_dataset
from turnover.data.images import open_image
from turnover.data.tables.checks import (
    check_column,
    check_names,
    first_of,
    read_class_names,
    require_folder,
    unreadable,
)
from turnover.data.tables.hub import hub_splits
from turnover.data.tables.known import label_column, read_table
from turnover.errors import TurnoverError
from turnover.storage.artifacts import sha256
from turnover.storage.atomic import looked_at
from turnover.storage.progress import Advance, bar

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
_STEP = 500


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
    splits = (
        _read_parquet(path, name) for path, name in zip(paths, ("train", "test"), strict=True)
    )
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
    try:
        with pq.ParquetFile(path) as file:
            columns = _columns(path, file.schema_arrow)
            pieces = (batch.to_pydict() for batch in file.iter_batches(_STEP, columns=columns))
            with bar(file.metadata.num_rows, f"cifar10: {path.name}", "images") as advance:
                items = _collect(str(path), split, pieces, advance)
            if len(items) != file.metadata.num_rows:
                raise TurnoverError(
                    f"{path}: {len(items):,} rows, where its own count says "
                    f"{file.metadata.num_rows:,}; write it again"
                )
            origin = Origin(
                str(path.absolute()),
                sha256(path),
                path.stat().st_size,
                content="image",
                label="label",
                rows=np.arange(len(items)),
            )
            return replace(items, origin=origin)
    except (
        pa.ArrowException,
        OSError,
        UnicodeDecodeError,
    ) as error:  # UnicodeDecodeError: column names
        if isinstance(error, OSError) and error.errno:  # the others are pyarrow's own
            raise unreadable(path, error) from None
        raise TurnoverError(
            f"{path}: not a readable parquet file ({str(error).splitlines()[0]}); write it again"
        ) from None


def _columns(path: Path, schema: pa.Schema) -> list[str]:
    """The columns to read, checked by their types."""
    kinds = {
        "image": (pa.types.is_binary, pa.types.is_large_binary),
        "label": (pa.types.is_integer,),
        "index": (pa.types.is_integer,),
    }
    there = [name for name in kinds if name in schema.names]
    for name in ("image", "label"):
        check_column(name, schema.names, path)
    for name in there:
        kind = schema.field(name).type
        if not any(check(kind) for check in kinds[name]):
            raise TurnoverError(
                f"{path}, column {name}: {kind} instead of "
                f"{'the bytes of image files' if name == 'image' else 'whole numbers'}; convert it"
            )
    return there


def _from_hub() -> Dataset:
    from datasets import Image

    parts = []
    for split, rows in zip(
        ("train", "test"),
        hub_splits(HUB_NAME, "CIFAR-10", ("train", "test"), ("img", "label")),
        strict=True,
    ):
        undecoded = rows.select_columns(["img", "label"]).cast_column("img", Image(decode=False))
        pieces = (
            {"image": [image["bytes"] for image in piece["img"]], "label": piece["label"]}
            for piece in undecoded.iter(_STEP)
        )
        with bar(len(rows), f"cifar10: {split}", "images") as advance:
            parts.append(_collect(f"{HUB_NAME}, split {split}", split, pieces, advance))
    return check_dataset(Dataset("cifar10", f"hub data set {HUB_NAME}", CLASSES, *parts))


def _collect(
    source: str, split: str, pieces: Iterable[dict[str, list[Any]]], advance: Advance
) -> Items:
    """The items of pieces with the columns image, label and optionally index."""
    images: list[np.ndarray] = [np.empty((0, SIDE, SIDE, 3), np.uint8)]
    labels: list[int] = []
    ids: list[str] = []
    for piece in pieces:
        first, pixels = len(ids), []
        for row, (content, label) in enumerate(
            zip(piece["image"], piece["label"], strict=True), start=first
        ):
            where = f"{source}, row {row + 1}"
            if label not in range(len(CLASSES)):
                raise TurnoverError(
                    f"{where}, column label: {label} is not one of 0 to {len(CLASSES) - 1}; "
                    "correct it"
                )
            pixels.append(_pixels(content, f"{where}, column image"))
            labels.append(label)
        numbers = piece.get("index", range(first, first + len(piece["label"])))
        if None in numbers:
            raise TurnoverError(
                f"{source}, row {first + list(numbers).index(None) + 1}, column index: there is "
                "none; give every image one"
            )
        ids += [f"{split}-{number}" for number in numbers]
        images += [np.stack(pixels)] if pixels else []
        advance(len(piece["label"]))
    return Items(ids, np.asarray(labels, np.int64), images=np.concatenate(images))


def _pixels(content: bytes | None, where: str) -> np.ndarray:
    if content is None:
        raise TurnoverError(f"{where}: there is no image; add one or remove the row")
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

    def split(rows: np.ndarray) -> Items:
        return Items(
            [f"digit-{row:04d}" for row in rows], labels[rows].astype(np.int64), images=images[rows]
        )

    classes = tuple(str(digit) for digit in range(10))
    return check_dataset(
        Dataset(
            "digits",
            "scikit-learn digits",
            classes,
            split(order[:TRAINING]),
            split(order[TRAINING:]),
        )
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
