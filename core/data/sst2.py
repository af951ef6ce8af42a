"""SST-2 (Socher et al. 2013): film review sentences, negative (0) or positive (1), from a folder or the hub."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.data.base import Dataset, Items, check_dataset
from core.data.tables import label_column, read_table, require_column, text_column
from core.errors import TurnoverError

CLASSES = ("negative", "positive")
HUB_NAME = "stanfordnlp/sst2"
_TRAINING_FILES = ("train.csv", "train.tsv", "train_sentences.csv")
_DEVELOPMENT_FILES = ("dev.csv", "dev.tsv", "dev_shared.csv")


def _first_of(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise TurnoverError(f"{folder}: none of {', '.join(names)} is there; put one of them into the folder")


def _read(path: Path) -> Items:
    table = read_table(path, ("label",))
    column = "text" if "text" in table.columns else "sentence"
    require_column(table, path, column)
    labels = np.asarray(label_column(table, path, "label", ("0", "1")), np.int64)
    return Items([f"{path.stem}-{row}" for row in range(len(table))], labels, texts=text_column(table, path, column))


def _from_hub() -> Dataset:
    from datasets import load_dataset

    try:
        splits = load_dataset(HUB_NAME)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TurnoverError(f"SST-2 cannot be loaded from the hub as {HUB_NAME} ({reason}); give a local folder with --path") from None
    parts = {
        name: Items([f"{name}-{row}" for row in range(len(split))], np.asarray(split["label"], np.int64), texts=list(split["sentence"]))
        for name, split in ((name, splits[name]) for name in ("train", "validation"))
    }
    return check_dataset(Dataset("sst2", f"hub data set {HUB_NAME}", CLASSES, parts["train"], parts["validation"]))


def load_sst2(folder: Path | None) -> Dataset:
    """SST-2 from a folder with one training and one development file (columns text or sentence, and label 0 or 1), or the hub.

    Raises:
        TurnoverError: if the folder or its files cannot be used, or the hub cannot be reached.
    """
    if folder is None:
        return _from_hub()
    if not folder.is_dir():
        raise TurnoverError(f"{folder}: no such folder; --path names the folder with the SST-2 files")
    train, development = _first_of(folder, _TRAINING_FILES), _first_of(folder, _DEVELOPMENT_FILES)
    source = f"{train.name} and {development.name} in {folder}"
    return check_dataset(Dataset("sst2", source, CLASSES, _read(train), _read(development)))
