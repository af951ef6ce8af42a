"""Every data source reads files of its own form right, or says in one line what is wrong where."""

from __future__ import annotations

import csv
import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.helpers.source_files import (
    BINARY,
    CHECKED,
    CHECKED_HEADER,
    FILM,
    GOOD,
    IMAGES,
    JUNK,
    LABELS,
    LOAD,
    OTHER_TWINS,
    PAIRS,
    PHOTOS,
    STARS,
    TEST,
    TOPICS,
    TRAIN,
    TWINS,
    Files,
    Rows,
    check_refused,
    checked,
    checked_review,
    checked_reviews,
    each,
    encode,
    loaded,
    parquet,
    rows,
    rows_of,
)
from turnover import TurnoverError
from turnover.data.base import CONFIRMED_ERROR
from turnover.data.sources import NAMES, SOURCES, load_data, yahoo
from turnover.data.sources import images as cifar10
from turnover.data.sources import text as sst2
from turnover.data.sources.images import read_pairs
from turnover.data.tables.checks import MAX_CHARACTERS


def test_every_source_is_held_to_this() -> None:
    files = {name.partition(",")[0] for name in GOOD} - {"elec", "pairs"}
    assert files == {name for name in NAMES if not SOURCES[name].packaged}
    assert {*READ} | {"imdb-checks", "pairs"} == {*GOOD} and {*WANTED} == files | {"elec"}


# What is read


PIXELS = [pixels.tobytes() for pixels in PHOTOS]
FILMS = ([1, 0], ["some", "other"])
QUESTIONS = [
    'why doesn\'t an "optical" mouse, or so, work? Or else? It uses an LED. And.',
    "What is the best road motorcycle? I hear that  the Yamaha is.",
    *("Vote?", "Only an answer"),
]
HOT = ["What is heat? Motion", "Ωμέγα? so"]
ASKED = rows("train", [4, 5, 9, 0], QUESTIONS), rows("test", [1, 1], HOT)
NUMBERED = [
    [(f"{split}-{100 + row}", LABELS[row], PIXELS[row]) for row in part]
    for split, part in (("train", range(20)), ("test", range(20, 23)))
]
COUNTED = rows("train", LABELS[:20], PIXELS[:20])
OF_BINARY = COUNTED, rows("test", LABELS[20:], PIXELS[20:])
RATED = rows("test_shared", [1, 0, 1], ["Loud", "Thin", "Good"])
SHEET = "\ufeff" + TOPICS.replace("\n", "\r\n") + "\r\n\r\n"
BARE = {"valid.csv": "label,text\n1,Fine\n0,Poor\n"}
INSIDE = {f"cifar-10-batches-bin/{name}": content for name, content in BINARY.items()}
READ: dict[str, list[tuple[Files, Rows, Rows]]] = {
    "sst2": [({}, rows("train", *FILMS), rows("dev", *FILMS))],
    "sst2-phrases": [({}, rows("train_phrases", *FILMS), rows("dev", *FILMS))],
    "yahoo": [({}, *ASKED), ({"train.csv": SHEET}, *ASKED)],
    "elec": [
        ({}, rows("valid", [0, 1], ["It broke, twice.", "Works"]), RATED),
        (BARE, rows("valid", [1, 0], ["Fine", "Poor"]), RATED),
    ],
    "cifar10": [
        ({}, *NUMBERED),
        ({TRAIN: parquet(index=None)}, COUNTED, NUMBERED[1]),
        ({TRAIN: None, **INSIDE}, *OF_BINARY),
    ],
    "cifar10, binary": [({}, *OF_BINARY)],
}
SAID = {"cifar10, binary": "the binary version in {}"}
SAID |= {name: " and ".join([*GOOD[name]][:2]) + " in {}" for name in READ if name not in SAID}
CLASSES = {"yahoo": yahoo.CLASSES, "cifar10": cifar10.CLASSES}


@pytest.mark.parametrize("source", READ)
def test_ids_labels_and_contents_are_those_of_the_files(source: str, tmp_path: Path) -> None:
    for number, (files, *expected) in enumerate(READ[source]):
        folder = tmp_path / str(number)
        data, name = loaded(source, folder, files), source.partition(",")[0]
        assert [rows_of(data.train), rows_of(data.validation)] == expected
        inside = INSIDE.keys() <= files.keys()
        place = folder / "cifar-10-batches-bin" if inside else folder
        assert data.source == SAID["cifar10, binary" if inside else source].format(place)
        assert data.classes == CLASSES.get(name, sst2.CLASSES)
        assert name == "elec" or data.kind == SOURCES[name].kind


def test_pairs_are_read_from_the_file_or_its_folder(tmp_path: Path) -> None:
    expected = [("test-7", "train-120"), ("test-3", "train-0")]
    assert loaded("pairs", tmp_path) == read_pairs(tmp_path / TWINS) == expected


CHOICES = [
    ("sst2", ("train.csv", "train.tsv", "train_sentences.csv")),
    ("sst2", ("dev.csv", "dev.tsv", "dev_shared.csv")),
    ("sst2-phrases", ("train_phrases.csv", "train.tsv")),
    ("elec", ("test.csv", TEST)),
    ("imdb-checks", ("reviews.csv", CHECKED)),
    ("cifar10", ("test.parquet", "test_shared.parquet")),
    ("pairs", (OTHER_TWINS, TWINS)),
]


@pytest.mark.parametrize(("source", "names"), CHOICES)
def test_the_first_file_of_a_kind_is_read(source: str, names: tuple[str], tmp_path: Path) -> None:
    (there,) = {*names} & {*GOOD[source]}
    for place, name in enumerate(names):
        content, later = GOOD[source][there], dict.fromkeys(names[place:], JUNK)
        content = content.replace(",", "\t") if name.endswith(".tsv") else content
        data = loaded(source, tmp_path / name, {there: None, **later, name: content})
        assert source == "pairs" or name in data.source
    with pytest.raises(TurnoverError) as raised:
        loaded(source, tmp_path, {there: None})
    wanted = f"none of {', '.join(names)} is there; put one of them into the folder"
    assert str(raised.value) == f"{tmp_path}: {wanted}"


THINGS = "".join(f"{number},thing {number}\n" for number in (3, 1, 0, 2, *range(9, 3, -1)))
LISTED = "".join(f"thing {number}\n" for number in range(10)) + "\n"
NAMED = [
    *(("yahoo", "classes.txt", LISTED), ("cifar10, binary", "batches.meta.txt", LISTED)),
    ("cifar10", "classes.csv", "label,name\n" + THINGS),
]


@pytest.mark.parametrize(("source", "name", "content"), NAMED)
def test_classes_may_be_named(source: str, name: str, content: str, tmp_path: Path) -> None:
    data = loaded(source, tmp_path, {name: content})
    assert data.classes == tuple(f"thing {number}" for number in range(10))


def test_confirmed_errors_are_marked_and_none_is_left_to_validate_on(tmp_path: Path) -> None:
    data, again = (load_data("imdb-checks", checked_reviews(tmp_path)) for _ in range(2))
    assert (len(data.train), len(data.validation), data.kind) == (48, 12, "text")
    assert data.classes == sst2.CLASSES and data.source == f"{CHECKED} in {tmp_path}"
    wrong = {f"test/n/{row}" for row in range(0, 60, 6)}
    marks = ["", CONFIRMED_ERROR]
    assert data.train.injected == [marks[name in wrong] for name in data.train.ids]
    assert wrong <= {*data.train.ids} and {*data.validation.injected} == {""}
    assert data.fingerprint() == again.fingerprint()
    found = []
    for name, label, text in rows_of(data.train) + rows_of(data.validation):
        found.append(int(name.rpartition("/")[2]))
        expected = (f"test/{'np'[label]}/{found[-1]}", found[-1] % 2, f'Film {found[-1]}, or "not"')
        assert (name, label, text) == expected
    assert sorted(found) == list(range(60))
    assert min(found[48:]) < 20 and max(found[48:]) > 40  # drawn, not cut off


def test_digits_are_all_1797_images_in_a_fixed_split() -> None:
    from sklearn.datasets import load_digits as sklearn_digits

    data, original = load_data("digits"), sklearn_digits()
    assert (len(data.train), len(data.validation), data.kind) == (1200, 597, "image")
    assert data.fingerprint() == load_data("digits").fingerprint()
    images = np.concatenate((data.train.images, data.validation.images))  # type: ignore[arg-type]
    found = [int(name.removeprefix("digit-")) for name in data.train.ids + data.validation.ids]
    assert images.dtype == np.uint8 and sorted(found) == list(range(1797))
    np.testing.assert_allclose(images, original.images[found] * 255 / 16, atol=0.5)
    labels = np.concatenate((data.train.labels, data.validation.labels))
    assert np.array_equal(labels, original.target[found])


PART = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\\\0"), max_size=30)
ASK = some.tuples(some.integers(1, 10), PART.filter(str.strip), PART, PART)


@given(some.lists(ASK, min_size=1, max_size=5))
def test_any_question_comes_back(tmp_path_factory: pytest.TempPathFactory, asked: Any) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, quoting=csv.QUOTE_ALL).writerows(asked)
    data = loaded("yahoo", tmp_path_factory.mktemp("yahoo"), {"test.csv": file.getvalue()})
    texts = [" ".join(part.strip() for part in parts if part.strip()) for _, *parts in asked]
    assert rows_of(data.validation) == rows("test", [label - 1 for label, *_ in asked], texts)


def test_a_text_longer_than_any_encoder_reads_is_cut(tmp_path: Path) -> None:
    long = f'"3","Long?","","{"a" * 30_000}"\n'
    data = loaded("yahoo", tmp_path, {"train.csv": TOPICS + long})
    assert data.train.texts[-1] == "Long? " + "a" * (MAX_CHARACTERS - 6)


def test_jpeg_and_grey_images_become_rgb(tmp_path: Path) -> None:
    smooth = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
    images = [encode(one, "JPEG", quality=95) for one in (smooth, np.stack([smooth] * 3, 2))] * 10
    made = loaded("cifar10", tmp_path, {TRAIN: parquet(image=images)}).train.images
    assert np.abs(made.astype(int) - smooth[None, :, :, None]).max() < 12


def test_long_files_are_counted_on_to_their_last_row(tmp_path: Path) -> None:
    lines = "".join(f'"{row % 10 + 1}","title {row}","","answer"\n' for row in range(2500))
    data = loaded("yahoo", tmp_path / "yahoo", {"train.csv": lines})
    assert rows_of(data.train)[-1] == ("train-2499", 9, "title 2499 answer")
    with pytest.raises(TurnoverError, match=r"train\.csv, row 2501: the class '11'"):
        loaded("yahoo", tmp_path / "wrong", {"train.csv": lines + '"11","t","","a"\n'})
    labels = LABELS[:20] * 60
    pieces = partial(parquet, row_group=700, index=None, image=IMAGES[:20] * 60)
    data = loaded("cifar10", tmp_path / "cifar10", {TRAIN: pieces(label=labels)})
    assert rows_of(data.train) == rows("train", labels, PIXELS[:20] * 60)
    with pytest.raises(TurnoverError, match=r"train\.parquet, row 1200, column label: 10"):
        loaded("cifar10", tmp_path / "bad", {TRAIN: pieces(label=[*labels[:-1], 10])})


# What is refused

GIVEN = checked("given", [0])
REFUSED: dict[str, list[tuple[Files, str]]] = {
    "sst2": each(
        "train.csv",
        ("text,label\na,1\nb,1\n", "all 2 training items have the label 'positive'; a classifier"),
        (FILM + "x,+\n", ", row 3, column label: the label '+' is not one of 0, 1; correct it"),
        ("text\nsome\n", ": no column 'label' (there are: text); rename or add it"),
        ("a,label\nb,1\n", ": no column 'sentence' (there are: a, label); rename or add it"),
        (FILM + ",1\n", ", row 3, column text: the text is empty; write one or remove the row"),
        ("text,label\n", ": no rows; add some"),
    ),
    "imdb-checks": each(
        CHECKED,
        (GIVEN + checked_review(1, "?"), ", row 2, column verdict: the label '?' is not one of"),
        (GIVEN.replace(",0,t", ",2,t"), ", row 1, column label: the label '2' is not one of 0, 1"),
        (GIVEN.replace('"Film 0, or ""not"""', ""), ", row 1, column text: the text is empty"),
        ("text,label,review_id\nFine,1,a\n", ": no column 'verdict' (there are: text, label,"),
        (CHECKED_HEADER, ": no rows; add some"),
        (checked("given", [0] * 10), "row 2 of the training split repeats the id 'test/n/0'"),
        (checked("given", range(0, 20, 2)), "all 8 training items have the label 'negative'"),
        (checked("given", range(4)), "the validation split is empty; add rows"),
    ),
    "yahoo": [
        *each(
            "train.csv",
            *(
                (TOPICS + line, f", row 5: {reason}")
                for line, reason in (
                    ('"0","a","b","c"\n', "the class '0' is not one of 1 to 10; … (the file"),
                    ('"Health","a","b","c"\n', "the class 'Health' is not one of 1 to 10; correct"),
                    ('"1","a","b"\n', "3 fields instead of class, title, question and answer"),
                    ('"1",a, b,c,d\n', "5 fields"),
                    ('"1",""," ","\\n"\n', "title, question and answer are all empty; write one"),
                    ('"1","a","b","c\n"1","a","b","c"\n', "not readable (…); check quotes and"),
                    ('"1","a","b","c\n', "not readable (…); check quotes and commas"),
                    ('"1","a "b" c","",""\n', "not readable (…); check quotes and commas"),
                )
            ),
            ("topic,a,b,c\n" + TOPICS, ", row 1: the class 'topic' is not one of 1 to 10; correct"),
            (TOPICS.encode() + JUNK, ", line 5: not UTF-8 text (byte 0xff); save the file"),
            ("", "the training split is empty; add rows"),
            (None, "no train.csv is there; put it into the folder"),
        ),
        *each("test.csv", ("", "the validation split is empty; add rows")),
        *each("test.csv", (None, "no test.csv is there; put it into the folder")),
        *each("classes.txt", ("a\nb\n", ": 2 class names instead of 10; write one a line")),
        *each("classes.txt", ("a\n\n" + LISTED[16:] + "a", ", line 12: the class name 'a' occurs")),
    ],
    "elec": [
        *each(
            "valid.csv",
            (STARS + "Fine,1,5,\n,0,1,\n", ", row 2, column text: the text is empty; write one or"),
            (STARS + "A,1,,\nB,-1,1,\n", ", row 2, column label: the label '-1' is not one of 0"),
            (None, "no valid.csv is there; put it into the folder"),
        ),
        *each(
            TEST,
            ("review,label\nFine,1\n", ": no column 'sentence' (there are: review, label)"),
            ("text,stars\nFine,1\n", ": no column 'label' (there are: text, stars)"),
            (STARS + "Fine,1,5,\nGood,1,5,\n", ": all 2 reviews have the label 1; add reviews"),
            (STARS, ": no rows; add some"),
        ),
    ],
    "pairs": each(
        TWINS,
        ("test_index,judgment\n1,2\n", ": no column 'train_index' (there are: test_index"),
        (PAIRS + "1,2,.1,1\n1,-2,.1,1\n", ", row 2, column train_index: '-2' is not a whole"),
        (PAIRS + "a,2,.1,1\n", ", row 1, column test_index: 'a' is not a whole number; correct it"),
        (PAIRS, ": no rows; add some"),
    ),
}


@pytest.mark.parametrize("source", REFUSED)
def test_what_cannot_be_used_is_one_line_that_says_where(source: str, tmp_path: Path) -> None:
    check_refused(source, tmp_path, REFUSED[source])


WANTED = {
    **{"sst2": "the SST-2 files", "sst2-phrases": "the SST-2 files", "elec": "the files of Elec"},
    **{"imdb-checks": "the IMDB label checks", "yahoo": "train.csv and test.csv of Yahoo Answers"},
    "cifar10": "the CIFAR-10 files",
}


@pytest.mark.parametrize("source", WANTED)
def test_a_path_that_is_no_folder_is_told_what_it_should_be(source: str, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text(FILM)
    for place in (tmp_path / "nowhere", tmp_path / "file.csv"):
        with pytest.raises(TurnoverError) as raised:
            LOAD[source](place)
        wanted = f"no such folder; --path names the folder with {WANTED[source]}"
        assert str(raised.value) == f"{place}: {wanted}"


def test_names_that_give_no_data_are_told_the_other_way(tmp_path: Path) -> None:
    for name, path, reason in (
        ("imdb", None, f"^unknown data set 'imdb'; choose one of {', '.join(NAMES)}$"),
        ("digits", tmp_path, "^the data set digits comes with the package; leave --path out$"),
        ("reviews", tmp_path, "^the data set reviews comes with the package; leave --path out$"),
        ("imdb-checks", None, "^the IMDB label checks are not on the hub; --path names the folder"),
        ("elec", None, "^elec has no training set; train on sst2, then .*--validation elec --path"),
        ("elec", tmp_path, "^elec has no training set; train on sst2, then .*--validation elec"),
    ):
        with pytest.raises(TurnoverError, match=reason):
            load_data(name, path)
