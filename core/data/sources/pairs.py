"""Near duplicates: validation items with a training item that shows nearly the same, which must
have influenced them.

A CSV as of Barz and Denzler (2020, `ciFAIR`) with columns test_index and train_index, as CIFAR-10
numbers its items (`turnover.data.sources.images`); other columns are left out. Item 12 of the test
split has the id `test-12`.
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
    """Ids of the validation and the training item of each pair, from a file or the folder that it
    is in.

    Raises:
        TurnoverError: for a table that cannot be used, or an index that is no number.
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
    """Places of the validation and the training item of each pair that is in both lists of ids.

    Raises:
        TurnoverError: as `read_pairs`, or if there is no such pair.
    """
    places = [{name: place for place, name in enumerate(ids)} for ids in (validation, train)]
    found = [
        (places[0][test], places[1][own])
        for test, own in read_pairs(path)
        if test in places[0] and own in places[1]
    ]
    if not found:
        raise TurnoverError(
            f"{path}: no pair has both its items here; train on a data set that has them, and with "
            "--limit name this file by --keep"
        )
    return found
