"""Near duplicates: validation items with a nearly identical training item, a known influence.

The CSV is that of Barz and Denzler (2020, `ciFAIR`), with columns test_index and train_index
numbered as in CIFAR-10 (`turnover.data.sources.images`); other columns are ignored. Item 12 of the
test split has the id `test-12`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from turnover.data.tables.checks import first_of, read_table
from turnover.errors import TurnoverError
from turnover.storage.atomic import looked_at

_FILES = ("test_train_near_duplicates.csv", "test_train_near_duplicates_shared.csv")
_COLUMNS = ("test_index", "train_index")


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Ids of the validation and the training item of each pair, from a file or its folder.

    Raises:
        TurnoverError: for a table that cannot be used, or an index that is not a number.
    """
    file = first_of(path, _FILES) if looked_at(path).is_dir() else path
    table = read_table(file, _COLUMNS)
    for column in _COLUMNS:
        for row, index in enumerate(table[column], start=1):
            if not (index.isascii() and index.isdigit()):
                raise TurnoverError(
                    f"{file}, row {row}, column {column}: {index!r} is not a whole number; "
                    "correct it"
                )
    return [
        (f"test-{int(test)}", f"train-{int(train)}")
        for test, train in zip(*(table[column] for column in _COLUMNS), strict=True)
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
