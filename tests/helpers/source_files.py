"""Small files of every data source in its real form, and what is made of them with some changed."""

from __future__ import annotations

import csv
import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from turnover.data.base import Dataset, Items
from turnover.data.sources import NAMES, load_data
from turnover.data.sources import images as cifar10
from turnover.data.sources import text as sst2
from turnover.data.sources.images import read_pairs
from turnover.data.sources.text import load_elec
from turnover.data.tables import FILES, OwnData, load_own
from turnover.errors import TurnoverError

Rows = list[tuple[str, int, Any]]
"""Ids, labels and contents."""
Files = Mapping[str, Any]
CHECKED_HEADER = "text,label,review_id,checked,n_given,n_guessed,n_neutral,n_offtopic,verdict\n"
VERDICTS = ("not_checked", "given", "neutral", "no_majority", "off-topic")
JUNK = b"\xff\n"
"""No text, no table, no images."""
PHOTOS = np.random.default_rng(0).integers(0, 256, (23, 32, 32, 3), np.uint8)
LABELS, ROW_BYTES = [row % 10 for row in range(23)], cifar10.ROW_BYTES


def encode(pixels: np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


IMAGES = [encode(pixels) for pixels in PHOTOS]


def parquet(rows: slice = slice(20), row_group: int | None = None, **changes: Any) -> bytes:
    """A file with these photos; `changes` are other columns, None for one to leave out."""
    made = {"index": list(range(100, 123))[rows], "label": LABELS[rows], "image": IMAGES[rows]}
    made, buffer = {**made, **changes}, io.BytesIO()
    kept = {name: cells for name, cells in made.items() if cells is not None}
    pq.write_table(pa.table(kept), buffer, row_group_size=row_group)
    return buffer.getvalue()


def binary(number: int) -> bytes:
    """The number-th file of CIFAR-10's binary version, four photos each."""
    part = slice(4 * number, 4 * number + 4)
    pixels = PHOTOS[part].transpose(0, 3, 1, 2).reshape(-1, ROW_BYTES - 1)
    return np.concatenate((np.array(LABELS[part], np.uint8)[:, None], pixels), 1).tobytes()


def checked_review(number: int, verdict: str) -> str:
    """A row of the IMDB label checks."""
    name, checked = f"test/{'np'[number % 2]}/{number}", int(verdict != "not_checked")
    return f'"Film {number}, or ""not""",{number % 2},{name},{checked},1,4,0,0,{verdict}\n'


def checked_reviews(folder: Path) -> Path:
    """A folder with 60 reviews of the IMDB label checks, every sixth label confirmed wrong."""
    verdicts = ("guessed" if row % 6 == 0 else VERDICTS[row % 5] for row in range(60))
    reviews = "".join(checked_review(row, verdict) for row, verdict in enumerate(verdicts))
    (folder / "reviews_shared.csv").write_text(CHECKED_HEADER + reviews, encoding="utf-8")
    return folder


def checked(verdict: str, rows: Sequence[int]) -> str:
    return CHECKED_HEADER + "".join(checked_review(row, verdict) for row in rows)


FILM = "text,label\nsome,1\nother,0\n"
TOPICS = """"5","why doesn't an ""optical"" mouse, or so, work?","Or else?","It uses an LED.\\nAnd."
"6","What is the best road motorcycle?","","I hear that\\n\\nthe Yamaha is."
"10","Vote?","  ",""
"1","","","Only an answer"
"""
HEAT = '"2","What is heat?","","Motion"\n"2","Ωμέγα?","","so"\n'
STARS = "text,label,stars,title\n"
BROKE = STARS + '"It broke, twice.",0,1.0,Poor\nWorks,1,5.0,"Fine, ""really"""\n'
LOUD = STARS + "Loud,1,4.0,\nThin,0,2.0,x\nGood,1,5.0,y\n"
PAIRS = "test_index,train_index,feature_distance,judgment\n"
TRAIN, CHECKED, TEST = "train.parquet", "reviews_shared.csv", "test_shared.csv"
TWINS, OTHER_TWINS = (f"test_train_near_duplicates{end}.csv" for end in ("_shared", ""))
BATCHES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
BINARY = {name: binary(number) for number, name in enumerate(BATCHES)}
GOOD: dict[str, Files] = {
    "sst2": {"train.csv": FILM, "dev.csv": FILM, "train_phrases.csv": JUNK},
    "sst2-phrases": {"train_phrases.csv": FILM, "dev.csv": FILM, "train_sentences.csv": JUNK},
    "imdb-checks": {CHECKED: checked("given", range(20))},
    "yahoo": {"train.csv": TOPICS, "test.csv": HEAT},
    "cifar10": {TRAIN: parquet(), "test.parquet": parquet(slice(20, 23))},
    "cifar10, binary": BINARY,
    "elec": {"valid.csv": BROKE, TEST: LOUD},
    "pairs": {TWINS: PAIRS + "7,120,0.08,1\n3,0,0.09,2\n"},
}
"""Small files of every source, in its real form."""


def elec(folder: Path) -> Dataset:
    """Its two splits as if it were a training set."""
    found = load_elec(folder)
    return Dataset("elec", found.source, sst2.CLASSES, found.validation, found.test)


LOAD: dict[str, Callable[[Path], Any]] = {
    **{name: partial(load_data, name) for name in NAMES},
    **{"cifar10, binary": partial(load_data, "cifar10"), "elec": elec, "pairs": read_pairs},
}


def loaded(source: str, folder: Path, changes: Files | None = None) -> Any:
    """What a source makes of its good files, some of them changed, or None for a missing one."""
    folder.mkdir(exist_ok=True)
    for name, content in {**GOOD[source], **(changes or {})}.items():
        if content is not None:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return LOAD[source](folder)


def rows(prefix: str, labels: Sequence[int], contents: Sequence[Any]) -> Rows:
    ids = [f"{prefix}-{row}" for row in range(len(labels))]
    return list(zip(ids, labels, contents, strict=True))


def rows_of(items: Items) -> Rows:
    """Ids, labels and texts or pixels."""
    assert items.labels.dtype == np.int64
    contents: list[Any] | None = items.texts
    if items.images is not None:
        assert items.images.dtype == np.uint8 and items.images.shape[1:] == (32, 32, 3)
        contents = [image.tobytes() for image in items.images]
    return list(zip(items.ids, items.labels.tolist(), contents or [], strict=True))


def each(name: str, *cases: tuple[str | bytes | None, str]) -> list[tuple[Files, str]]:
    """Contents of one file and what is said of them, after its name where it begins so."""
    return [({name: made}, name + said if said[0] in ",:" else said) for made, said in cases]


def check_refused(source: str, folder: Path, cases: Sequence[tuple[Files, str]]) -> None:
    """Each of these changes is refused so."""
    for number, (files, reason) in enumerate(cases):
        with pytest.raises(TurnoverError) as raised:
            loaded(source, folder / str(number), files)
        check_said(raised.value, reason, folder)


def check_said(error: TurnoverError, reason: str, place: Path) -> None:
    """One line that holds the reason, what is left out of it written `…`, and the path."""
    said = str(error)
    assert all(part in said for part in reason.split("…")), f"{reason}\n{said}"
    assert "\n" not in said and str(place) in said


# A user's own

Columns = dict[str, list[Any]]
FRAME: Columns = {"text": ["fine", "dull", "good", "bad"] * 3, "label": ["yes", "no"] * 6}


def load_files(path: Path, **wish: Any) -> Dataset:
    """What a user's training file gives, with other wishes by name."""
    return load_own(FILES, OwnData(train=str(path), **wish), 0)


def write_table(path: Path, columns: Columns) -> Path:
    """A table, in the form that the name says, by other writers than ours."""
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        said = (dict(zip(columns, row, strict=True)) for row in rows[1:])
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in said)
        path.write_text("".join(lines), encoding="utf-8")
    elif path.suffix == ".tsv":
        path.write_text("\n".join(map("\t".join, rows)), encoding="utf-8", newline="")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return path


def write_file(folder: Path, content: str | bytes, name: str = "a.csv") -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


PNG = b"\x89PNG\r\n\x1a\n"
"""How a PNG file begins."""


def chunk(kind: bytes, content: bytes) -> bytes:
    """A part of a PNG file."""
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def a_png(width: int, height: int, bits: int, colour_type: int, row: bytes) -> bytes:
    """A file written by hand; its header may promise any number of pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
