"""Flags onto folders of images, onto data sets that are no files, and by a run; the command."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from tests.helpers.builders import names
from tests.helpers.fake_runs import FakeRun, png, run_on
from tests.helpers.storage_testing import (
    FULL,
    READ_ONLY,
    failing_writes,
    flag_line,
    write_flag_file,
)
from turnover import Run, TurnoverError
from turnover.cli import main
from turnover.data.images import fit_image, open_image
from turnover.data.sources.images import load_cifar10, load_digits
from turnover.data.sources.text import load_reviews
from turnover.data.tables import OwnData
from turnover.explain.report import write_report
from turnover.flags import Flags
from turnover.flags.apply import apply_flag_file, apply_run
from turnover.flags.flag_file import export_flag_file, pixel_hash
from turnover.models.registry import TrainSettings
from turnover.runs.run import RUN_FILES
from turnover.storage.artifacts import write_manifest

CLASSES = ("cat", "dog")
OTHER = {"cat": "dog", "dog": "cat"}


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder: files with their contents, folders with None."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def drawing(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (8, 8), np.uint8)


def animals(folder: Path, *placed: str) -> Path:
    """A drawing at each of these places, a file that is no image, and an empty folder."""
    for seed, place in enumerate(placed):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(png(drawing(seed)))
    (folder / placed[0]).parent.joinpath("empty").mkdir()
    (folder / "about.txt").write_text("mine")
    return folder


def image_line(id: str, seed: int, action: str, new_label: str = "") -> dict[str, Any]:
    """A decision on a drawing, whose class is the folder that its id begins with, or cat."""
    label = id.split("/")[0] if id.split("/")[0] in CLASSES else "cat"
    return flag_line(id, "", label, action, new_label, sha256=pixel_hash(drawing(seed)))


def patch_of(folder: Path, *lines: dict[str, Any]) -> Path:
    return write_flag_file(folder / "p", lines, CLASSES, (8, 8))


def one_dropped(folder: Path) -> dict[str, Any]:
    """A folder of two drawings, one of which a flag file drops."""
    data = animals(folder / "data", "cat/1.png", "dog/1.png")
    return apply_flag_file(
        patch_of(folder, image_line("cat/1.png", 0, "drop")), str(data), folder / "clean"
    )


PLACES = some.sampled_from(["1.png", "2.png", "in/1.png"])
ACTIONS = some.sampled_from(["drop", "relabel", "keep"])
DECIDED = some.lists(some.tuples(some.sampled_from(CLASSES), PLACES, ACTIONS))


@given(DECIDED)
def test_images_of_a_folder_are_dropped_and_moved_and_all_else_is_kept(
    tmp_path_factory: pytest.TempPathFactory, decided: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("law")
    places = {f"{label}/{name}": (label, action) for label, name, action in decided}
    places = places or {"cat/1.png": ("cat", "keep")}
    data = animals(folder / "data", *places)
    lines = [
        image_line(place, seed, action, OTHER[label] if action == "relabel" else "")
        for seed, (place, (label, action)) in enumerate(places.items())
    ]
    before = tree(data)
    done = apply_flag_file(patch_of(folder, *lines), str(data), folder / "clean")
    assert done["refused"] == [] and tree(data) == before
    after, left = (
        tree(folder / "clean"),
        [p for p, (_, action) in places.items() if action != "drop"],
    )
    contents = [content for content in after.values() if content]
    assert sorted(contents) == sorted(before[place] or b"" for place in [*left, "about.txt"])
    for seed, (label, action) in enumerate(places.values()):
        own = png(drawing(seed))
        inside = {path.split("/")[0] for path, content in after.items() if content == own}
        assert inside == {"drop": set(), "relabel": {OTHER[label]}, "keep": {label}}[action]
    untouched = {place: content for place, content in before.items() if place not in places}
    assert untouched.items() <= after.items()


def test_a_file_that_moves_to_where_one_is_keeps_both(tmp_path: Path) -> None:
    data = animals(tmp_path / "data", "cat/1.png", "dog/1.png", "dog/1-from-cat.png")
    patch = patch_of(tmp_path, image_line("cat/1.png", 0, "relabel", "dog"))
    apply_flag_file(patch, str(data), tmp_path / "clean")
    assert names(tmp_path / "clean" / "dog") == ["1-from-cat-2.png", "1-from-cat.png", "1.png"]


def test_images_are_found_by_path_name_or_contents_and_in_the_size_that_the_model_saw(
    tmp_path: Path,
) -> None:
    data = animals(tmp_path / "data", "cat/one.png", "dog/two.png")
    for number, id in enumerate(("cat/one.png", "one.png", "one", "unknown")):
        clean = tmp_path / f"clean {number}"
        assert (
            apply_flag_file(patch_of(tmp_path, image_line(id, 0, "drop")), str(data), clean)[
                "dropped"
            ]
            == 1
        )
        assert names(clean / "cat") == ["empty"]
    large = data / "cat" / "large.png"
    Image.fromarray(drawing(9)).resize((16, 16), Image.Resampling.NEAREST).save(large)
    seen = pixel_hash(fit_image(open_image(large.read_bytes(), "large"), 8, 8))
    patch = patch_of(tmp_path, flag_line("large", "", "cat", "drop", sha256=seen))
    assert apply_flag_file(patch, str(data), tmp_path / "clean")["dropped"] == 1


def test_hidden_copies_of_an_image_stay_and_are_not_taken_for_it(tmp_path: Path) -> None:
    places = ("cat/1.png", "cat/.ipynb_checkpoints/1.png", "__MACOSX/cat/._1.png")
    data, hidden = animals(tmp_path / "data", "dog/1.png", *places), png(drawing(1))
    for place in places:
        (data / place).write_bytes(hidden)
    before, patch = tree(data), patch_of(tmp_path, image_line("elsewhere", 1, "drop"))
    done = apply_flag_file(patch, str(data), tmp_path / "clean")
    assert (done["dropped"], done["refused"]) == (1, [])
    after = tree(tmp_path / "clean")
    assert {place for place in before if place not in after} == {"cat/1.png"}


def test_another_image_in_the_same_place_is_reported_and_kept(tmp_path: Path) -> None:
    data = animals(tmp_path / "data", "cat/1.png", "cat/2.png")
    lines = image_line("cat/1.png", 7, "drop"), image_line("cat/2.png", 1, "keep")
    done = apply_flag_file(patch_of(tmp_path, *lines), str(data), tmp_path / "clean")
    why = "the contents are not those that the decision was made on"
    assert (done["dropped"], done["kept"]) == (0, 1)
    assert done["refused"] == [{"id": "cat/1.png", "place": "cat/1.png", "why": why}]


def test_links_in_a_folder_are_refused_and_so_is_a_copy_inside_of_it(tmp_path: Path) -> None:
    data = animals(tmp_path / "data", "cat/1.png")
    patch = patch_of(tmp_path, image_line("cat/1.png", 0, "drop"))
    with pytest.raises(TurnoverError, match="choose another --out"):
        apply_flag_file(patch, str(data), data / "clean")
    (data / "cat" / "link.png").symlink_to(data / "cat" / "1.png")
    with pytest.raises(TurnoverError, match=r"link\.png: a link"):
        apply_flag_file(patch, str(data), tmp_path / "clean")
    assert names(tmp_path) == ["data", "p"]


# Whole or absent


def works(folder: Path, name: str) -> None:
    """Write `folder`/out; what a command says of a failure becomes an error here."""
    run = Run(folder / "fake")
    if name == "report":
        write_report(run, folder / "out")
    elif name == "export":
        if main(["export", "--run", str(run.folder), "--out", str(folder / "out")]) == 2:
            raise TurnoverError("said on standard error")
    else:
        source = {"table": "data.csv", "folder": "data"}[name]
        patch = folder / ("p" if name == "folder" else "patch.jsonl")
        apply_flag_file(patch, str(folder / source), folder / "out")


@pytest.mark.parametrize("error", [FULL, READ_ONLY], ids=["full", "read-only"])
@pytest.mark.parametrize("name", ["report", "export", "table", "folder"])
def test_a_write_that_is_refused_at_any_moment_leaves_nothing_half_and_the_next_try_is_whole(
    name: str, error: OSError, tmp_path: Path
) -> None:
    run = Run(FakeRun().write(tmp_path))
    Flags(run.folder).put_many([1, 2], "drop")
    (tmp_path / "patch.jsonl").write_text(export_flag_file(run), encoding="utf-8")
    labels = run.train["label"].map(dict(enumerate(run.classes)))
    run.train[["id", "text"]].assign(label=labels).to_csv(tmp_path / "data.csv", index=False)
    animals(tmp_path / "data", "cat/1.png", "dog/1.png")
    patch_of(tmp_path, image_line("cat/1.png", 0, "drop"))
    before = names(tmp_path)
    for calls in range(1, 20):
        try:
            with failing_writes(calls, error):
                works(tmp_path, name)
            break
        except TurnoverError:
            assert names(tmp_path) == before
    assert calls > 1 and (tmp_path / "out").stat().st_size


def test_a_disk_that_fills_up_while_files_are_copied_leaves_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: object, target: object) -> None:
        raise FULL

    monkeypatch.setattr("turnover.data.tables.folders.shutil.copy2", full)
    with pytest.raises(TurnoverError, match="the disk is full"):
        one_dropped(tmp_path)
    assert names(tmp_path) == ["data", "p"]


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    data, patch = tmp_path / "data.csv", tmp_path / "p"
    data.write_text("text,label\nx,cat\n")
    write_flag_file(patch, [flag_line("data-0", "x", "cat", "drop")], CLASSES)
    with pytest.raises(TurnoverError, match="exists; choose another --out"):
        apply_flag_file(patch, str(data), data)
    with pytest.raises(TurnoverError, match=r"let --out end with \.csv"):
        apply_flag_file(patch, str(data), tmp_path / "out.tsv")
    assert names(tmp_path) == ["data.csv", "p"]


# Data sets that are no files


def test_the_digits_are_cleansed_as_a_table(tmp_path: Path) -> None:
    items, classes = load_digits().train, [str(digit) for digit in range(10)]
    assert items.images is not None
    sums, own = [pixel_hash(items.images[row]) for row in (0, 5)], [*map(str, items.labels[[0, 5]])]
    other = (items.labels[5] + 1) % 10
    lines = [
        flag_line(items.ids[0], "", own[0], "drop", sha256=sums[0]),
        flag_line(items.ids[5], "", own[1], "relabel", str(other), sha256=sums[1]),
    ]
    patch, out = write_flag_file(tmp_path / "p", lines, classes, (8, 8)), tmp_path / "clean.parquet"
    done = apply_flag_file(patch, "digits", out)
    assert (done["dropped"], done["relabelled"], done["refused"]) == (1, 1, [])
    clean = pd.read_parquet(out)
    assert clean["id"].tolist() == items.ids[1:] and clean["label"].iloc[4] == other
    first = np.asarray(Image.open(io.BytesIO(clean["image"].iloc[0])))
    assert np.array_equal(first, items.images[1])


def test_a_run_on_the_reviews_is_exported_and_applied_by_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = load_reviews().train
    texts, patch, clean = items.texts or [], tmp_path / "patch.jsonl", tmp_path / "clean.csv"
    folder = FakeRun(train=20, texts=texts[:20]).write(tmp_path)
    facts = Run(folder).manifest
    frame = pd.read_parquet(folder / "items.parquet")
    rows = frame["split"] == "train"
    frame.loc[rows, "id"], frame.loc[rows, "label"] = items.ids[:20], items.labels[:20]
    frame.to_parquet(folder / "items.parquet", index=False)
    told = {name: fact for name, fact in facts.items() if name not in ("format", "files")}
    write_manifest(folder, told, RUN_FILES)
    Flags(folder).put_many([1, 4], "drop")
    patch.write_text(export_flag_file(Run(folder)))
    words = ["--flags", str(patch), "--data", "reviews", "--out", str(clean)]
    assert main(["apply", *words]) == 0
    assert "2 dropped, 0 relabelled, 0 left as they are" in capsys.readouterr().out
    table = pd.read_csv(clean, dtype=str)
    assert len(table) == len(items) - 2 and set(table["label"]) == {"negative", "positive"}


def test_a_cleansed_cifar_file_is_read_by_its_source(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8)
    frame = {"image": [png(one) for one in images], "label": [0, 1, 2, 3], "index": [5, 6, 7, 8]}
    for name in ("train", "test"):
        pd.DataFrame(frame).to_parquet(tmp_path / f"{name}.parquet")
    classes, clean = load_cifar10(tmp_path).classes, tmp_path / "clean"
    line = flag_line("train-6", "", classes[1], "drop", sha256=pixel_hash(images[1]))
    patch = write_flag_file(tmp_path / "p", [line], classes, (32, 32, 3))
    clean.mkdir()
    done = apply_flag_file(patch, str(tmp_path / "train.parquet"), clean / "train.parquet")
    (tmp_path / "test.parquet").rename(clean / "test.parquet")
    assert done["dropped"] == 1
    assert load_cifar10(clean).train.ids == ["train-5", "train-7", "train-8"]


# By what a run remembers


TEXTS = some.lists(some.sampled_from("abcdefgh"), min_size=10, max_size=40)
BLANK = some.sets(some.integers(0, 39), max_size=4)


@given(TEXTS, BLANK, some.integers(0, 3), some.integers(12, 20), some.data())
def test_a_run_remembers_the_row_of_each_item_whatever_was_left_out_split_off_or_drawn(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    blank: set[int],
    seed: int,
    limit: int,
    more: some.DataObject,
) -> None:
    """Also of texts that are there many times, and of labels that were made wrong for the run."""
    texts = [*map(str, range(1, 31)), *texts]
    table = [("" if row in blank else text, "xy"[row % 2]) for row, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("law")
    data, lines = folder / "data.csv", [f"{text},{label}\n" for text, label in table]
    data.write_text("".join(["sentence,mark\n", *lines]), encoding="utf-8")
    own = OwnData(str(data), text_column="sentence", label_column="mark")
    run = run_on(folder, TrainSettings("files", own=own, seed=seed, limit=limit))
    for text, label, row in zip(
        *(run.train[name] for name in ("text", "label", "row")), strict=True
    ):
        assert table[row] == (text, run.classes[label])
    dropped = more.draw(some.sets(some.integers(0, limit - 1), min_size=1))
    Flags(run.folder, by="ann").put_many(sorted(dropped), "drop")
    done = apply_run(run, folder / "clean.csv")
    assert (done["dropped"], done["refused"], done["changed"]) == (len(dropped), [], "")
    gone = {*run.train["row"].iloc[sorted(dropped)]}
    kept = [line for row, line in enumerate(lines) if row not in gone]
    assert (folder / "clean.csv").read_text(encoding="utf-8") == "".join(["sentence,mark\n", *kept])


def test_the_file_of_a_named_data_set_is_remembered_too(tmp_path: Path) -> None:
    for name in ("train", "dev"):
        lines = [f'"{name}, {row}",{row % 2}\n' for row in range(30)]
        (tmp_path / f"{name}.csv").write_text("".join(["sentence,label\n", *lines]))
    run = run_on(tmp_path, TrainSettings("sst2", path=str(tmp_path), limit=10))
    first, second = (int(run.train["row"].loc[position]) for position in (0, 1))
    Flags(run.folder, by="ann").put(0, "drop")
    Flags(run.folder, by="ann").put(1, "relabel", run.classes[1 - second % 2])
    apply_run(run, tmp_path / "clean.csv")
    labels = {f"train, {row}": str(row % 2) for row in range(30) if row != first}
    labels[f"train, {second}"] = str(1 - second % 2)
    clean = pd.read_csv(tmp_path / "clean.csv", dtype=str)
    assert dict(zip(clean["sentence"], clean["label"], strict=True)) == labels


def test_data_that_changed_are_matched_by_content_and_those_that_are_gone_are_asked_for(
    tmp_path: Path,
) -> None:
    data, rows = tmp_path / "data.csv", [f"text {row},{'xy'[row % 2]}\n" for row in range(20)]
    data.write_text("".join(["text,label\n", *rows]))
    run = run_on(tmp_path, TrainSettings("files", own=OwnData(str(data))))
    first = int(run.train["row"].loc[0])
    Flags(run.folder, by="ann").put(0, "drop")
    data.write_text("".join(["text,label\nnew,x\n", *rows]))
    done = apply_run(run, tmp_path / "clean.csv")
    assert done["dropped"] == 1 and "bytes instead of" in done["changed"]
    kept = [line for row, line in enumerate(rows) if row != first]
    assert (tmp_path / "clean.csv").read_text() == "".join(["text,label\nnew,x\n", *kept])
    data.rename(tmp_path / "moved.csv")
    with pytest.raises(TurnoverError, match=r"data\.csv: no such file"):
        apply_run(run, tmp_path / "again.csv")
    moved = apply_run(run, tmp_path / "again.csv", str(tmp_path / "moved.csv"))
    assert moved["dropped"] == 1


BAD = {
    "no flag file": "--flags {none} --data {csv}",
    "no data": "--flags {patch} --data {none}.csv",
    "data of another kind": "--flags {patch} --data {text}",
    "images for texts": "--flags {patch} --data {folder}",
    "nothing to do": "--data {csv}",
    "both at once": "--flags {patch} --run {folder} --data {csv}",
    "a flag file without data": "--flags {patch}",
    "no run": "--run {folder}",
    "no such column": "--flags {patch} --data {csv} --text-column nothing",
}


def test_bad_input_is_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {name: tmp_path / name for name in ("none", "patch", "text", "folder")}
    places["csv"] = tmp_path / "data.csv"
    places["csv"].write_text("text,label\nx,cat\n")
    places["text"].write_text("x")
    animals(places["folder"], "cat/1.png")
    write_flag_file(places["patch"], [flag_line("a-0", "x", "cat", "drop")], CLASSES)
    before = names(tmp_path)
    for words in BAD.values():
        options = [*words.format(**places).split(), "--out", str(tmp_path / "out.csv")]
        try:
            code = main(["apply", *options])
        except SystemExit as end:
            code = int(str(end.code))
        printed = capsys.readouterr()
        assert (code, printed.out, printed.err.count("\n")) == (2, "", 1), printed.err
        assert names(tmp_path) == before
