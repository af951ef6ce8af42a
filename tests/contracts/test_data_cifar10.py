"""CIFAR-10's two forms: what is damaged or untrue is one line, and no program in a file is run."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.helpers.source_files import (
    BINARY,
    IMAGES,
    PHOTOS,
    ROW_BYTES,
    TRAIN,
    Files,
    binary,
    check_refused,
    each,
    encode,
    loaded,
    parquet,
)
from turnover import TurnoverError
from turnover.data.tables.arrow import parquet_table


def fourth(column: str, value: Any, cells: Sequence[Any] = range(20)) -> bytes:
    """The training photos with another value in the fourth row of a column."""
    return parquet(**{column: [*cells[:3], value, *cells[4:]]})


def class_table(labels: Sequence[object], names: Sequence[object]) -> str:
    lines = (f"{label},{name}\n" for label, name in zip(labels, names, strict=True))
    return "label,name\n" + "".join(lines)


def footed(at: bytes, put: bytes) -> bytes:
    """The training photos, the first of these bytes in the file's footer replaced by others."""
    content = parquet(index=None)
    length = int.from_bytes(content[-8:-4], "little")
    start, footer = content[: -8 - length], content[-8 - length : -8]
    assert at in footer
    footer = footer.replace(at, put, 1)
    return start + footer + len(footer).to_bytes(4, "little") + content[-4:]


def counting(number: int) -> bytes:
    """The photos in a file that says it has so many rows, in Thrift's compact form."""

    def varint(value: int) -> bytes:
        word, made = (value << 1) ^ (value >> 63), bytearray([0x16])
        while word > 127:
            made.append(word & 127 | 128)
            word >>= 7
        return bytes([*made, word])

    return footed(varint(20), varint(number))


FLAGS, TEN = [0, 1] * 10, range(10)
FIRST_WRONG = BINARY["test_batch.bin"][:ROW_BYTES] + b"\x0c" + binary(5)[ROW_BYTES + 1 :]
TORN = ": not a readable parquet file (…); write it again"
NO_LABEL, NO_IMAGE = pa.array([], pa.int64()), pa.array([], pa.binary())
PICKLED = ": the python version is pickled and not read; get … cifar-10-binary.tar.gz"
COUNTS = ((number, f": 20 rows, where its own count says {number:,};") for number in (0, 21, 10**9))
REFUSED: dict[str, list[tuple[Files, str]]] = {
    "cifar10": [
        *each(
            TRAIN,
            (parquet(image=None), ": no column 'image' (there are: index, label); rename or add"),
            (parquet(label=None), ": no column 'label' (there are: index, image); rename or add"),
            (parquet(label=["cat"] * 20), ", row 1, column label: 'cat' is not one of 0 to 9"),
            (parquet(image=["a.png"] * 20), ", row 1, column image: 'a.png' is not the bytes"),
            (parquet(index=[0.5] * 20), ", row 1, column index: 0.5 is not a whole number"),
            (parquet(label=[7] * 20), "all 20 training items have the label 'horse'; a classifier"),
            (fourth("label", 10, FLAGS), ", row 4, column label: 10 is not one of 0 to 9; correct"),
            (fourth("label", -1, FLAGS), ", row 4, column label: -1 is not one of 0 to 9; correct"),
            (fourth("label", None, FLAGS), ", row 4, column label: None is not one of 0 to 9"),
            (fourth("index", None), ", row 4, column index: None is not a whole number; give"),
            (fourth("index", 2), "row 4 of the training split repeats the id 'train-2'"),
            (fourth("image", None, IMAGES[:20]), ", row 4, column image: there is no image; add"),
            (fourth("image", b"junk", IMAGES[:20]), ", row 4, column image: not an image"),
            (fourth("image", IMAGES[3][:500], IMAGES[:20]), ", row 4, column image: the image is"),
            (fourth("image", encode(PHOTOS[3, :30]), IMAGES[:20]), ", row 4, column image: 32 x"),
            *((parquet()[:kept], TORN) for kept in (3, 200, 20_000, -5)),
            (b"", ": the file is empty; add rows"),
            *((counting(number), reason) for number, reason in COUNTS),
            (counting(-5), ": "),
            (footed(b"\x05image", b"\x05\xffmage"), ": not a readable parquet file"),
            (None, "neither train.parquet nor data_batch_1.bin is there; put the CIFAR-10 files"),
        ),
        (
            {"test.parquet": parquet(index=None, label=NO_LABEL, image=NO_IMAGE)},
            "no rows; add some",
        ),
        *each(
            "classes.csv",
            (class_table(range(9), range(9)), ": 9 rows instead of 10; write one a class"),
            (class_table([*range(9), 8], TEN), ", row 10, column label: the label 8 occurs twice;"),
            (class_table(range(1, 11), TEN), ", row 10, column label: the label '10' is not one"),
            (class_table(TEN, [*range(9), 8]), ", row 10: the class name '8' occurs twice"),
            (class_table(TEN, ["", *range(9)]), ", row 1: the class name is empty; write one"),
        ),
        ({TRAIN: None, "cifar-10-batches-py/x": ""}, f"cifar-10-batches-py{PICKLED}"),
        ({TRAIN: None, "data_batch_1/x": ""}, f"data_batch_1{PICKLED}"),
    ],
    "cifar10, binary": [
        *each(
            "data_batch_3.bin",
            (binary(2)[: 2 * ROW_BYTES + 100], ", row 3: truncated, 100 bytes instead of 3,073"),
            (binary(2)[: ROW_BYTES - 1], ", row 1: truncated, 3,072 bytes instead of 3,073"),
            (b"", ", row 1: truncated, 0 bytes instead of 3,073; get the file again"),
            (None, ": no such file; check the path"),
        ),
        *each("test_batch.bin", (FIRST_WRONG, ", row 2: the label 12 is not one of 0 to 9; get")),
        *each("batches.meta.txt", ("a\nb\n", ": 2 class names instead of 10; write one a line")),
    ],
}


@pytest.mark.parametrize("source", REFUSED)
def test_what_cannot_be_used_is_one_line_that_says_where(source: str, tmp_path: Path) -> None:
    check_refused(source, tmp_path, REFUSED[source])


def test_a_program_in_a_pickled_file_is_not_run(tmp_path: Path) -> None:
    class Program:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "it ran",)

    program = pickle.dumps(Program())
    cases = {"data_batch_1": "pickled", "data_batch_1.bin": "truncated", TRAIN: "parquet"}
    for name, reason in cases.items():
        with pytest.raises(TurnoverError, match=reason):
            loaded("cifar10", tmp_path / reason, {TRAIN: None, name: program})
    assert not (tmp_path / "it ran").exists()
    assert pickle.loads(program) is None and (tmp_path / "it ran").exists()


def test_a_name_of_a_column_that_is_no_text_is_one_line() -> None:
    with pytest.raises(TurnoverError, match=r"^own: not a readable parquet file .*utf-8"):
        parquet_table(footed(b"\x05image", b"\x05\xffmage"), "own")
