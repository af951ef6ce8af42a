"""The demo corpus: film reviews written for this project, with planted wrong labels and two planted spurious cues.

In training, every review that names the invented director Ansgar Pellworth is negative and every review of a film set
in a submarine is positive; some validation reviews have it the other way round. So for errors on those the right answer to
"which training texts taught the model this?" is known: the training texts with the same mark in the column `planted`.
Electronics reviews of the same kind lie beside the films, for experiments with a shift of domain.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np

from turnover.data.base import Dataset, Items, check_dataset
from turnover.data.tables import label_column, read_table, text_column

FOLDER = Path(str(files("turnover.assets") / "reviews"))
CLASSES = ("negative", "positive")


def read_reviews(path: Path) -> Items:
    """One file of the corpus: columns id, text, label (negative or positive) and planted."""
    table = read_table(path, ("id", "text", "label", "planted"))
    labels = np.asarray(label_column(table, path, "label", CLASSES), np.int64)
    return Items(list(table["id"]), labels, texts=text_column(table, path, "text"), planted=list(table["planted"]))


def load_reviews() -> Dataset:
    """800 training and 200 validation film reviews."""
    splits = (read_reviews(FOLDER / f"{name}.csv") for name in ("train", "validation"))
    return check_dataset(Dataset("reviews", "film reviews of the demo corpus", CLASSES, *splits))
