"""One's own images: folders of class folders, tables of paths and of bytes, in one form and size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from core.data.base import Dataset
from core.data.images import fit_image, image_size, open_image
from core.data.own import FILES, OwnData, load_own
from core.data.own.share import split_off
from core.errors import TurnoverError
from tests.helpers.fake_runs import png

CLASSES = ("blue", "red")


def load(path: Path, **wish: Any) -> Dataset:
    return load_own(FILES, OwnData(train=str(path), **wish), 0)


def picture(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def folder_of(folder: Path, sizes: Sequence[tuple[int, int]] = ((12, 16),) * 10, first: int = 0) -> Path:
    """As many images of each class as there are sizes."""
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for place, size in enumerate(sizes):
            (folder / name / f"{place}.png").write_bytes(png(picture(first + 2 * place + number, *size)))
    return folder


def test_a_folder_of_class_folders_gives_its_pixels_classes_and_paths(tmp_path: Path) -> None:
    train, validation = folder_of(tmp_path / "train"), folder_of(tmp_path / "val", first=100)
    data = load(train, validation=str(validation))
    assert (data.kind, data.classes, data.name) == ("image", CLASSES, "train") and data.notes == ()
    assert data.train.ids == [f"{name}/{place}.png" for name in CLASSES for place in range(10)]
    assert data.train.images is not None and data.validation.images is not None
    assert (
        data.train.images.shape == (20, 12, 16, 3) and np.array_equal(data.train.images[12], picture(5)) and data.train.labels.tolist() == [0] * 10 + [1] * 10
    )
    assert np.array_equal(data.validation.images[0], picture(100))


@pytest.mark.parametrize("form", ["paths.csv", "paths.jsonl", "bytes.parquet", "hub.parquet"])
def test_tables_of_images_give_the_same(tmp_path: Path, form: str) -> None:
    expected = load(folder_of(tmp_path / "train"))
    paths = [f"train/{name}/{place}.png" for name in CLASSES for place in range(10)]
    frame = pd.DataFrame({"id": [path.removeprefix("train/") for path in paths], "image": paths, "label": [path.split("/")[1] for path in paths]})
    if form.endswith(".parquet"):
        contents = [(tmp_path / path).read_bytes() for path in paths]
        frame["image"] = contents if form.startswith("bytes") else [{"bytes": content, "path": None} for content in contents]
        frame.to_parquet(tmp_path / form)
    elif form.endswith(".csv"):
        frame.to_csv(tmp_path / form, index=False)
    else:
        frame.to_json(tmp_path / form, orient="records", lines=True)
    assert load(tmp_path / form).fingerprint() == expected.fingerprint()


def test_images_of_other_sizes_are_fitted_to_the_most_usual_one_and_it_is_said(tmp_path: Path) -> None:
    data = load(folder_of(tmp_path / "a", [(12, 16)] * 8 + [(30, 20), (9, 9)]))
    assert "most of the 20 images are 16 x 12 pixels; 4 are scaled and cropped to 16 x 12; choose another with --size" in data.notes
    content, images = (tmp_path / "a" / "blue" / "8.png").read_bytes(), dict[str, np.ndarray]()
    for items in (data.train, data.validation):
        assert items.images is not None
        images |= dict(zip(items.ids, items.images, strict=True))
    assert np.array_equal(images["blue/8.png"], fit_image(open_image(content, "", colour=True), 12, 16))


@pytest.mark.parametrize(("size", "wish", "shape"), [((80, 90), None, (32, 32)), ((64, 48), None, (64, 48)), ((4, 20), None, (32, 32)), ((12, 16), 8, (8, 8))])
def test_large_images_get_32_pixels_and_the_user_can_say(tmp_path: Path, size: tuple[int, int], wish: int | None, shape: tuple[int, int]) -> None:
    data = load(folder_of(tmp_path / "a", [size] * 5), size=wish)
    assert data.train.images is not None and data.train.images.shape[1:] == (*shape, 3)
    assert any("are scaled and cropped" in note for note in data.notes) is (shape != size)


def test_grey_images_are_read_as_colour_images_are(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a")
    (folder / "red" / "grey.png").write_bytes(png(picture(0)[..., 0]))
    data = load(folder)
    assert data.train.images is not None and data.train.images.shape[-1] == 3


def test_what_lies_beside_the_images_is_left_out_and_said(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a")
    (folder / "readme.txt").write_text("x")
    (folder / "red" / "list.csv").write_text("x")
    (folder / "red" / ".DS_Store").write_text("x")
    (folder / "red" / "bad.png").write_bytes(b"no image")
    data = load(folder)
    assert len(data.train) + len(data.validation) == 20
    assert any("2 files are no images in a class's folder and were left out: readme.txt, red/list.csv" in note for note in data.notes)
    assert any("a/red/bad.png: not an image that can be read; 1 file left out for that" in note for note in data.notes)


def test_many_damaged_images_are_refused_with_the_first(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a")
    for place in range(3):
        (folder / "blue" / f"{place}.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    with pytest.raises(TurnoverError, match=r"a/blue/0\.png: .*; more than a tenth of the 20 rows cannot be used"):
        load(folder)


def test_a_decompression_bomb_is_not_expanded(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a")
    Image.new("1", (20_000, 20_000)).save(folder / "red" / "bomb.png")
    Image.new("1", (7000, 7000)).save(folder / "red" / "small-bomb.png")
    notes = " ".join(load(folder).notes)
    assert "/bomb.png: too many pixels, the limit is 40,000,000 in all; 1 file left out" in notes
    assert "small-bomb.png: 7000 x 7000 pixels, the limit is 40,000,000 in all; 1 file left out" in notes


def test_links_in_a_folder_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a")
    (folder / "red" / "link.png").symlink_to(folder / "blue" / "0.png")
    with pytest.raises(TurnoverError, match=r"link\.png: a link; put the file itself there"):
        load(folder)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/secret.png", "link.png", "way/0.png"])
def test_paths_in_a_table_stay_in_its_folder(tmp_path: Path, path: str) -> None:
    folder = folder_of(tmp_path / "in" / "a").parent
    (tmp_path / "secret.png").write_bytes(png(picture(0)))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "way").symlink_to(folder / "a" / "red")
    frame = pd.DataFrame({"image": ["a/red/0.png", "a/blue/0.png", path], "label": ["red", "blue", "red"]})
    frame.to_csv(folder / "t.csv", index=False)
    with pytest.raises(TurnoverError, match=r"t\.csv, row 3, column image: .* leads out of the folder of .* or over a link; put the image file there"):
        load(folder / "t.csv")


@pytest.mark.parametrize(
    ("made", "reason"), [((), "no folders with images in it"), (("train/a", "val/a"), "its folders train and val are splits, not classes")]
)
def test_folders_that_hold_no_classes_are_refused(tmp_path: Path, made: tuple[str, ...], reason: str) -> None:
    for inner in made:
        (tmp_path / inner).mkdir(parents=True)
        (tmp_path / inner / "0.png").write_bytes(png(picture(0)))
    with pytest.raises(TurnoverError, match=reason):
        load(tmp_path)


def test_texts_to_validate_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\nx,red\n")
    with pytest.raises(TurnoverError, match=r"t\.csv: no column 'image'"):
        load(folder_of(tmp_path / "a"), validation=str(tmp_path / "t.csv"))


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_size_of_a_file_is_the_one_it_is_opened_with(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture(0)).save(tmp_path / "a.jpg", exif=exif)
    content = (tmp_path / "a.jpg").read_bytes()
    assert image_size(content) == open_image(content, "", colour=True).size[::-1]
    assert image_size(b"no image") is None


# The share for validation

LABELS = some.lists(some.integers(0, 3), min_size=1, max_size=60)


@given(LABELS, some.integers(1, 40), some.integers(0, 5))
def test_the_share_is_disjoint_of_every_class_and_holds_no_content_of_the_rest(labels: list[int], contents: int, seed: int) -> None:
    known = [row % contents for row in range(len(labels))]
    train, validation = split_off(np.array(labels), known, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert not {known[row] for row in train} & {known[row] for row in validation}
    again = split_off(np.array(labels), known, seed)
    assert np.array_equal(train, again[0]) and np.array_equal(validation, again[1])


@given(LABELS, some.integers(0, 5))
def test_where_all_contents_differ_every_class_gives_its_share(labels: list[int], seed: int) -> None:
    train, validation = split_off(np.array(labels), range(len(labels)), seed)
    for number in {*labels}:
        count = labels.count(number)
        drawn = sum(labels[row] == number for row in validation)
        assert drawn == (max(1, int(0.2 * count + 0.5)) if count > 1 else 0) and sum(labels[row] == number for row in train) == count - drawn


def test_a_class_of_one_content_cannot_be_split(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nx,1\ny,0\n")
    with pytest.raises(TurnoverError, match="no class has two different items, so none can be spared for validation"):
        load(tmp_path / "a.csv")
