"""Data sources, one file each, by name.

`load_data` gives a `Dataset`: a training and a validation split of items with ids, labels and either texts or images.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core.data.base import Dataset
from core.data.cifar10 import load_cifar10
from core.data.digits import load_digits
from core.data.imdb_checks import load_imdb_checks
from core.data.reviews import load_reviews
from core.data.sst2 import load_sst2, load_sst2_phrases
from core.data.yahoo import load_yahoo
from core.errors import TurnoverError

_PACKAGED: dict[str, Callable[[], Dataset]] = {"digits": load_digits, "reviews": load_reviews}
_EXTERNAL: dict[str, Callable[[Path | None], Dataset]] = {
    "sst2": load_sst2,
    "sst2-phrases": load_sst2_phrases,
    "imdb-checks": load_imdb_checks,
    "yahoo": load_yahoo,
    "cifar10": load_cifar10,
}
NAMES = (*_PACKAGED, *_EXTERNAL)


def load_data(name: str, path: Path | None = None) -> Dataset:
    """The data set of this name; `path` is a folder for those that do not come with the package, which are otherwise read from the hub.

    Raises:
        TurnoverError: for an unknown name, a path where none is read, or files that cannot be used (file, row and remedy).
    """
    if name == "elec":
        raise TurnoverError("elec has no training set; train on sst2, then cleanse that run with `python -m core cleanse --validation elec --path DIR`")
    if name in _EXTERNAL:
        return _EXTERNAL[name](path)
    if name not in _PACKAGED:
        raise TurnoverError(f"unknown data set {name!r}; choose one of {', '.join(NAMES)}")
    if path is not None:
        raise TurnoverError(f"the data set {name} comes with the package; leave --path out")
    return _PACKAGED[name]()
