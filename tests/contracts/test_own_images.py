"""One's own images: class folders, tables of paths and of bytes, in one form and size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.helpers.fake_runs import png
from tests.helpers.source_files import PNG, a_png, check_said, load_files
from turnover import TurnoverError
from turnover.data.base import Dataset
from turnover.data.images import fit_image, open_image

CLASSES = ("blue", "red")


def picture(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def folder_of(
    folder: Path, sizes: Sequence[tuple[int, int]] = ((12, 16),) * 10, first: int = 0
) -> Path:
    """As many images of each class as there are sizes."""
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for place, size in enumerate(sizes):
            content = png(picture(first + 2 * place + number, *size))
            (folder / name / f"{place}.png").write_bytes(content)
    return folder


def images_of(data: Dataset) -> dict[str, np.ndarray]:
    """All images by id."""
    found: dict[str, np.ndarray] = {}
    for items in (data.train, data.validation):
        assert items.images is not None
        found |= dict(zip(items.ids, items.images, strict=True))
    return found


# What is read


def test_a_folder_of_class_folders_gives_its_pixels_classes_and_paths(tmp_path: Path) -> None:
    train, validation = folder_of(tmp_path / "train"), folder_of(tmp_path / "val", first=100)
    data = load_files(train, validation=str(validation))
    assert (data.kind, data.classes, data.name, data.notes) == ("image", CLASSES, "train", ())
    assert data.train.ids == [f"{name}/{place}.png" for name in CLASSES for place in range(10)]
    assert data.train.labels.tolist() == [0] * 10 + [1] * 10
    assert data.train.images is not None and data.validation.images is not None
    expected = [picture(2 * place + number) for number in range(2) for place in range(10)]
    assert np.array_equal(data.train.images, expected)
    assert np.array_equal(data.validation.images[0], picture(100))


@pytest.mark.parametrize("form", ["paths.csv", "paths.jsonl", "bytes.parquet", "hub.parquet"])
def test_tables_of_images_give_the_same(tmp_path: Path, form: str) -> None:
    expected, file = load_files(folder_of(tmp_path / "train")), tmp_path / form
    ids = [f"{name}/{place}.png" for name in CLASSES for place in range(10)]
    labels = [name.partition("/")[0] for name in ids]
    frame = pd.DataFrame({"id": ids, "image": [f"train/{name}" for name in ids], "label": labels})
    if form.endswith(".parquet"):
        contents = [(tmp_path / path).read_bytes() for path in frame["image"]]
        structs = [{"bytes": content, "path": None} for content in contents]
        frame["image"] = contents if form.startswith("bytes") else structs
        frame.to_parquet(file)
    elif form.endswith(".csv"):
        frame.to_csv(file, index=False)
    else:
        frame.to_json(file, orient="records", lines=True)
    assert load_files(file).fingerprint() == expected.fingerprint()


def test_images_of_other_sizes_are_fitted_to_the_most_usual_one_and_it_is_said(
    tmp_path: Path,
) -> None:
    data = load_files(folder_of(tmp_path / "a", [(12, 16)] * 8 + [(30, 20), (9, 9)]))
    said = "most of the 20 images are 16 x 12 pixels; 4 are scaled and cropped to 16 x 12"
    assert f"{said}; choose another with --size" in data.notes
    content = (tmp_path / "a" / "blue" / "8.png").read_bytes()
    fitted = fit_image(open_image(content, "", colour=True), 12, 16)
    assert np.array_equal(images_of(data)["blue/8.png"], fitted)


def test_a_size_that_is_only_the_commonest_is_not_called_most(tmp_path: Path) -> None:
    sizes = [(12, 16)] * 3 + [(9, 9), (10, 10), (11, 11), (13, 13)]
    data = load_files(folder_of(tmp_path / "a", sizes))
    assert data.notes[0].startswith(
        "the commonest size, 6 of 14 images, is 16 x 12 pixels; 8 are scaled and cropped to 16 x 12"
    )


@pytest.mark.parametrize("ending", ["tif", "tiff", "jpe", "ppm", "jp2"])
def test_images_of_other_formats_are_read_from_folders_and_tables(
    tmp_path: Path, ending: str
) -> None:
    folder = folder_of(tmp_path / "a")
    for file in (folder / "red").iterdir():
        Image.open(file).save(file.with_suffix(f".{ending}"))
        file.unlink()
    data = load_files(folder)
    assert len(images_of(data)) == 20
    paths = [f"a/red/{place}.{ending}" for place in range(10)]
    paths += [f"a/blue/{place}.png" for place in range(10)]
    frame = pd.DataFrame({"photo": paths, "kind": ["red"] * 10 + ["blue"] * 10})
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert load_files(tmp_path / "t.csv").kind == "image"


def test_large_and_tiny_images_get_32_pixels_and_the_user_can_say(tmp_path: Path) -> None:
    for number, (size, wish, shape) in enumerate(
        [
            ((80, 90), None, (32, 32)),
            ((64, 48), None, (64, 48)),
            ((4, 20), None, (32, 32)),
            ((12, 16), 8, (8, 8)),
        ]
    ):
        data = load_files(folder_of(tmp_path / str(number), [size] * 5), size=wish)
        assert {image.shape for image in images_of(data).values()} == {(*shape, 3)}
        assert ("are scaled and cropped" in " ".join(data.notes)) is (shape != size)


def test_grey_images_are_read_as_colour_images_are(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a")
    (folder / "red" / "grey.png").write_bytes(png(picture(0)[..., 0]))
    grey = images_of(load_files(folder))["red/grey.png"]
    assert np.array_equal(grey, np.repeat(picture(0)[..., :1], 3, 2))


# What is left out or refused


def test_what_lies_beside_the_images_is_left_out_and_said(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a")
    for name in ("readme.txt", "red/list.csv", "red/.DS_Store"):
        (folder / name).write_text("x")
    (folder / "red" / "bad.png").write_bytes(b"no image")
    data = load_files(folder)
    assert len(images_of(data)) == 20
    notes = " ".join(data.notes)
    stray = "2 files are no images in a class's folder and were skipped: readme.txt, red/list.csv"
    assert stray in notes
    assert "a/red/bad.png: not an image that can be read; 1 file skipped for that" in notes


def test_hidden_files_and_those_of_systems_are_no_items(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a")
    expected = load_files(folder)
    content = png(picture(0))
    for name in (
        *(f"red/._{place}.png" for place in range(10)),
        *("__MACOSX/red/._0.png", ".ipynb_checkpoints/0-checkpoint.png", ".DS_Store", "Thumbs.db"),
        *("red/.ipynb_checkpoints/0-checkpoint.png", "blue/Thumbs.db", "blue/.DS_Store"),
        *("lost+found/0.png", "@eaDir/0.png", "$RECYCLE.BIN/0.png", "blue/~$list.docx"),
    ):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content)
    (folder / ".cache").symlink_to(tmp_path)
    data = load_files(folder)
    assert (data.fingerprint(), data.notes) == (expected.fingerprint(), expected.notes)


def test_a_decompression_bomb_is_not_expanded(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a")
    for name, side in (("bomb", 20_000), ("small-bomb", 7000)):
        content = a_png(side, side, 8, 0, bytes(1000))
        (folder / "red" / f"{name}.png").write_bytes(content)
    notes, limit = " ".join(load_files(folder).notes), "the limit is 40,000,000 in all"
    assert f"/bomb.png: too many pixels, {limit}; 1 file skipped" in notes
    assert f"small-bomb.png: 7000 x 7000 pixels, {limit}; 1 file skipped" in notes


def torn(folder: Path) -> None:
    for place in range(3):
        (folder / "a" / "blue" / f"{place}.png").write_bytes(PNG + b" torn")


def linked(folder: Path) -> None:
    (folder / "a" / "red" / "link.png").symlink_to(folder / "a" / "blue" / "0.png")


def unread(folder: Path) -> None:
    for place in range(3):
        (folder / "a" / "blue" / f"{place}.heic").write_bytes(b"x")


def beside(folder: Path) -> None:
    for place in range(3):
        (folder / "a" / f"{place}.png").write_bytes(png(picture(place)))


def read_badly(folder: Path) -> None:
    """Neither alone is a tenth, together they are more."""
    for name in ("red/a.txt", "red/b.png", "blue/c.png"):
        (folder / "a" / name).write_bytes(b"no image")


def unread_class(folder: Path) -> None:
    (folder / "a" / "green").mkdir()
    (folder / "a" / "green" / "0.heic").write_bytes(b"x")


def empty_class(folder: Path) -> None:
    (folder / "a" / "green").mkdir()


def torn_class(folder: Path) -> None:
    empty_class(folder)
    (folder / "a" / "green" / "0.png").write_bytes(b"x")


def test_folders_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    for spoil, reason in (
        (torn, "a/blue/0.png: …; more than a tenth of the 20 rows cannot be used"),
        (linked, "a/red/link.png: a link; put the file itself there"),
        (unread, "a/blue/0.heic: no image in a class's folder; more than a tenth of the 23 files"),
        (beside, "a/0.png: no image in a class's folder; more than a tenth of the 23 files"),
        (read_badly, "a/blue/c.png: not an image …; more than a tenth of the 23 rows cannot be"),
        (unread_class, "a/green: a class's folder with no image that can be read"),
        (empty_class, "a/green: a class's folder with no image that can be read"),
        (torn_class, "a/green/0.png: not an image that can be read, and no other image of its"),
    ):
        place = tmp_path / spoil.__name__
        folder = folder_of(place / "a")
        spoil(place)
        with pytest.raises(TurnoverError) as raised:
            load_files(folder)
        check_said(raised.value, reason, folder)
    for made, reason in (
        ((), "no folders with images in it; name the folder that holds one folder of images a"),
        (("train/a", "val/a"), "its folders train and val are splits, not classes; name them with"),
    ):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        for inner in made:
            (folder / inner).mkdir(parents=True)
            (folder / inner / "0.png").write_bytes(png(picture(0)))
        with pytest.raises(TurnoverError) as raised:
            load_files(folder)
        check_said(raised.value, reason, folder)


def test_a_folder_of_nothing_but_files_that_are_not_read_says_which_are(tmp_path: Path) -> None:
    (tmp_path / "a" / "red").mkdir(parents=True)
    (tmp_path / "a" / "red" / "0.heic").write_bytes(b"x")
    with pytest.raises(TurnoverError) as raised:
        load_files(tmp_path / "a")
    reason = "a/red/0.heic: no image that can be read (files that end with .png, …); convert the"
    check_said(raised.value, reason, tmp_path)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/secret.png", "link.png", "way/0.png"])
def test_paths_in_a_table_stay_in_its_folder(tmp_path: Path, path: str) -> None:
    folder = folder_of(tmp_path / "in" / "a").parent
    (tmp_path / "secret.png").write_bytes(png(picture(0)))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "way").symlink_to(folder / "a" / "red")
    images = ["a/red/0.png", "a/blue/0.png", path]
    frame = pd.DataFrame({"image": images, "label": ["red", "blue", "red"]})
    frame.to_csv(folder / "t.csv", index=False)
    with pytest.raises(TurnoverError) as raised:
        load_files(folder / "t.csv")
    reason = "t.csv, row 3, column image: … leads out of the folder of … or over a link; put the"
    check_said(raised.value, reason, folder)


@pytest.mark.parametrize(
    ("column", "path"),
    [
        ("filename", "a\\{name}\\{place}.png"),
        ("image_id", "a/{name}/{place}"),
        ("img", "{name}{place}"),
        ("file", "pictures/{name}/{place}.png"),
        ("photo", "C:\\data\\{name}\\{place}.JPG"),
        ("image", "https://example.org/{name}/{place}.png"),
    ],
)
def test_cells_that_name_images_and_lead_nowhere_are_refused_with_the_folder(
    tmp_path: Path, column: str, path: str
) -> None:
    """Also where the labels' column could be taken for texts."""
    folder_of(tmp_path / "a")
    cells = [path.format(name=name, place=place) for name in CLASSES for place in range(10)]
    labels = ["blue"] * 10 + ["red"] * 10
    for label in ("label", "kind") if cells[0].endswith("g") else ("label",):
        pd.DataFrame({column: cells, label: labels}).to_csv(tmp_path / "t.csv", index=False)
        with pytest.raises(TurnoverError) as raised:
            load_files(tmp_path / "t.csv")
        reason = f"t.csv, column {column}: {cells[0]!r} seems to name a file, and there is no such"
        check_said(raised.value, f"{reason} image file in {tmp_path};", tmp_path)


def test_a_missing_image_file_is_named(tmp_path: Path) -> None:
    """Even the first one; paths in parquet are not followed, and it is said."""
    folder_of(tmp_path / "a")
    cells = [f"a/{name}/{place}.png" for name in CLASSES for place in range(10)]
    frame = pd.DataFrame({"image": ["a/no.png", *cells[1:]], "label": ["x", "y"] * 10})
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = load_files(tmp_path / "t.csv")
    assert f"{tmp_path}/t.csv, row 1: no such image file; 1 row skipped for that" in data.notes
    frame["image"] = ["a/no.png"] * 5 + cells[5:]
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(
        TurnoverError, match=r"row 1, column image: no such image file: .*a/no\.png;"
    ):
        load_files(tmp_path / "t.csv")
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(TurnoverError, match="paths in such a table are not followed"):
        load_files(tmp_path / "t.parquet")


def test_texts_to_validate_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\nx,red\n")
    with pytest.raises(TurnoverError, match=r"t\.csv: no column 'image'"):
        load_files(folder_of(tmp_path / "a"), validation=str(tmp_path / "t.csv"))
