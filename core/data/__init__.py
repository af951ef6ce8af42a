"""Data sources, one file each, by name.

`load_data` gives a `Dataset`: a training and a validation split of items with ids, labels and either texts or images.
"""

from __future__ import annotations

from pathlib import Path

from core.data.base import Dataset
from core.data.digits import load_digits
from core.data.reviews import load_reviews
from core.data.sst2 import load_sst2
from core.errors import TurnoverError

NAMES = ("digits", "reviews", "sst2")
_PACKAGED = {"digits": load_digits, "reviews": load_reviews}


def load_data(name: str, path: Path | None = None) -> Dataset:
    """The data set of this name; `path` is a folder for `sst2`, which otherwise comes from the hub.

    Raises:
        TurnoverError: for an unknown name, a path where none is read, or files that cannot be used (file, row and remedy).
    """
    if name not in NAMES:
        raise TurnoverError(f"unknown data set {name!r}; choose one of {', '.join(NAMES)}")
    if name in _PACKAGED:
        if path is not None:
            raise TurnoverError(f"the data set {name} comes with the package; leave --path out")
        return _PACKAGED[name]()
    return load_sst2(path)
