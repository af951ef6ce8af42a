"""Elec (Blitzer, Dredze and Pereira 2007): reviews of electronics, negative (0) or positive (1).

No training set: the paper cleanses a model trained on film reviews (SST-2) with the 200 validation reviews from this other
domain, and measures it on the rest. So it is read with `load_elec`, and `--data elec` is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from turnover.data.base import Items
from turnover.data.sst2 import CLASSES
from turnover.data.tables import first_of, read_labelled_texts, require_folder
from turnover.errors import TurnoverError

VALIDATION_FILES = ("valid.csv",)
TEST_FILES = ("test.csv", "test_shared.csv")


@dataclass(frozen=True)
class Elec:
    """Reviews to validate and to test on, with the classes of SST-2; `source` says in words where they were read from."""

    source: str
    validation: Items
    test: Items


def load_elec(folder: Path) -> Elec:
    """The reviews in a folder with `valid.csv` and `test.csv` or `test_shared.csv`: columns text and label, others are left out.

    Raises:
        TurnoverError: if the folder or its files cannot be used, or a split has one class only.
    """
    require_folder(folder, "the files of Elec")
    paths = first_of(folder, VALIDATION_FILES), first_of(folder, TEST_FILES)
    validation, test = (_read(path) for path in paths)
    return Elec(f"{paths[0].name} and {paths[1].name} in {folder}", validation, test)


def _read(path: Path) -> Items:
    items = read_labelled_texts(path, CLASSES)
    if len(set(items.labels.tolist())) < 2:
        raise TurnoverError(f"{path}: all {len(items)} reviews have the label {items.labels[0]}; add reviews of the other class")
    return items
