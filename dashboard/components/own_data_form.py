"""The fields of the Train page for data of one's own: paths or a name on the hub, and columns. What they say lives in the URL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from turnover.dashboard.components.numbers import whole_number
from turnover.dashboard.views.own_data import clean
from turnover.data.own import FILES, HUB, OwnData
from turnover.data.own.files import ENDINGS
from turnover.data.own.wish import LARGEST, SMALLEST

_TEXTS = {
    "text_column": ("Column of the texts", "guessed"),
    "image_column": ("Column of the images", "guessed"),
    "label_column": ("Column of the labels", "guessed"),
    "id_column": ("Column of the ids", "guessed"),
    "classes": ("File with the names of classes", "one a line, from 0"),
}
"""Fields with their labels and what stands in an empty one."""


def ask_for_place(data: str) -> tuple[str, OwnData]:
    """Where the items are, in files or on the hub; returns `data` of the settings, and the rest as far as it is asked for here."""
    if data == FILES:
        help = f"A file ({', '.join(ENDINGS)}) with texts, images or their paths; or a folder with one folder of images a class"
        train = _field("Training file or folder", "own-train", "its path", help)
        validation = _field("Validation file or folder", "own-validation", "empty: a fifth of each class is drawn", help)
        test = _field("Test file or folder", "own-test", "empty: none", "The finished model is measured on it once")
        return data, clean(OwnData(train, validation, test))
    help = "OWNER/NAME, and :CONFIGURATION where there are several; it is downloaded"
    name = _field("Name on the hub", "own-hub", "such as stanfordnlp/sst2", help)
    train = _field("Training split", "own-train-split", "train")
    validation = _field("Validation split", "own-validation-split", "validation, else test")
    return HUB + name.strip().removeprefix(HUB), clean(OwnData(train_split=train, validation_split=validation))


def ask_for_columns(own: OwnData) -> OwnData:
    """The same with the columns that the user names, and how to read them."""
    keys = {name: f"own-{name.replace('_', '-')}" for name in (*_TEXTS, "size")}
    said: dict[str, Any] = {}
    shown = any(key in st.query_params for key in keys.values())
    with st.expander("Columns, names of classes, size of images", expanded=shown), st.grid(3, min_column_width=200):
        for name, (label, empty) in _TEXTS.items():
            said[name] = _field(label, keys[name], empty)
        said["size"] = whole_number("Side of images, pixels", SMALLEST, LARGEST, None, key=keys["size"], bind="query-params", placeholder="the usual one")
    return clean(replace(own, **said))


def _field(label: str, key: str, placeholder: str, help: str | None = None) -> str:
    return st.text_input(label, key=key, bind="query-params", placeholder=placeholder, help=help) or ""
