"""Yahoo! Answers topics (Zhang, Zhao and LeCun 2015): questions with best answers, ten topics.

They come from the hub, or from a folder with `train.csv` and `test.csv` as published: no header,
the class from 1 to 10, title, question and answer, quotes doubled, line breaks written as the two
characters `\\n`; `classes.txt` may name the classes. A text joins those of the three parts that are
not empty, in one line, cut at `MAX_CHARACTERS`: encoders read a fraction of that, and a published
corpus is not the user's to shorten.

The 1.4 million rows are read one by one, since the file, its decoded copy and a table of it would
not fit together into the memory of a small machine; what stays is one string per text, about 1 GB
in all, of which `--limit` keeps its share.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from turnover.data.base import Dataset, Items, check_dataset
from turnover.data.tables.checks import (
    MAX_CHARACTERS,
    first_of,
    not_utf8,
    read_class_names,
    require_folder,
    unreadable,
)
from turnover.data.tables.hub import hub_splits
from turnover.errors import TurnoverError
from turnover.storage.progress import bar

CLASSES = (
    "Society & Culture",
    "Science & Mathematics",
    "Health",
    "Education & Reference",
    "Computers & Internet",
    "Sports",
    "Business & Finance",
    "Entertainment & Music",
    "Family & Relationships",
    "Politics & Government",
)
HUB_NAME = "community-datasets/yahoo_answers_topics"
SPLITS = ("train", "test")
_HUB_PARTS = ("question_title", "question_content", "best_answer")
_FIELDS = 4
_STEP = 1000


def load_yahoo(folder: Path | None) -> Dataset:
    """Yahoo! Answers from a folder with `train.csv` and `test.csv`, or the hub; the test split is
    the validation split.

    Raises:
        TurnoverError: if the folder or its files cannot be used, or the hub cannot be reached.
    """
    if folder is None:
        splits = hub_splits(HUB_NAME, "Yahoo Answers", SPLITS, ("topic", *_HUB_PARTS))
        parts = [
            _collect(f"{HUB_NAME}, split {name}", name, _hub_rows(name, split))
            for name, split in zip(SPLITS, splits, strict=True)
        ]
        return check_dataset(Dataset("yahoo", f"hub data set {HUB_NAME}", CLASSES, *parts))
    require_folder(folder, "train.csv and test.csv of Yahoo Answers")
    paths = [first_of(folder, (f"{name}.csv",)) for name in SPLITS]
    named = folder / "classes.txt"
    classes = read_class_names(named, len(CLASSES)) if named.exists() else CLASSES
    parts = [
        _collect(str(path), name, _file_rows(path))
        for name, path in zip(SPLITS, paths, strict=True)
    ]
    return check_dataset(Dataset("yahoo", f"train.csv and test.csv in {folder}", classes, *parts))


def _collect(source: str, name: str, rows: Iterable[tuple[int, Sequence[str | None]]]) -> Items:
    """Items of (class number, parts of the text), in order."""
    labels, texts = [], []
    for row, (label, parts) in enumerate(rows, start=1):
        text = " ".join(
            words for part in parts if (words := (part or "").replace("\\n", " ").strip())
        )
        if not text:
            raise TurnoverError(
                f"{source}, row {row}: title, question and answer are all empty; write one or "
                "remove the row"
            )
        if label not in range(len(CLASSES)):
            raise TurnoverError(
                f"{source}, row {row}: the topic {label} is not one of 0 to {len(CLASSES) - 1}; "
                "correct it"
            )
        labels.append(label)
        texts.append(text[:MAX_CHARACTERS])
    return Items(
        [f"{name}-{row}" for row in range(len(texts))], np.asarray(labels, np.int64), texts=texts
    )


def _file_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Class number (from 0) and three parts of every row of a file."""
    classes = {str(number + 1): number for number in range(len(CLASSES))}
    row = 0
    try:
        for row, fields in enumerate(_csv_rows(path), start=1):
            if len(fields) != _FIELDS:
                raise TurnoverError(
                    f"{path}, row {row}: {len(fields)} fields instead of class, title, question and"
                    " answer; check quotes and commas"
                )
            if fields[0] not in classes:
                raise TurnoverError(
                    f"{path}, row {row}: the class {fields[0]!r} is not one of 1 to {len(CLASSES)};"
                    " correct it (the file has no header)"
                )
            yield classes[fields[0]], fields[1:]
    except csv.Error as error:
        raise TurnoverError(
            f"{path}, row {row + 1}: not readable ({error}); check quotes and commas"
        ) from None
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except OSError as error:
        raise unreadable(path, error) from None


def _csv_rows(path: Path) -> Iterator[list[str]]:
    """Rows of a headerless file, unchanged, with a bar over its megabytes."""
    with (
        path.open("rb") as file,
        bar(path.stat().st_size >> 20, f"yahoo: {path.name}", "MB") as advance,
    ):
        reported = 0
        for row, fields in enumerate(
            csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
        ):
            if row % _STEP == 0:
                read = file.tell() >> 20
                advance(read - reported)
                reported = read
            if fields:  # a blank line is not a row
                yield fields


def _hub_rows(name: str, split: Any) -> Iterator[tuple[int, tuple[str | None, ...]]]:
    """Topic and three parts of every row of a hub split, read from its file in pieces."""
    with bar(len(split), f"yahoo: {name}", "texts") as advance:
        for piece in split.select_columns(["topic", *_HUB_PARTS]).iter(_STEP):
            yield from zip(
                piece["topic"], zip(*(piece[part] for part in _HUB_PARTS), strict=True), strict=True
            )
            advance(len(piece["topic"]))
