"""SST-2 (Socher et al. 2013): film review sentences, negative (0) or positive (1), from a folder or the hub."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from turnover.data.base import Dataset, Items, check_dataset
from turnover.data.hub import hub_splits
from turnover.data.tables import first_of, read_labelled_texts, require_folder

CLASSES = ("negative", "positive")
HUB_NAME = "stanfordnlp/sst2"
_HUB_SPLITS = ("train", "validation")
_TRAINING_FILES = ("train.csv", "train.tsv", "train_sentences.csv")
_PHRASES = ("train_phrases.csv", "train.tsv")
_DEVELOPMENT_FILES = ("dev.csv", "dev.tsv", "dev_shared.csv")


def _from_hub() -> Dataset:
    parts = [
        Items([f"{name}-{row}" for row in range(len(split))], np.asarray(split["label"], np.int64), texts=list(split["sentence"]))
        for name, split in zip(_HUB_SPLITS, hub_splits(HUB_NAME, "SST-2", _HUB_SPLITS, ("sentence", "label")), strict=True)
    ]
    return check_dataset(Dataset("sst2", f"hub data set {HUB_NAME}", CLASSES, *parts))


def load_sst2(folder: Path | None, training: tuple[str, ...] = _TRAINING_FILES) -> Dataset:
    """SST-2 from a folder with one training and one development file (columns text or sentence, and label 0 or 1), or the hub.

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


def load_sst2_phrases(folder: Path | None) -> Dataset:
    """SST-2 as GLUE trains it, on all labelled phrases of the sentences; a folder is looked through for them first.

    Raises:
        TurnoverError: as `load_sst2`.
    """
    return load_sst2(folder, _PHRASES)
