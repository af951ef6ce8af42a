"""The training items of a data set that is no file, such as the digits, as a table: what a patch is then applied to."""

from __future__ import annotations

import io

import pandas as pd

from turnover.data import load_data
from turnover.data.base import Items
from turnover.data.images import png_bytes

_NUMBERED = ("sst2",)
"""Sources whose own files number the classes."""


def packaged_table(name: str) -> tuple[bytes, str, str]:
    """Contents, name and form of the table: CSV with id, text and label, or parquet with id, image (PNG) and label (a class number).

    Raises:
        TurnoverError: if the data set cannot be loaded.
    """
    data = load_data(name)
    if data.kind == "image":
        written = io.BytesIO()
        _image_frame(data.train).to_parquet(written, index=False)
        return written.getvalue(), name, ".parquet"
    labels = data.train.labels if name in _NUMBERED else [data.classes[number] for number in data.train.labels]
    frame = pd.DataFrame({"id": data.train.ids, "text": data.train.texts, "label": labels})
    return frame.to_csv(index=False, lineterminator="\n").encode(), name, ".csv"


def _image_frame(items: Items) -> pd.DataFrame:
    assert items.images is not None
    frame = pd.DataFrame({"id": items.ids, "image": [png_bytes(pixels) for pixels in items.images], "label": items.labels})
    numbers = frame["id"].str.extract(r"^train-(\d+)$")[0]  # as CIFAR-10's files name their images
    return frame if numbers.isna().any() else frame.assign(index=numbers.astype(int))
