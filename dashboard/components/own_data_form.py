"""The fields of the Train page for data of one's own: paths or a name on the hub, and columns. What they say lives in the URL."""

from __future__ import annotations

import streamlit as st

from core.data.own import FILES, HUB, OwnData
from core.data.own.files import ENDINGS
from core.data.own.wish import LARGEST, SMALLEST
from dashboard.views.own_data import clean

_GUESSED = "guessed"
_COLUMNS = {"text_column": "texts", "image_column": "images", "label_column": "labels", "id_column": "ids"}


def ask_for_own_data(data: str) -> tuple[str, OwnData]:
    """The fields for files, or for the hub; returns `data` of the settings, and the rest."""
    said: dict[str, str | int | None] = {}
    if data == FILES:
        help = f"A file ({', '.join(ENDINGS)}) with texts, images or their paths; or a folder with one folder of images a class"
        said["train"] = _field("Training items", "own-train", "path of a file or folder", help)
        said["validation"] = _field("Validation items", "own-validation", "empty: a fifth of each class is drawn", help)
        said["test"] = _field("Test items", "own-test", "empty: none", "The finished model is measured on them once")
    else:
        name = _field("Name on the hub", "own-hub", "such as stanfordnlp/sst2", "OWNER/NAME, and :CONFIGURATION where there are several; it is downloaded")
        data = HUB + name.strip().removeprefix(HUB)
        said["train_split"] = _field("Training split", "own-train-split", "train")
        said["validation_split"] = _field("Validation split", "own-validation-split", "validation, else test")
    with st.expander("Columns, names of classes, size of images"):
        for name, label in _COLUMNS.items():
            said[name] = _field(f"Column of the {label}", f"own-{name.replace('_', '-')}", _GUESSED)
        said["classes"] = _field(
            "File with the names of classes", "own-classes", "empty: as labels are written", "One a line, where labels number classes from 0"
        )
        said["size"] = st.number_input("Side of images, pixels", SMALLEST, LARGEST, None, key="own-size", bind="query-params", placeholder="usual, at most 64")
    return data, clean(OwnData(**said))  # type: ignore[arg-type]


def _field(label: str, key: str, placeholder: str, help: str | None = None) -> str:
    return st.text_input(label, key=key, bind="query-params", placeholder=placeholder, help=help) or ""
