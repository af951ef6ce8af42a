"""Fuzzing of the files that users train on, in the forms in which data sets are published: small
whole ones, spoiled.
"""

from __future__ import annotations

import csv
import io
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tests.nightly.soak.mutations import mutated_bytes, mutated_table
from turnover.data.base import Dataset
from turnover.data.sources.images import CLASSES, ROW_BYTES, SIDE, load_cifar10
from turnover.data.sources.text import Elec, load_elec, load_sst2
from turnover.data.sources.yahoo import CLASSES as TOPICS
from turnover.data.sources.yahoo import load_yahoo
from turnover.storage.progress import VARIABLE

Files = dict[str, bytes]
Corpus = tuple[Callable[[Path], Dataset | Elec], Files]
"""How it is loaded, and the files in its folder."""

_SENTENCES = pd.DataFrame(
    [
        (f"a “{word}”, film {number}", number % 2)
        for number, word in enumerate(["good", "bad", "slow"] * 4)
    ],
    columns=["text", "label"],
)
_PHOTOS = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)


def _rows(
    table: pd.DataFrame, separator: str = ",", header: bool = True, quoting: int = csv.QUOTE_ALL
) -> bytes:
    return table.to_csv(index=False, sep=separator, header=header, quoting=quoting).encode()  # type: ignore[call-overload, no-any-return]


def _photos() -> pd.DataFrame:
    """A table of image files, each in another form."""
    cells = []
    for pixels, form in zip(_PHOTOS, ("PNG", "JPEG", "BMP", "WEBP"), strict=True):
        written = io.BytesIO()
        Image.fromarray(pixels).save(written, form)
        cells.append(written.getvalue())
    return pd.DataFrame({"index": [7, 5, 3, 1], "image": cells, "label": [0, 9, 0, 1]})


def _batch() -> bytes:
    """Images of the binary version of CIFAR-10."""
    return np.concatenate(
        (
            np.array([[0], [9], [0], [1]], np.uint8),
            _PHOTOS.transpose(0, 3, 1, 2).reshape(-1, ROW_BYTES - 1),
        ),
        1,
    ).tobytes()


def corpora() -> dict[str, Corpus]:
    """A small whole one of each."""
    answers = pd.DataFrame(
        [
            (
                str(1 + number % 10),
                f'why "{number}"?',
                "so\\nmuch",
                "" if number % 3 else "since, äh",
            )
            for number in range(12)
        ]
    )
    photos = _photos().to_parquet(index=False)
    classes = _rows(pd.DataFrame({"label": range(len(CLASSES)), "name": CLASSES}))
    batches = {
        name: _batch()
        for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
    }
    return {
        "sst2.csv": (load_sst2, {"train.csv": _rows(_SENTENCES), "dev.csv": _rows(_SENTENCES)}),
        "sst2.tsv": (
            load_sst2,
            {
                name: _rows(_SENTENCES, "\t", quoting=csv.QUOTE_NONE)
                for name in ("train.tsv", "dev.tsv")
            },
        ),
        "elec": (
            load_elec,
            {name: _rows(_SENTENCES.assign(stars=4.0)) for name in ("valid.csv", "test.csv")},
        ),
        "yahoo": (
            load_yahoo,
            {
                **{name: _rows(answers, header=False) for name in ("train.csv", "test.csv")},
                "classes.txt": "\n".join(TOPICS).encode(),
            },
        ),
        "cifar10.parquet": (
            load_cifar10,
            {"train.parquet": photos, "test.parquet": photos, "classes.csv": classes},
        ),
        "cifar10.bin": (load_cifar10, {**batches, "batches.meta.txt": "\n".join(CLASSES).encode()}),
    }


def _spoiled(chance: random.Random, name: str, content: bytes) -> bytes:
    """A file as bytes that are none, or a whole one with odd cells; of parquet also with an odd
    byte in what it says of itself.
    """
    if not name.endswith(".parquet") or chance.random() < 0.2:
        return mutated_bytes(chance, content)
    if chance.random() < 0.4:
        footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        place = chance.randrange(footer, len(content) - 8)
        return (
            content[:place]
            + bytes([chance.choice((content[place] ^ 1 << chance.randrange(8), 0x7E, 0xFF))])
            + content[place + 1 :]
        )
    table = pd.read_parquet(io.BytesIO(content))
    if chance.random() < 0.5:
        return mutated_table(chance, table).to_parquet(index=False)
    place = chance.randrange(len(table))
    return table.assign(
        image=[
            mutated_bytes(chance, cell) if row == place else cell
            for row, cell in enumerate(table["image"])
        ]
    ).to_parquet(index=False)


def fuzz_data(folder: Path) -> Callable[[random.Random], object]:
    """SST-2, Elec, Yahoo Answers, and CIFAR-10 as parquet and in the binary version."""
    os.environ[VARIABLE] = str(folder / "progress.json")  # no bars
    known, place = corpora(), folder / "corpus"
    for load, files in known.values():  # whole ones are read
        _written(place, files)
        load(place)

    def one(chance: random.Random) -> None:
        load, files = known[chance.choice(list(known))]
        spoiled = chance.sample(list(files), chance.choice((1, 1, 2)))
        _written(
            place,
            {
                name: _spoiled(chance, name, content) if name in spoiled else content
                for name, content in files.items()
            },
        )
        data = load(place)
        for items in (data.validation, data.test if isinstance(data, Elec) else data.train):
            assert len(items.ids) == len(items.labels) == len(items.contents) > 0

    return one


def _written(place: Path, files: Files) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
