"""The named data sources.

`load_data` returns a `Dataset`: a training and a validation split of items with ids, labels and
either texts or images.
"""

from __future__ import annotations

from pathlib import Path

from turnover.data.base import Dataset
from turnover.data.recipe import Recipe, image_source, text_source
from turnover.data.sources.images import load_cifar10, load_digits
from turnover.data.sources.text import load_imdb_checks, load_reviews, load_sst2, load_sst2_phrases
from turnover.data.sources.yahoo import load_yahoo
from turnover.errors import TurnoverError

_MANY = Recipe(weight_decay=2.0)
SOURCES = {
    "digits": image_source(
        lambda _: load_digits(), recipe=Recipe(learning_rate=2e-3), label_noise=0.05, packaged=True
    ),
    "reviews": text_source(
        lambda _: load_reviews(),
        recipe=Recipe(learning_rate=3e-4, batch=32, weight_decay=2.0),
        packaged=True,
    ),
    "sst2": text_source(load_sst2, recipe=_MANY, hub=True),
    "sst2-phrases": text_source(load_sst2_phrases, recipe=_MANY, hub=True),
    "imdb-checks": text_source(load_imdb_checks, recipe=_MANY),
    "yahoo": text_source(load_yahoo, recipe=_MANY, hub=True),
    "cifar10": image_source(load_cifar10, hub=True),
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
    source = SOURCES.get(name)
    if source is None or source.load is None:
        raise TurnoverError(f"unknown data set {name!r}; choose one of {', '.join(NAMES)}")
    if source.packaged and path is not None:
        raise TurnoverError(f"the data set {name} comes with the package; leave --path out")
    return source.load(path)
