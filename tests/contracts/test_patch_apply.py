"""A patch onto folders of images and onto data sets that are no files; and the command."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

import core.atomic as atomic
from core import Run, TurnoverError
from core.cli import main
from core.data.cifar10 import load_cifar10
from core.data.digits import load_digits
from core.data.images import fit_image, open_image
from core.data.reviews import load_reviews
from core.flags import Flags
from core.patch.apply import apply_patch, undo_patch
from core.patch.content import pixel_hash
from core.patch.form import export_patch
from core.runs import RUN_FILES, write_manifest
from tests.contracts.test_patch_tables import patch_line, write_patch
from tests.helpers.builders import names
from tests.helpers.fake_runs import FakeRun, png

CLASSES = ("cat", "dog")


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder: files with their contents, folders with None."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def drawing(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (8, 8), np.uint8)


def animals(folder: Path, placed: list[str]) -> Path:
    """A folder with a drawing at each of these places, a file that is no image, and an empty class."""
    for seed, place in enumerate(placed):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(png(drawing(seed)))
    (folder / "bird").mkdir(parents=True)
    (folder / "about.txt").write_text("mine")
    return folder


def image_line(id: str, seed: int, label: str, action: str, new_label: str = "") -> dict[str, Any]:
    return patch_line(id, "", label, action, new_label, sha256=pixel_hash(drawing(seed)))


def patch_of(path: Path, *lines: dict[str, Any]) -> Path:
    return write_patch(path, lines, CLASSES, (8, 8))


DECIDED = some.lists(some.tuples(some.sampled_from(CLASSES), some.sampled_from(["1.png", "2.png", "in/1.png"]), some.sampled_from(["drop", "relabel", "keep"])))


@given(DECIDED)
def test_apply_then_undo_is_the_identity_on_folders(tmp_path_factory: pytest.TempPathFactory, decided: list[tuple[str, str, str]]) -> None:
    folder = tmp_path_factory.mktemp("law")
    places = {f"{label}/{name}": (label, action) for label, name, action in decided} or {"cat/1.png": ("cat", "keep")}
    data = animals(folder / "data", list(places))
    other = dict(zip(CLASSES, reversed(CLASSES), strict=True))
    lines = [
        image_line(place, seed, label, action, other[label] if action == "relabel" else "") for seed, (place, (label, action)) in enumerate(places.items())
    ]
    before = tree(data)
    done = apply_patch(patch_of(folder / "patch", *lines), data, folder / "clean")
    assert done["refused"] == [] and tree(data) == before
    after = tree(folder / "clean")
    assert sorted(content for content in after.values() if content) == sorted(
        before[place]
        for place in [*(place for place, (_, action) in places.items() if action != "drop"), "about.txt"]  # type: ignore[type-var]
    )
    for seed, (label, action) in enumerate(places.values()):
        inside = {path.split("/")[0] for path, content in after.items() if content == png(drawing(seed))}
        assert inside == {"drop": set(), "relabel": {other[label]}, "keep": {label}}[action]
    undo_patch(Path(done["undo"]), folder / "clean", folder / "back")
    assert tree(folder / "back") == before


def test_a_file_that_moves_to_where_one_is_keeps_both(tmp_path: Path) -> None:
    data = animals(tmp_path / "data", ["cat/1.png", "dog/1.png", "dog/1-from-cat.png"])
    apply_patch(patch_of(tmp_path / "p", image_line("cat/1.png", 0, "cat", "relabel", "dog")), data, tmp_path / "clean")
    assert names(tmp_path / "clean" / "dog") == ["1-from-cat-2.png", "1-from-cat.png", "1.png"]


@pytest.mark.parametrize("id", ["cat/one.png", "one.png", "one", "unknown"])
def test_images_are_found_by_path_name_or_contents(tmp_path: Path, id: str) -> None:
    data = animals(tmp_path / "data", ["cat/one.png", "dog/two.png"])
    done = apply_patch(patch_of(tmp_path / "p", image_line(id, 0, "cat", "drop")), data, tmp_path / "clean")
    assert done["dropped"] == 1 and names(tmp_path / "clean" / "cat") == []


def test_an_image_of_another_size_is_seen_as_the_model_saw_it(tmp_path: Path) -> None:
    data = animals(tmp_path / "data", ["dog/two.png"])
    (data / "cat").mkdir()
    Image.fromarray(drawing(9)).resize((16, 16), Image.Resampling.NEAREST).save(data / "cat" / "large.png")
    seen = fit_image(open_image((data / "cat" / "large.png").read_bytes(), "large"), 8, 8)
    line = patch_line("large", "", "cat", "drop", sha256=pixel_hash(seen))
    done = apply_patch(patch_of(tmp_path / "p", line), data, tmp_path / "clean")
    assert done["dropped"] == 1


def test_another_image_in_the_same_place_is_reported_and_kept(tmp_path: Path) -> None:
    data = animals(tmp_path / "data", ["cat/1.png", "cat/2.png"])
    lines = image_line("cat/1.png", 7, "cat", "drop"), image_line("cat/2.png", 1, "cat", "keep")
    done = apply_patch(patch_of(tmp_path / "p", *lines), data, tmp_path / "clean")
    assert (done["dropped"], done["kept"]) == (0, 1)
    assert done["refused"] == [{"id": "cat/1.png", "place": "cat/1.png", "why": "the contents are not those that the decision was made on"}]


def test_a_copy_of_a_folder_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = animals(tmp_path / "data", ["cat/1.png", "dog/1.png"])
    patch = patch_of(tmp_path / "p", image_line("cat/1.png", 0, "cat", "drop"))

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.patch.folders.shutil.copy2", full)
    with pytest.raises(TurnoverError, match="the disk is full"):
        apply_patch(patch, data, tmp_path / "clean")
    assert names(tmp_path) == ["data", "p"]


def test_a_table_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.csv").write_text("text,label\nx,cat\ny,dog\n")
    patch = write_patch(tmp_path / "p", [patch_line("a-0", "x", "cat", "drop")], CLASSES)
    calls: list[int] = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(TurnoverError, match="the disk is full"):
        apply_patch(patch, tmp_path / "data.csv", tmp_path / "out.csv")
    assert calls and names(tmp_path) == ["data.csv", "p"]


def test_an_undo_file_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    data = animals(tmp_path / "data", ["cat/1.png", "dog/1.png"])
    done = apply_patch(patch_of(tmp_path / "p", image_line("cat/1.png", 0, "cat", "drop")), data, tmp_path / "clean")
    undo = Path(done["undo"])
    for place in ("../evil.png", "/tmp/evil.png", "cat/../../evil.png", ""):
        undo.write_text(undo.read_text().replace('"cat/1.png"', json.dumps(place)))
        with pytest.raises(TurnoverError, match="does not go with it"):
            undo_patch(undo, tmp_path / "clean", tmp_path / "back")
        undo.write_text(undo.read_text().replace(json.dumps(place), '"cat/1.png"'))
    assert names(tmp_path) == ["clean", "clean.undo", "data", "p"]


def test_links_in_a_folder_are_refused_and_so_is_a_copy_inside_of_it(tmp_path: Path) -> None:
    data = animals(tmp_path / "data", ["cat/1.png"])
    patch = patch_of(tmp_path / "p", image_line("cat/1.png", 0, "cat", "drop"))
    with pytest.raises(TurnoverError, match="choose another --out"):
        apply_patch(patch, data, data / "clean")
    (data / "cat" / "link.png").symlink_to(data / "cat" / "1.png")
    with pytest.raises(TurnoverError, match=r"link\.png: a link"):
        apply_patch(patch, data, tmp_path / "clean")
    assert names(tmp_path) == ["data", "p"]


# Data sets that are no files


def test_the_digits_are_cleansed_as_a_table(tmp_path: Path) -> None:
    items = load_digits().train
    assert items.images is not None
    lines = [
        patch_line(items.ids[0], "", str(items.labels[0]), "drop", sha256=pixel_hash(items.images[0])),
        patch_line(items.ids[5], "", str(items.labels[5]), "relabel", str((items.labels[5] + 1) % 10), sha256=pixel_hash(items.images[5])),
    ]
    patch = write_patch(tmp_path / "p", lines, tuple(map(str, range(10))), (8, 8))
    done = apply_patch(patch, Path("digits"), tmp_path / "clean.parquet")
    assert (done["dropped"], done["relabelled"], done["refused"]) == (1, 1, [])
    clean = pd.read_parquet(tmp_path / "clean.parquet")
    assert clean["id"].tolist() == items.ids[1:] and clean["label"].iloc[4] == (items.labels[5] + 1) % 10
    undo_patch(Path(done["undo"]), tmp_path / "clean.parquet", tmp_path / "all.parquet")
    everything = pd.read_parquet(tmp_path / "all.parquet")
    assert everything["id"].tolist() == items.ids and everything["label"].tolist() == items.labels.tolist()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(everything["image"].iloc[0]))), items.images[0])


def test_a_run_on_the_reviews_is_exported_and_applied_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = load_reviews().train
    texts = items.texts or []
    folder = FakeRun(train=20, texts=texts[:20]).write(tmp_path)
    run = Run(folder)
    frame = pd.read_parquet(folder / "items.parquet")
    rows = frame["split"] == "train"
    frame.loc[rows, "id"], frame.loc[rows, "label"] = items.ids[:20], items.labels[:20]
    frame.to_parquet(folder / "items.parquet", index=False)
    write_manifest(folder, {name: fact for name, fact in run.manifest.items() if name not in ("format", "files")}, RUN_FILES)
    Flags(folder).put_many([1, 4], "drop")
    (tmp_path / "patch.jsonl").write_text(export_patch(Run(folder)))
    arguments = ["--data", "reviews", "--out", str(tmp_path / "clean.csv")]
    assert main(["apply", "--patch", str(tmp_path / "patch.jsonl"), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "2 dropped, 0 relabelled, 0 left as they are" in printed and "clean.csv.undo" in printed
    clean = pd.read_csv(tmp_path / "clean.csv", dtype=str)
    assert len(clean) == len(items) - 2 and set(clean["label"]) == {"negative", "positive"}
    back = ["--data", str(tmp_path / "clean.csv"), "--out", str(tmp_path / "back.csv")]
    assert main(["apply", "--undo", str(tmp_path / "clean.csv.undo"), *back, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == str(tmp_path / "back.csv")
    assert pd.read_csv(tmp_path / "back.csv", dtype=str)["text"].tolist() == texts


def test_a_cleansed_cifar_file_is_read_by_its_source(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (4, 32, 32, 3), np.uint8)
    for name in ("train", "test"):
        pd.DataFrame({"image": [png(one) for one in images], "label": [0, 1, 2, 3], "index": [5, 6, 7, 8]}).to_parquet(tmp_path / f"{name}.parquet")
    data = load_cifar10(tmp_path)
    patch = write_patch(tmp_path / "p", [patch_line("train-6", "", data.classes[1], "drop", sha256=pixel_hash(images[1]))], data.classes, (32, 32, 3))
    (tmp_path / "clean").mkdir()
    assert apply_patch(patch, tmp_path / "train.parquet", tmp_path / "clean" / "train.parquet")["dropped"] == 1
    (tmp_path / "test.parquet").rename(tmp_path / "clean" / "test.parquet")
    assert load_cifar10(tmp_path / "clean").train.ids == ["train-5", "train-7", "train-8"]


BAD = {
    "no patch": ("--patch", "{none}", "--data", "{csv}"),
    "no data": ("--patch", "{patch}", "--data", "{none}.csv"),
    "data of another kind": ("--patch", "{patch}", "--data", "{text}"),
    "images for texts": ("--patch", "{patch}", "--data", "{folder}"),
    "nothing to do": ("--data", "{csv}"),
    "both at once": ("--patch", "{patch}", "--undo", "{patch}", "--data", "{csv}"),
    "no undo file": ("--undo", "{patch}", "--data", "{csv}"),
    "a missing undo file": ("--undo", "{none}", "--data", "{csv}"),
    "no such column": ("--patch", "{patch}", "--data", "{csv}", "--text-column", "nothing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_code_2(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = {name: tmp_path / name for name in ("none", "patch", "text", "folder")} | {"csv": tmp_path / "data.csv"}
    places["csv"].write_text("text,label\nx,cat\n")
    places["text"].write_text("x")
    animals(places["folder"], ["cat/1.png"])
    write_patch(places["patch"], [patch_line("a-0", "x", "cat", "drop")], CLASSES)
    before = names(tmp_path)
    try:
        code = main(["apply", *(argument.format(**places) for argument in BAD[case]), "--out", str(tmp_path / "out.csv")])
    except SystemExit as end:
        code = int(str(end.code))
    printed = capsys.readouterr()
    assert (code, printed.out, printed.err.count("\n")) == (2, "", 1), printed.err
    assert names(tmp_path) == before
