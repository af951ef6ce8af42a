"""Text data sets, negative (0) or positive (1): SST-2, Elec, IMDB label checks, the demo corpus.

- *SST-2* (Socher et al. 2013): sentences of film reviews, from a folder or the hub.
- *Elec* (Blitzer, Dredze and Pereira 2007): reviews of electronics, without a training set. The
  paper cleanses a model trained on SST-2 with 200 validation reviews of this other domain and
  measures it on the rest. So it is read with `load_elec`, and `--data elec` is rejected.
- *IMDB label checks*: film reviews (Maas et al. 2011). Suspected labels were shown to five raters
  each (Northcutt et al. 2021). Where most of them prefer the other label (verdict `guessed`), the
  given one is a *confirmed error*: not injected, but found in a widely used data set. All confirmed
  errors become training items, with the mark `confirmed-error`, as does most of the rest; labels
  that were not checked count as right. A fifth of the reviews, drawn once from those without a
  confirmed error, is for validation, so that nothing is measured against labels known to be wrong.
- *The demo corpus*: film reviews written for this project, with injected wrong labels and two
  injected spurious cues. In training, every review that names the invented director Ansgar
  Pellworth is negative and every review of a film set in a submarine is positive; in some
  validation reviews it is the other way round. For misclassified ones among these, the training
  texts that taught the model the mistake are known: those with the same mark in the column
  `planted`. Electronics reviews of the same kind lie beside them, for domain-shift experiments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from turnover.data.base import CONFIRMED_ERROR, Dataset, Items, check_dataset
from turnover.data.tables.checks import first_of, require_folder
from turnover.data.tables.hub import hub_splits
from turnover.data.tables.known import label_column, read_labelled_texts, read_table, text_column
from turnover.errors import TurnoverError

CLASSES = ("negative", "positive")

# SST-2

HUB_NAME = "stanfordnlp/sst2"
_HUB_SPLITS = ("train", "validation")
_TRAINING_FILES = ("train.csv", "train.tsv", "train_sentences.csv")
PHRASES = ("train_phrases.csv", "train.tsv")
"""Files of all labelled phrases of the sentences, as in GLUE."""
_DEVELOPMENT_FILES = ("dev.csv", "dev.tsv", "dev_shared.csv")


def load_sst2(folder: Path | None, training: tuple[str, ...] = _TRAINING_FILES) -> Dataset:
    """SST-2 from a folder with one training and one development file (columns text or sentence, and
    label 0 or 1), or the hub.

    Raises:
        TurnoverError: if the folder or its files cannot be used, or the hub cannot be reached.
    """
    if folder is None:
        return _from_hub()
    require_folder(folder, "the SST-2 files")
    train, development = first_of(folder, training), first_of(folder, _DEVELOPMENT_FILES)
    source = f"{train.name} and {development.name} in {folder}"
    splits = (read_labelled_texts(path, CLASSES) for path in (train, development))
    return check_dataset(Dataset("sst2", source, CLASSES, *splits))


def _from_hub() -> Dataset:
    parts = [
        Items(
            [f"{name}-{row}" for row in range(len(split))],
            np.asarray(split["label"], np.int64),
            texts=list(split["sentence"]),
        )
        for name, split in zip(
            _HUB_SPLITS,
            hub_splits(HUB_NAME, "SST-2", _HUB_SPLITS, ("sentence", "label")),
            strict=True,
        )
    ]
    return check_dataset(Dataset("sst2", f"hub data set {HUB_NAME}", CLASSES, *parts))


# Elec

VALIDATION_FILES = ("valid.csv",)
TEST_FILES = ("test.csv", "test_shared.csv")


@dataclass(frozen=True)
class Elec:
    """Reviews to validate and to test on, with the classes of SST-2; `source` states in words where
    they were read from.
    """

    source: str
    validation: Items
    test: Items


def load_elec(folder: Path) -> Elec:
    """The reviews in a folder with `valid.csv` and `test.csv` or `test_shared.csv`: columns text
    and label, others are ignored.

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
        raise TurnoverError(
            f"{path}: all {len(items)} reviews have the label {items.labels[0]}; add reviews of the"
            " other class"
        )
    return items


# IMDB label checks

_FILES = ("reviews.csv", "reviews_shared.csv")
_VERDICTS = ("guessed", "given", "neutral", "off-topic", "no_majority", "not_checked")
_VALIDATION = 5  # one in so many


def load_imdb_checks(folder: Path | None) -> Dataset:
    """The reviews in a folder with `reviews.csv` or `reviews_shared.csv`: columns text, label (0 or
    1), review_id and verdict.

    Raises:
        TurnoverError: if no folder is named, it or its file cannot be used, or the training items
            have one class only.
    """
    if folder is None:
        raise TurnoverError(
            "the IMDB label checks are not on the hub; --path names the folder with them"
        )
    require_folder(folder, "the IMDB label checks")
    path = first_of(folder, _FILES)
    table = read_table(path, ("text", "label", "review_id", "verdict"))
    wrong = label_column(table, "verdict", _VERDICTS) == _VERDICTS.index("guessed")
    marks = [CONFIRMED_ERROR if is_wrong else "" for is_wrong in wrong]
    reviews = Items(
        list(table.columns["review_id"]),
        label_column(table, "label", tuple(map(str, range(len(CLASSES))))),
        texts=text_column(table, "text"),
        injected=marks,
        origin=replace(table.origin, content="text", label="label", rows=np.arange(len(table))),
    )
    order = np.random.default_rng(0).permutation(np.flatnonzero(~wrong))
    validation = np.sort(order[: len(table) // _VALIDATION])
    train = np.setdiff1d(np.arange(len(table)), validation)
    return check_dataset(
        Dataset(
            "imdb-checks",
            f"{path.name} in {folder}",
            CLASSES,
            reviews.take(train),
            reviews.take(validation),
        )
    )


# The demo corpus

FOLDER = Path(str(files("turnover.assets") / "reviews"))


def read_reviews(path: Path) -> Items:
    """One file of the corpus: columns id, text, label (negative or positive) and planted."""
    table = read_table(path, ("id", "text", "label", "planted"))
    return Items(
        list(table.columns["id"]),
        label_column(table, "label", CLASSES),
        texts=text_column(table, "text"),
        injected=list(table.columns["planted"]),
    )


def load_reviews() -> Dataset:
    """800 training and 200 validation film reviews."""
    splits = (read_reviews(FOLDER / f"{name}.csv") for name in ("train", "validation"))
    return check_dataset(Dataset("reviews", "film reviews of the demo corpus", CLASSES, *splits))
