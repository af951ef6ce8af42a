"""Data sources: what they give, and what they say of files that cannot be used."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import TurnoverError
from core.data import NAMES, load_data
from core.data.base import WRONG_LABEL, Dataset, Items, check_dataset, limit_training, plant_label_noise
from core.data.digits import load_digits
from core.data.sst2 import load_sst2
from core.data.tables import MAX_CHARACTERS, check_text, label_column, read_table, text_column

COLUMNS = ("text", "label")


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path) -> tuple[list[str], list[int]]:
    """A table of texts and labels, with all of its checks."""
    table = read_table(path, COLUMNS)
    return text_column(table, path, "text"), label_column(table, path, "label", ("0", "1"))


def some_data(count: int = 40, classes: int = 3, **changes: Any) -> Dataset:
    labels = np.arange(count) % classes
    train = Items([f"t{row}" for row in range(count)], labels, texts=[f"text {row}" for row in range(count)])
    validation = Items(["v0", "v1"], np.array([0, 1]), texts=["one", "two"])
    names = tuple(f"class {number}" for number in range(classes))
    return Dataset(**{"name": "made", "source": "made up", "classes": names, "train": train, "validation": validation, **changes})


# Tables


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1).filter(str.strip), min_size=1, max_size=6))
def test_any_text_comes_back_as_it_was_written(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Quotes, line breaks, separators, `NA`, numbers, every script."""
    path = tmp_path_factory.mktemp("table") / "any.csv"
    labels = [row % 2 for row in range(len(texts))]
    pd.DataFrame({"text": texts, "label": labels}).to_csv(path, index=False)
    assert read(path) == (texts, labels)


@pytest.mark.parametrize("text", ["NA", "null", "nan", "None", "1e5", "007", "TRUE", " spaced "])
def test_texts_that_look_like_something_else_stay_texts(text: str, tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", f"text,label\n{text},1\n"))[0] == [text]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_files_of_spreadsheets_are_read(start: bytes, end: bytes, tmp_path: Path) -> None:
    """With a byte order mark, with Windows line ends, with columns nobody asked for."""
    content = start + end.join([b"text,extra,label", b"good,x,1", b"bad,,0", b""])
    assert read(write(tmp_path, "a.csv", content)) == (["good", "bad"], [1, 0])


def test_tab_separated_files_are_told_by_their_name(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.tsv", "text\tlabel\ngood, really\t1\n")) == (["good, really"], [1])


BROKEN = {
    "missing column": ("a.csv", "sentence,label\nx,1\n", r"a\.csv: no column 'text' \(there are: sentence, label\); rename or add it"),
    "empty file": ("a.csv", "", r"a\.csv: the file is empty; it needs a header line with text, label"),
    "blank file": ("a.csv", "\n\n", r"a\.csv: the file is empty"),
    "header only": ("a.csv", "text,label\n", r"a\.csv: a header but no rows; add rows below it"),
    "unknown label": ("a.csv", "text,label\nx,1\ny,0\nz,2\n", r"a\.csv, row 3, column label: the label '2' is not one of 0, 1; correct it"),
    "no label": ("a.csv", "text,label\nx,1\ny,\n", r"a\.csv, row 2, column label: the label '' is not one of 0, 1"),
    "label missing from a row": ("a.csv", "text,label\nx,1\ny\n", r"a\.csv, row 2, column label"),
    "empty text": ("a.csv", 'text,label\nx,1\n"",0\n', r"a\.csv, row 2, column text: the text is empty; write one or remove the row"),
    "blank text": ("a.csv", "text,label\nx,1\ny,1\n   ,0\n", r"a\.csv, row 3, column text: the text is empty"),
    "too long a text": ("a.csv", f"text,label\nx,1\n{'a' * 100_000},0\n", r"a\.csv, row 2, column text: the text has 100,000 characters, the limit is 20,000"),
    "open quote": ("a.csv", 'text,label\n"x,1\ny,0\n', r"a\.csv: not a readable table .*; check quotes and separators"),
    "a row too wide": ("a.csv", "text,label\nx,1\ny,1,0\n", r"a\.csv: not a readable table .*line 3"),
    "every row too wide": ("a.csv", "text,label\nGood, really,1\nBad, truly,0\n", r"a\.csv: .*check quotes and separators"),
    "tab separated by mistake": ("a.csv", "text\tlabel\nx\t1\n", r"a\.csv: no column 'text'"),
    "binary file": ("a.csv", bytes(range(1, 30)) * 9, r"a\.csv: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_table_that_cannot_be_used_is_refused_with_place_and_remedy(name: str, tmp_path: Path) -> None:
    file, content, reason = BROKEN[name]
    with pytest.raises(TurnoverError, match=reason) as raised:
        read(write(tmp_path, file, content))
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("rows", [0, 3, 500, 60_000])
def test_the_line_that_is_not_utf_8_is_named(rows: int, tmp_path: Path) -> None:
    """In a short file and in one that is read in pieces."""
    content = b"text,label\n" + b"caf\xc3\xa9,1\n" * rows + b"caf\xe9,1\n" + b"tea,0\n"
    with pytest.raises(TurnoverError, match=rf"a\.csv, line {rows + 2}: not UTF-8 text \(byte 0xe9\); save the file as UTF-8"):
        read(write(tmp_path, "a.csv", content))


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=r"none\.csv: no such file; check the path"):
        read(tmp_path / "none.csv")
    with pytest.raises(TurnoverError, match=r"cannot be read \(Is a directory\)"):
        read(tmp_path)


def test_texts_up_to_the_limit_are_accepted() -> None:
    assert check_text("a" * MAX_CHARACTERS, "here") == "a" * MAX_CHARACTERS
    with pytest.raises(TurnoverError, match="here: the text has 20,001 characters"):
        check_text("a" * (MAX_CHARACTERS + 1), "here")


# SST-2 from a folder

GOOD = "text,label\nsome,1\nother,0\n"


def sst2_folder(folder: Path, *names: str) -> Path:
    """A folder whose files each say in their texts which file they are."""
    for name in names:
        column, mark = ("sentence", "\t") if name.endswith(".tsv") else ("text", ",")
        write(folder, name, f"{column}{mark}label\nfrom {name}{mark}1\nmore of {name}{mark}0\n")
    return folder


@pytest.mark.parametrize(
    ("there", "train", "development"),
    [
        (("train.csv", "train.tsv", "train_sentences.csv", "dev.csv", "dev.tsv", "dev_shared.csv"), "train.csv", "dev.csv"),
        (("train.tsv", "train_sentences.csv", "dev.tsv", "dev_shared.csv"), "train.tsv", "dev.tsv"),
        (("train_sentences.csv", "train_phrases.csv", "dev_shared.csv"), "train_sentences.csv", "dev_shared.csv"),
        (("train_sentences.csv", "train.csv", "dev_shared.csv", "dev.tsv"), "train.csv", "dev.tsv"),
    ],
)
def test_sst2_reads_the_first_file_of_each_kind_and_says_which(there: tuple[str, ...], train: str, development: str, tmp_path: Path) -> None:
    data = load_sst2(sst2_folder(tmp_path, *there))
    assert data.train.texts == [f"from {train}", f"more of {train}"]
    assert data.validation.texts == [f"from {development}", f"more of {development}"]
    assert data.source == f"{train} and {development} in {tmp_path}"
    assert data.train.labels.tolist() == [1, 0]
    assert (data.kind, data.classes) == ("text", ("negative", "positive"))


@pytest.mark.parametrize(
    ("there", "wanted"), [(("dev.csv",), "train.csv, train.tsv, train_sentences.csv"), (("train.csv",), "dev.csv, dev.tsv, dev_shared.csv")]
)
def test_sst2_names_the_files_it_looked_for(there: tuple[str, ...], wanted: str, tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=f"none of {wanted} is there; put one of them into the folder"):
        load_sst2(sst2_folder(tmp_path, *there))


def test_sst2_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=r"nowhere: no such folder; --path names"):
        load_sst2(tmp_path / "nowhere")
    with pytest.raises(TurnoverError, match="no such folder"):
        load_sst2(write(tmp_path, "train.csv", GOOD))


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ("text,label\nsome,1\nother,1\n", "all 2 training items have the label 'positive'; a classifier needs two classes"),
        ("text,label\nsome,1\nother,positive\n", r"train\.csv, row 2, column label: the label 'positive' is not one of 0, 1"),
        ("text\nsome\n", r"train\.csv: no column 'label'"),
        ("review,label\nsome,1\n", r"train\.csv: no column 'sentence'"),
        ("text,label\n,1\n", r"train\.csv, row 1, column text: the text is empty"),
        ("text,label\n", r"train\.csv: a header but no rows"),
    ],
)
def test_sst2_files_are_checked(train: str, reason: str, tmp_path: Path) -> None:
    write(tmp_path, "dev.csv", GOOD)
    write(tmp_path, "train.csv", train)
    with pytest.raises(TurnoverError, match=reason):
        load_sst2(tmp_path)


def test_sst2_from_the_hub_is_its_training_and_validation_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"sentence": ["fine", "poor"], "label": [1, 0], "idx": [0, 1]}
    splits = datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name in ("train", "validation", "test")})
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"stanfordnlp/sst2": splits}[name])
    data = load_data("sst2")
    assert (data.train.texts, data.train.labels.tolist()) == (["fine", "poor"], [1, 0])
    assert (data.train.ids, data.validation.ids) == (["train-0", "train-1"], ["validation-0", "validation-1"])
    assert data.source == "hub data set stanfordnlp/sst2"


@pytest.mark.parametrize("failure", [ConnectionError("no route\nto host"), datasets.exceptions.DatasetNotFoundError("gone"), OSError()])
def test_a_hub_that_cannot_be_reached_is_one_line_with_the_other_way(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: str) -> None:
        raise failure

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(TurnoverError, match=r"^SST-2 cannot be loaded from the hub as stanfordnlp/sst2 \(.*\); give a local folder with --path$") as raised:
        load_data("sst2")
    assert "\n" not in str(raised.value)


# Any data set


def test_known_data_sets_are_named() -> None:
    with pytest.raises(TurnoverError, match=f"unknown data set 'imdb'; choose one of {', '.join(NAMES)}"):
        load_data("imdb")


@pytest.mark.parametrize("name", ["digits", "reviews"])
def test_packaged_data_takes_no_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=f"{name} comes with the package; leave --path out"):
        load_data(name, tmp_path)


def test_digits_are_all_1797_images_in_a_fixed_split() -> None:
    from sklearn.datasets import load_digits as sklearn_digits

    data, again = load_digits(), load_data("digits")
    assert (len(data.train), len(data.validation), data.kind) == (1200, 597, "image")
    assert data.fingerprint() == again.fingerprint()
    images = np.concatenate((data.train.images, data.validation.images))  # type: ignore[arg-type]
    assert images.dtype == np.uint8
    rows = [int(name.removeprefix("digit-")) for name in data.train.ids + data.validation.ids]
    assert sorted(rows) == list(range(1797))
    original = sklearn_digits()
    np.testing.assert_allclose(images, original.images[rows] * 255 / 16, atol=0.5)
    assert np.array_equal(np.concatenate((data.train.labels, data.validation.labels)), original.target[rows])


def test_an_id_that_occurs_twice_is_refused_with_its_row() -> None:
    data = some_data(4)
    for split, name in (("train", "training"), ("validation", "validation")):
        items = getattr(data, split)
        doubled = replace(items, ids=[items.ids[0]] * 2 + items.ids[2:])
        with pytest.raises(TurnoverError, match=f"row 2 of the {name} split repeats the id '{items.ids[0]}'; make ids unique"):
            check_dataset(replace(data, **{split: doubled}))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_empty_split_is_refused(split: str) -> None:
    data = some_data()
    name = {"train": "training", "validation": "validation"}[split]
    with pytest.raises(TurnoverError, match=f"made up: the {name} split is empty; add rows"):
        check_dataset(replace(data, **{split: getattr(data, split).take(np.array([], int))}))


def test_training_items_of_one_class_are_refused() -> None:
    data = some_data()
    with pytest.raises(TurnoverError, match="all 14 training items have the label 'class 0'; a classifier needs two classes"):
        check_dataset(replace(data, train=data.train.take(np.flatnonzero(data.train.labels == 0))))


def test_the_fingerprint_knows_ids_labels_contents_and_classes() -> None:
    data, images = some_data(), load_digits()
    spoiled = images.train.images.copy()  # type: ignore[union-attr]
    spoiled[5, 3, 3] ^= 1
    labels = data.train.labels.copy()
    labels[3] = 1 - labels[3] if labels[3] < 2 else 0
    changed = [
        replace(data, classes=("a", "b", "c")),
        replace(data, train=replace(data.train, ids=["other", *data.train.ids[1:]])),
        replace(data, train=replace(data.train, labels=labels)),
        replace(data, train=replace(data.train, texts=["other", *data.train.texts[1:]])),  # type: ignore[index]
        replace(data, validation=replace(data.validation, texts=["other", "two"])),
        images,
        replace(images, train=replace(images.train, images=spoiled)),
    ]
    assert len({data.fingerprint(), *(other.fingerprint() for other in changed)}) == 1 + len(changed)
    assert data.fingerprint() == some_data().fingerprint()


@given(rows=st.lists(st.integers(0, 39), min_size=1, max_size=20))
def test_taking_rows_keeps_each_item_together(rows: list[int]) -> None:
    train = plant_label_noise(some_data(), 0.3, 0).train
    taken = train.take(np.array(rows))
    for place, row in enumerate(rows):
        assert (taken.ids[place], taken.labels[place], taken.planted[place]) == (train.ids[row], train.labels[row], train.planted[row])
        assert taken.texts[place] == train.texts[row]  # type: ignore[index]
        assert taken.true_labels[place] == train.true_labels[row]  # type: ignore[index]


# --limit


@given(limit=st.integers(10, 40), seed=st.integers(0, 100))
def test_limit_draws_that_many_items_once_each(limit: int, seed: int) -> None:
    data = some_data()
    drawn = limit_training(data, limit, seed)
    assert len(drawn.train) == len(set(drawn.train.ids)) == limit
    assert set(drawn.train.ids) <= set(data.train.ids)
    assert drawn.validation is data.validation
    assert limit_training(data, limit, seed).fingerprint() == drawn.fingerprint()
    for name, label, text in zip(drawn.train.ids, drawn.train.labels, drawn.train.texts or [], strict=True):
        row = int(name.removeprefix("t"))
        assert (label, text) == (row % 3, f"text {row}")


def test_limit_depends_on_the_seed() -> None:
    assert len({tuple(limit_training(some_data(), 20, seed).train.ids) for seed in range(10)}) == 10


@pytest.mark.parametrize("limit", [-1, 0, 1, 41])
def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    with pytest.raises(TurnoverError, match=f"--limit {limit}: choose a number from 2 to the 40 training items"):
        limit_training(some_data(), limit, 0)


def test_a_limit_that_leaves_one_class_is_refused() -> None:
    labels = np.zeros(40, np.int64)
    labels[7] = 1
    data = some_data()
    with pytest.raises(TurnoverError, match="a classifier needs two classes"):
        limit_training(replace(data, train=replace(data.train, labels=labels)), 2, 0)


# --label-noise


@given(count=st.integers(30, 80), classes=st.integers(2, 5), fraction=st.floats(0, 0.6), seed=st.integers(0, 100))
def test_label_noise_changes_and_marks_exactly_its_share(count: int, classes: int, fraction: float, seed: int) -> None:
    data = some_data(count, classes)
    noisy = plant_label_noise(data, fraction, seed)
    changed = noisy.train.labels != data.train.labels
    assert changed.sum() == int(np.floor(fraction * count + 0.5))
    assert [mark == WRONG_LABEL for mark in noisy.train.planted] == changed.tolist()
    assert np.array_equal(noisy.train.true_labels, data.train.labels)  # type: ignore[arg-type]
    assert set(noisy.train.labels) <= set(range(classes))
    assert noisy.validation is data.validation
    assert plant_label_noise(data, fraction, seed).fingerprint() == noisy.fingerprint()


def test_label_noise_depends_on_the_seed_and_leaves_the_original_alone() -> None:
    data = some_data()
    before = data.fingerprint()
    assert len({plant_label_noise(data, 0.3, seed).fingerprint() for seed in range(10)}) == 10
    assert data.fingerprint() == before


def test_wrong_labels_are_spread_over_all_other_classes() -> None:
    noisy = plant_label_noise(some_data(9000, 3), 0.5, 0)
    shifts = Counter(((noisy.train.labels - noisy.train.true_labels) % 3).tolist())
    assert shifts[0] == 4500
    assert abs(shifts[1] - shifts[2]) < 5 * 4500**0.5


def test_label_noise_keeps_the_marks_that_are_there() -> None:
    data = some_data()
    marked = replace(data, train=replace(data.train, planted=["cue"] * 40))
    noisy = plant_label_noise(marked, 0.25, 0)
    assert Counter(noisy.train.planted) == {"cue": 30, WRONG_LABEL: 10}


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan")])
def test_label_noise_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(TurnoverError, match=r"--label-noise .*: choose a share from 0"):
        plant_label_noise(some_data(), fraction, 0)
