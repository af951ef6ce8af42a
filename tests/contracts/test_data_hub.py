"""Data sets of the hub, ours and any by its name; the hub is made up: tests need no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.helpers.fake_runs import png, run_on
from tests.helpers.source_files import IMAGES, LABELS, PHOTOS, Files, rows, rows_of
from turnover import TurnoverError
from turnover.data.base import Dataset
from turnover.data.sources import NAMES, SOURCES, load_data, yahoo
from turnover.data.sources import images as cifar10
from turnover.data.sources import text as sst2
from turnover.data.tables import OwnData, load_own
from turnover.flags import Flags
from turnover.flags.apply import apply_run
from turnover.models.registry import TrainSettings

Hub = dict[tuple[str, ...], Any]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """What is there by name and configuration, or how it fails."""
    there: Hub = {}

    def load(*name: str) -> Any:
        found = there.get(
            name, datasets.exceptions.DatasetNotFoundError(f"no {'/'.join(name)}\nat all")
        )
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(datasets, "load_dataset", load)
    return there


def made(splits: Files, **features: Any) -> datasets.DatasetDict:
    """Columns by split as a data set of the hub; columns called `img` are images."""
    found = {}
    for name, columns in splits.items():
        found[name] = datasets.Dataset.from_dict(columns)
        images = {"img": datasets.Image()} if "img" in columns else {}
        for column, feature in {**images, **features}.items():
            found[name] = found[name].cast_column(column, feature)
    return datasets.DatasetDict(found)


# Ours


def topics(numbers: list[int], answers: Sequence[str | None]) -> dict[str, list[Any]]:
    blank = {name: [""] * len(numbers) for name in ("question_title", "question_content")}
    return {"topic": numbers, **blank, "best_answer": [*answers]}


def photos(contents: Sequence[bytes]) -> dict[str, list[Any]]:
    images = [{"bytes": content, "path": None} for content in contents]
    return {"img": images, "label": LABELS[: len(contents)]}


FILMS = [1, 0], ["some", "other"]
SENTENCES = {"sentence": FILMS[1], "label": FILMS[0]}
PIXELS = [pixels.tobytes() for pixels in PHOTOS]
CLASSES = {"yahoo": yahoo.CLASSES, "cifar10": cifar10.CLASSES, "sst2": sst2.CLASSES}
TENS, ANSWERS = LABELS[:10] * 110, [f"answer {row}" for row in range(1100)]
BROKEN_UP = [text.replace(" ", "\\n") for text in ANSWERS]
TITLES = {
    **{"sst2": ("SST-2", "stanfordnlp/sst2"), "cifar10": ("CIFAR-10", "uoft-cs/cifar10")},
    "yahoo": ("Yahoo Answers", "community-datasets/yahoo_answers_topics"),
}
ON_HUB: dict[str, tuple[Files, Files]] = {
    "sst2": (
        {"train": SENTENCES, "validation": SENTENCES, "test": {**SENTENCES, "label": [-1, -1]}},
        {"train": rows("train", *FILMS), "test": rows("validation", *FILMS)},
    ),
    "yahoo": (
        {"train": topics(TENS, BROKEN_UP), "test": topics([9], ["so"])},
        {"train": rows("train", TENS, ANSWERS), "test": [("test-0", 9, "so")]},
    ),
    "cifar10": (
        {"train": photos(IMAGES), "test": photos(IMAGES[:2])},
        {"train": rows("train", LABELS, PIXELS), "test": rows("test", [0, 1], PIXELS[:2])},
    ),
}
"""What is there, and what is made of it."""
BAD_ON_HUB = [
    ("sst2", {**SENTENCES, "label": [1, 1]}, "all 2 training items have the label 'positive'"),
    ("yahoo", topics([1, 10], ["a", "b"]), ", split train, row 2: the topic 10 is not one of"),
    ("yahoo", topics([1], [None]), ", split train, row 1: title, question and answer are"),
    ("cifar10", photos([IMAGES[0], b"junk"]), ", split train, row 2, column image: not an"),
]
FAILURES = [ConnectionError("no route\nto host"), OSError(), ValueError("x"), RuntimeError("y")]
FAILURES += [datasets.exceptions.DatasetNotFoundError("a"), datasets.exceptions.DatasetsError("b")]


def test_every_source_of_the_hub_is_held_to_this() -> None:
    assert {*ON_HUB} | {"sst2-phrases"} == {name for name in NAMES if SOURCES[name].hub}


@pytest.mark.parametrize("source", ON_HUB)
def test_rows_are_read_as_those_of_files_are(source: str, hub: Hub) -> None:
    name, (splits, expected) = TITLES[source][1], ON_HUB[source]
    hub[name,] = made(splits)
    data = load_data(source)
    assert (rows_of(data.train), rows_of(data.validation)) == (expected["train"], expected["test"])
    assert data.classes == CLASSES[source]
    assert data.source == f"hub data set {name}"


@pytest.mark.parametrize(("source", "columns", "reason"), BAD_ON_HUB)
def test_rows_are_checked(source: str, columns: Files, reason: str, hub: Hub) -> None:
    name = TITLES[source][1]
    hub[name,] = made({**ON_HUB[source][0], "train": columns})
    with pytest.raises(TurnoverError, match=f"{name}(: )?{reason}"):
        load_data(source)


@pytest.mark.parametrize("source", ON_HUB)
def test_what_is_not_on_the_hub_is_one_line_with_the_other_way(source: str, hub: Hub) -> None:
    (title, name), (splits, _) = TITLES[source], ON_HUB[source]
    failed = [(failure, (str(failure).splitlines() or ["OSError"])[0]) for failure in FAILURES]
    lost = f"{title} cannot be loaded from the hub as {name}"
    cases: list[Any] = [(failure, f"{lost} ({said})") for failure, said in failed]
    cases.append(({"all": splits["train"]}, f"{name}: no split 'train' (there are: all)"))
    for column in splits["train"]:
        left = {other: cells for other, cells in splits["train"].items() if other != column}
        there = f"no column '{column}' (there are: {', '.join(left)})"
        cases.append(({**splits, "train": left}, f"{name}, split train: {there}"))
    for found, said in cases:
        hub[name,] = found if isinstance(found, Exception) else made(found)
        with pytest.raises(TurnoverError) as raised:
            load_data(source)
        assert str(raised.value) == f"{said}; give a local folder with --path"


# Any by its name

WORDS = {"sentence": list("pqrs") * 3, "label": [1, 0] * 6, "idx": list(range(12))}
OTHERS = {**WORDS, "sentence": ["x"] * 12}
NAMED = datasets.ClassLabel(names=["poor", "great"])


def own(name: str, **wish: Any) -> Dataset:
    return load_own(f"hub:{name}", OwnData(**wish), 0)


def test_splits_columns_and_names_of_classes_are_found(hub: Hub) -> None:
    tested = {**WORDS, "label": [-1] * 12}
    hub["nyu/words",] = made({"train": WORDS, "validation": WORDS, "test": tested}, label=NAMED)
    data = own("nyu/words")
    assert (data.name, data.classes, data.kind) == ("nyu/words", ("poor", "great"), "text")
    assert data.source == "nyu/words, split train and nyu/words, split validation"
    ids = [str(row) for row in range(12)]
    assert rows_of(data.train) == list(zip(ids, WORDS["label"], WORDS["sentence"], strict=True))
    guesses = "text from column sentence", "label from column label", "id from column idx"
    assert ", ".join(f"{guess} (inferred)" for guess in guesses) in data.notes[0]


def test_a_configuration_and_splits_can_be_named(hub: Hub) -> None:
    hub["glue", "sst2"] = made({"some": WORDS, "more": OTHERS})
    named = own("glue:sst2", train_split="some", validation_split="more")
    assert named.validation.texts == OTHERS["sentence"]
    data = own("glue:sst2", train_split="some")
    assert len(data.train) + len(data.validation) == 12
    assert "no validation items were named" in data.notes[-1]


def test_the_test_split_validates_where_there_is_no_other(hub: Hub) -> None:
    hub["a",] = made({"train": WORDS, "test": OTHERS})
    assert own("a").source == "a, split train and a, split test"


def test_rows_that_were_chosen_or_shuffled_come_in_their_order(hub: Hub) -> None:
    hub["a",] = made({"train": WORDS, "test": WORDS})
    hub["a",]["train"] = hub["a",]["train"].select([5, 2, 8, 1])
    assert own("a").train.ids == ["5", "2", "8", "1"]


@pytest.mark.parametrize("stored", ["bytes", "files"])
def test_images_are_read_whether_their_bytes_or_their_files_are_there(
    hub: Hub, stored: str, tmp_path: Path
) -> None:
    pixels = [np.full((10, 12, 3), 20 * row, np.uint8) for row in range(10)]
    contents: list[Any] = [{"bytes": png(one), "path": None} for one in pixels]
    if stored == "files":
        contents = [str(tmp_path / f"{row}.png") for row in range(10)]
        for path, one in zip(contents, pixels, strict=True):
            Image.fromarray(one).save(path)
    columns = {"img": contents, "fine": [0, 1] * 5}
    hub["a",] = made({"train": columns, "test": columns})
    train = own("a", label_column="fine").train
    assert train.images is not None and np.array_equal(train.images, np.stack(pixels))
    assert train.ids[3] == "train-3"


def test_names_and_splits_that_are_not_there_are_one_line(hub: Hub) -> None:
    hub["a",] = made({"all": WORDS})
    lost = "no/such cannot be loaded from the hub as no/such (no no/such)"
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("no/such", {}, f"{lost}; download it and give files with --train"),
        ("a", {}, "a: no split 'train' (there are: all); name one with --train-split"),
        (
            *("a", {"train_split": "all", "validation_split": "dev"}),
            "a: no split 'dev' (there are: all); name one with --validation-split",
        ),
    ]
    for name, wish, said in cases:
        with pytest.raises(TurnoverError) as raised:
            own(name, **wish)
        assert str(raised.value) == said
    with pytest.raises(TurnoverError, match="name files; for the hub, name splits"):
        own("a", validation="v.csv")


def test_names_that_are_none_are_not_asked_for() -> None:
    for name in ("", "/", "a/b/c", "a b", "a:b:c", "../up", "a\n", "é"):
        with pytest.raises(TurnoverError, match="write hub:NAME"):
            own(name)


def test_flags_of_a_run_on_the_hub_are_applied_to_a_copy_of_its_split(
    hub: Hub, tmp_path: Path
) -> None:
    columns = {"text": [f"text {row}" for row in range(20)], "label": [0, 1] * 10}
    label = datasets.ClassLabel(names=["bad", "good"])
    hub[("me/films",)] = made({"part": columns}, label=label)
    run = run_on(tmp_path, TrainSettings("hub:me/films", own=OwnData(train_split="part")))
    first = int(run.train["row"].loc[0])
    Flags(run.folder, by="ann").put(0, "relabel", run.classes[1 - first % 2])
    done = apply_run(run, tmp_path / "clean.parquet")
    assert (done["relabelled"], done["refused"], done["changed"]) == (1, [], "")
    clean = pd.read_parquet(tmp_path / "clean.parquet")
    assert np.flatnonzero(clean["label"] != columns["label"]).tolist() == [first]
