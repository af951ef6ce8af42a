"""CIFAR-10: parquet files, the official binary version, the hub, and files that cannot be used."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core import TurnoverError
from core.data import load_data
from core.data.arrow import parquet_table
from core.data.cifar10 import CLASSES, ROW_BYTES

PHOTOS = np.random.default_rng(0).integers(0, 256, (23, 32, 32, 3), np.uint8)
LABELS = np.arange(23) % 10


def encode(pixels: np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def columns(rows: slice, **changes: Any) -> dict[str, Any]:
    made = {"index": list(range(100, 123))[rows], "image": [encode(pixels) for pixels in PHOTOS[rows]], "label": LABELS[rows].tolist()}
    return {name: column for name, column in (made | changes).items() if column is not None}


def parquet(folder: Path, test: str = "test.parquet", **changes: Any) -> Path:
    """A folder with 20 training and 3 test images; `changes` are other columns of the training file, None for one to leave out."""
    pq.write_table(pa.table(columns(slice(20), **changes)), folder / "train.parquet")
    pq.write_table(pa.table(columns(slice(20, 23))), folder / test)
    return folder


def binary(folder: Path) -> Path:
    """The official binary version with four images a training file and three test images."""
    for number in range(6):
        part = slice(4 * number, 4 * number + 4)
        rows = np.concatenate((LABELS[part, None].astype(np.uint8), PHOTOS[part].transpose(0, 3, 1, 2).reshape(-1, ROW_BYTES - 1)), 1)
        rows.tofile(folder / (f"data_batch_{number + 1}.bin" if number < 5 else "test_batch.bin"))
    return folder


def check_refused(folder: Path, reason: str) -> None:
    with pytest.raises(TurnoverError, match=reason) as raised:
        load_data("cifar10", folder)
    assert "\n" not in str(raised.value)


# Parquet files


@pytest.mark.parametrize("test", ["test.parquet", "test_shared.parquet"])
def test_parquet_files_are_read(test: str, tmp_path: Path) -> None:
    data = load_data("cifar10", parquet(tmp_path, test))
    assert np.array_equal(data.train.images, PHOTOS[:20])  # type: ignore[arg-type]
    assert np.array_equal(data.validation.images, PHOTOS[20:])  # type: ignore[arg-type]
    assert (data.train.labels.tolist(), data.validation.labels.tolist()) == ([*range(10), *range(10)], [0, 1, 2])
    assert (data.train.ids[:2], data.validation.ids) == (["train-100", "train-101"], ["test-120", "test-121", "test-122"])
    assert (data.name, data.kind, data.classes) == ("cifar10", "image", CLASSES)
    assert data.source == f"train.parquet and {test} in {tmp_path}"
    assert (data.train.labels.dtype, data.train.images.dtype) == (np.int64, np.uint8)  # type: ignore[union-attr]


def test_rows_without_an_index_are_counted(tmp_path: Path) -> None:
    assert load_data("cifar10", parquet(tmp_path, index=None)).train.ids == [f"train-{row}" for row in range(20)]


def test_jpeg_and_grey_images_become_rgb(tmp_path: Path) -> None:
    smooth = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
    images = [encode(smooth, "JPEG", quality=95), encode(np.stack([smooth] * 3, 2), "JPEG", quality=95)] * 10
    made = load_data("cifar10", parquet(tmp_path, image=images)).train.images
    assert made is not None and np.abs(made.astype(int) - smooth[None, :, :, None]).max() < 12


def test_row_groups_and_pieces_are_counted_on(tmp_path: Path) -> None:
    many = pa.table({"image": columns(slice(20))["image"] * 60, "label": [row % 10 for row in range(1200)]})
    pq.write_table(many, parquet(tmp_path) / "train.parquet", row_group_size=700)
    train = load_data("cifar10", tmp_path).train
    assert train.ids == [f"train-{row}" for row in range(1200)]
    assert np.array_equal(train.images, np.tile(PHOTOS[:20], (60, 1, 1, 1)))  # type: ignore[arg-type]
    spoiled = many.set_column(1, "label", [[row % 10 for row in range(1199)] + [10]])
    pq.write_table(spoiled, tmp_path / "train.parquet", row_group_size=700)
    check_refused(tmp_path, r"train\.parquet, row 1200, column label: 10")


def test_classes_may_be_named_in_any_order(tmp_path: Path) -> None:
    rows = [f"{number},thing {number}" for number in (3, 1, 0, 2, 9, 8, 7, 6, 5, 4)]
    (parquet(tmp_path) / "classes.csv").write_text("\n".join(["label,name", *rows]))
    assert load_data("cifar10", tmp_path).classes == tuple(f"thing {number}" for number in range(10))


PLACE = r"train\.parquet, row 4, column "
IMAGES = columns(slice(20))["image"]


def with_fourth(values: list[Any], value: Any) -> list[Any]:
    return [*values[:3], value, *values[4:]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image": None}, r"train\.parquet: no column 'image' \(there are: index, label\); rename or add it"),
        ({"label": None}, r"train\.parquet: no column 'label' \(there are: index, image\)"),
        ({"label": ["cat"] * 20}, r"train\.parquet, column label: string instead of whole numbers; convert it"),
        ({"image": ["a.png"] * 20}, r"train\.parquet, column image: string instead of the bytes of image files; convert it"),
        ({"index": [0.5] * 20}, r"train\.parquet, column index: double instead of whole numbers"),
        ({"label": with_fourth([0, 1] * 10, 10)}, PLACE + "label: 10 is not one of 0 to 9; correct it"),
        ({"label": with_fourth([0, 1] * 10, -1)}, PLACE + "label: -1 is not one of 0 to 9"),
        ({"label": with_fourth([0, 1] * 10, None)}, PLACE + "label: None is not one of 0 to 9"),
        ({"label": [7] * 20}, "all 20 training items have the label 'horse'; a classifier needs two classes"),
        ({"index": with_fourth(list(range(20)), None)}, PLACE + "index: there is none; give every image one"),
        ({"index": with_fourth(list(range(20)), 2)}, "row 4 of the training split repeats the id 'train-2'; make ids unique"),
        ({"image": with_fourth(IMAGES, None)}, PLACE + "image: there is no image; add one or remove the row"),
        ({"image": with_fourth(IMAGES, b"junk")}, PLACE + "image: not an image that can be read; give a PNG"),
        ({"image": with_fourth(IMAGES, IMAGES[3][:500])}, PLACE + r"image: the image is damaged \(.*\); save it again"),
        ({"image": with_fourth(IMAGES, encode(PHOTOS[3, :30]))}, PLACE + "image: 32 x 30 pixels instead of 32 x 32; scale it"),
    ],
)
def test_columns_are_checked(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    check_refused(parquet(tmp_path, **changes), reason)


@pytest.mark.parametrize("keep", [0, 3, 200, 0.5, 0.9])
def test_a_parquet_file_that_is_torn_is_refused(keep: float, tmp_path: Path) -> None:
    file = parquet(tmp_path) / "train.parquet"
    content = file.read_bytes()
    file.write_bytes(content[: int(keep if keep >= 1 or not keep else keep * len(content))])
    check_refused(tmp_path, r"train\.parquet: not a readable parquet file \(.*\); write it again")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table(columns(slice(20))).slice(0, 0), parquet(tmp_path) / "test.parquet")
    check_refused(tmp_path, "the validation split is empty; add rows")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([f"{number},a{number}" for number in range(9)], r"classes\.csv: 9 rows instead of 10; write one a class"),
        ([f"{min(number, 8)},a{number}" for number in range(10)], r"classes\.csv, row 10, column label: the label 8 occurs twice"),
        ([f"{number + 1},a{number}" for number in range(10)], r"classes\.csv, row 10, column label: the label '10' is not one of 0, 1"),
        ([f"{number},a{min(number, 8)}" for number in range(10)], r"classes\.csv, row 10: the class name 'a8' occurs twice; make names unique"),
        (["0,", *(f"{number},a{number}" for number in range(1, 10))], r"classes\.csv, row 1: the class name is empty; write one"),
    ],
)
def test_class_names_are_checked(rows: list[str], reason: str, tmp_path: Path) -> None:
    (parquet(tmp_path) / "classes.csv").write_text("\n".join(["label,name", *rows]))
    check_refused(tmp_path, reason)


# The binary version


@pytest.mark.parametrize("inside", [True, False])
def test_the_binary_version_is_read(inside: bool, tmp_path: Path) -> None:
    """From its own folder, and from the one that it was unpacked in."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    binary(folder)
    data = load_data("cifar10", folder if inside else tmp_path)
    assert np.array_equal(data.train.images, PHOTOS[:20])  # type: ignore[arg-type]
    assert np.array_equal(data.validation.images, PHOTOS[20:])  # type: ignore[arg-type]
    assert np.array_equal(data.train.labels, LABELS[:20])
    assert (data.train.ids[-1], data.validation.ids[-1], data.classes) == ("train-19", "test-2", CLASSES)
    assert data.source == f"the binary version in {folder}"
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    assert load_data("cifar10", tmp_path).classes == tuple("abcdefghij")


@pytest.mark.parametrize(("size", "row", "there"), [(2 * ROW_BYTES + 100, 3, "100"), (ROW_BYTES - 1, 1, "3,072"), (0, 1, "0")])
def test_a_truncated_file_is_refused_with_its_row(size: int, row: int, there: str, tmp_path: Path) -> None:
    file = binary(tmp_path) / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:size])
    check_refused(tmp_path, rf"data_batch_3\.bin, row {row}: truncated, {there} bytes instead of 3,073; get the file again")


def test_a_label_out_of_range_is_refused_with_its_row(tmp_path: Path) -> None:
    file = binary(tmp_path) / "test_batch.bin"
    content = bytearray(file.read_bytes())
    content[ROW_BYTES] = 12
    file.write_bytes(content)
    check_refused(tmp_path, r"test_batch\.bin, row 2: the label 12 is not one of 0 to 9; get the file again")


# Folders


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    check_refused(tmp_path / "nowhere", "nowhere: no such folder; --path names the folder with the CIFAR-10 files")
    check_refused(tmp_path, r"neither train\.parquet nor data_batch_1\.bin is there; put the CIFAR-10 files into the folder")
    (parquet(tmp_path) / "test.parquet").unlink()
    check_refused(tmp_path, r"none of test\.parquet, test_shared\.parquet is there")
    (binary(tmp_path) / "data_batch_4.bin").unlink()
    check_refused(tmp_path, r"data_batch_4\.bin: no such file; check the path")


def test_a_program_in_a_pickled_file_is_not_run(tmp_path: Path) -> None:
    class Program:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "it ran",)

    for name, reason in (("data_batch_1", "pickled and not read"), ("data_batch_1.bin", "truncated"), ("train.parquet", "not a readable parquet file")):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (parquet(folder) if "parquet" in name else folder).joinpath(name).write_bytes(pickle.dumps(Program()))
        check_refused(folder, reason)
    assert pickle.loads(pickle.dumps(Program())) is None and (tmp_path / "it ran").exists()


@pytest.mark.parametrize("name", ["cifar-10-batches-py", "data_batch_1"])
def test_the_pickled_version_is_refused_with_the_other_one(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    check_refused(tmp_path, rf"{name}: the python version is pickled and not read; get the binary version, cifar-10-binary\.tar\.gz")


# Parquet files that say of themselves what is not so


def with_footer(folder: Path, at: bytes, put: bytes) -> Path:
    """The parquet files, the first of these bytes in the footer of the training file replaced by others."""
    path = parquet(folder, index=None) / "train.parquet"
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    data, footer = content[: -8 - length], content[-8 - length : -8]
    assert at in footer
    footer = footer.replace(at, put, 1)
    path.write_bytes(data + footer + len(footer).to_bytes(4, "little") + content[-4:])
    return folder


def varint(number: int) -> bytes:
    """A number in Thrift's compact form."""
    word, made = (number << 1) ^ (number >> 63), bytearray()
    while word > 127:
        made.append(word & 127 | 128)
        word >>= 7
    return bytes([*made, word])


COUNT = bytes([0x16]) + varint(20)
"""The number of rows as it stands in the footer, before those of row groups."""


@pytest.mark.parametrize("count", [0, 3, 21, 63, 10**12])
def test_a_wrong_number_of_rows_is_told_and_no_image_made_up(count: int, tmp_path: Path) -> None:
    check_refused(with_footer(tmp_path, COUNT, COUNT[:1] + varint(count)), rf"train\.parquet: 20 rows, where its own count says {count:,}; write it again")


def test_a_negative_number_of_rows_is_one_line(tmp_path: Path) -> None:
    check_refused(with_footer(tmp_path, COUNT, COUNT[:1] + varint(-5)), r"train\.parquet: ")


def test_a_name_of_a_column_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    folder = with_footer(tmp_path, b"\x05image", b"\x05\xffmage")
    check_refused(folder, r"train\.parquet: not a readable parquet file")
    with pytest.raises(TurnoverError, match=r"^own: not a readable parquet file .*utf-8"):
        parquet_table((folder / "train.parquet").read_bytes(), "own")


# The hub


def hub(images: list[Any], labels: list[int]) -> datasets.DatasetDict:
    split = datasets.Dataset.from_dict({"img": images, "label": labels}).cast_column("img", datasets.Image())
    return datasets.DatasetDict({"train": split, "test": split.select(range(2))})


def test_the_hub_s_images_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = hub([{"bytes": encode(pixels), "path": None} for pixels in PHOTOS], LABELS.tolist())
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"uoft-cs/cifar10": splits}[name])
    data = load_data("cifar10")
    assert np.array_equal(data.train.images, PHOTOS)  # type: ignore[arg-type]
    assert np.array_equal(data.validation.images, PHOTOS[:2])  # type: ignore[arg-type]
    assert (data.train.labels.tolist(), data.validation.ids) == (LABELS.tolist(), ["test-0", "test-1"])
    assert (data.classes, data.source) == (CLASSES, "hub data set uoft-cs/cifar10")


def test_the_hub_s_images_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = hub([{"bytes": encode(PHOTOS[0]), "path": None}, {"bytes": b"junk", "path": None}], [0, 1])
    monkeypatch.setattr(datasets, "load_dataset", lambda _: splits)
    with pytest.raises(TurnoverError, match=r"^uoft-cs/cifar10, split train, row 2, column image: not an image that can be read"):
        load_data("cifar10")
