"""The named data sources.

`load_data` returns a `Dataset`: a training and a validation split of items with ids, labels and
either texts or images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from turnover.data.base import Dataset
from turnover.data.sources.images import load_cifar10, load_digits
from turnover.data.sources.text import load_imdb_checks, load_reviews, load_sst2, load_sst2_phrases
from turnover.data.sources.yahoo import load_yahoo
from turnover.errors import TurnoverError


@dataclass(frozen=True)
class Source:
    """A kind of data set: `text` or `image`, and whether it comes with the package, from a folder,
    or from the hub where no folder is named.
    """

    kind: str
    load: Callable[[Path | None], Dataset]
    packaged: bool = False
    hub: bool = False


SOURCES = {
    "digits": Source("image", lambda _: load_digits(), packaged=True),
    "reviews": Source("text", lambda _: load_reviews(), packaged=True),
    "sst2": Source("text", load_sst2, hub=True),
    "sst2-phrases": Source("text", load_sst2_phrases, hub=True),
    "imdb-checks": Source("text", load_imdb_checks),
    "yahoo": Source("text", load_yahoo, hub=True),
    "cifar10": Source("image", load_cifar10, hub=True),
}
NAMES = tuple(SOURCES)


def load_data(name: str, path: Path | None = None) -> Dataset:
    """The data set of this name; `path` is a folder for those that do not come with the package,
    which are otherwise read from the hub.

    Raises:
        TurnoverError: for an unknown name, a path that is not read, or files that cannot be used
            (file, row and remedy).
    """
    if name == "elec":
        raise TurnoverError(
            "elec has no training set; train on sst2, then cleanse that run with `turnover cleanse "
            "--validation elec --path DIR`"
        )
    if name not in SOURCES:
        raise TurnoverError(f"unknown data set {name!r}; choose one of {', '.join(NAMES)}")
    if SOURCES[name].packaged and path is not None:
        raise TurnoverError(f"the data set {name} comes with the package; leave --path out")
    return SOURCES[name].load(path)
