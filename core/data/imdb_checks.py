"""IMDB label checks: film reviews (Maas et al. 2011) whose suspicious labels people have looked at (Northcutt et al. 2021).

Labels that were suspected were shown to five raters each. Where most of them hold the other label to be right (verdict
`guessed`), the given one is a *confirmed error*: not planted by anybody, but found in a data set that everyone uses.
All confirmed errors become training items, with the mark `confirmed-error`, and so does most of the rest; labels that were
not checked are taken to be right. A fifth of the reviews, drawn once from those without a confirmed error, is for
validation: what is measured on it should not be measured against labels that are known to be wrong.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from turnover.data.base import CONFIRMED_ERROR, Dataset, Items, check_dataset
from turnover.data.sst2 import CLASSES
from turnover.data.tables import first_of, label_column, read_table, require_folder, text_column
from turnover.errors import TurnoverError

_FILES = ("reviews.csv", "reviews_shared.csv")
_VERDICTS = ("guessed", "given", "neutral", "off-topic", "no_majority", "not_checked")
_VALIDATION = 5  # one in so many


def load_imdb_checks(folder: Path | None) -> Dataset:
    """The reviews in a folder with `reviews.csv` or `reviews_shared.csv`: columns text, label (0 or 1), review_id and verdict.

    Raises:
        TurnoverError: if no folder is named, it or its file cannot be used, or the training items have one class only.
    """
    if folder is None:
        raise TurnoverError("the IMDB label checks are not on the hub; --path names the folder with them")
    require_folder(folder, "the IMDB label checks")
    path = first_of(folder, _FILES)
    table = read_table(path, ("text", "label", "review_id", "verdict"))
    wrong = np.asarray(label_column(table, path, "verdict", _VERDICTS)) == _VERDICTS.index("guessed")
    labels = np.asarray(label_column(table, path, "label", tuple(map(str, range(len(CLASSES))))), np.int64)
    marks = [CONFIRMED_ERROR if own else "" for own in wrong]
    reviews = Items(list(table["review_id"]), labels, texts=text_column(table, path, "text"), planted=marks)
    order = np.random.default_rng(0).permutation(np.flatnonzero(~wrong))
    validation = np.sort(order[: len(table) // _VALIDATION])
    train = np.setdiff1d(np.arange(len(table)), validation)
    return check_dataset(Dataset("imdb-checks", f"{path.name} in {folder}", CLASSES, reviews.take(train), reviews.take(validation)))
