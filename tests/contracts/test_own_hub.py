"""Any data set of the hub by its name; the hub itself is made up, since tests need no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from core.data.base import Dataset
from core.data.own import OwnData, load_own
from core.errors import TurnoverError
from tests.helpers.fake_runs import png

TEXTS = {"sentence": ["fine", "dull", "good", "bad"] * 3, "label": [1, 0] * 6, "idx": list(range(12))}
FEATURES = datasets.Features(sentence=datasets.Value("string"), label=datasets.ClassLabel(names=["poor", "great"]), idx=datasets.Value("int32"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, ...], Any]:
    """What is on the hub, by name and configuration."""
    there: dict[tuple[str, ...], Any] = {}

    def load(*name: str) -> Any:
        if name not in there:
            raise datasets.exceptions.DatasetNotFoundError(f"no {'/'.join(name)}\nat all")
        return there[name]

    monkeypatch.setattr(datasets, "load_dataset", load)
    return there


def texts(**splits: dict[str, list[Any]]) -> Any:
    return datasets.DatasetDict({name: datasets.Dataset.from_dict(columns, features=FEATURES) for name, columns in splits.items()})


def load(name: str, **wish: Any) -> Dataset:
    return load_own(f"hub:{name}", OwnData(**wish), 0)


def test_splits_columns_and_names_of_classes_are_found(hub: dict[tuple[str, ...], Any]) -> None:
    hub["nyu/words",] = texts(train=TEXTS, validation=TEXTS, test={**TEXTS, "label": [-1] * 12})
    data = load("nyu/words")
    assert (data.name, data.classes, data.kind) == ("nyu/words", ("poor", "great"), "text")
    assert data.source == "nyu/words, split train and nyu/words, split validation"
    assert data.train.texts == TEXTS["sentence"] and data.train.labels.tolist() == TEXTS["label"] and data.train.ids == [str(row) for row in range(12)]
    assert "text from column sentence (guessed), label from column label (guessed), id from column idx (guessed)" in data.notes[0]


def test_a_configuration_and_splits_can_be_named(hub: dict[tuple[str, ...], Any]) -> None:
    hub["glue", "sst2"] = texts(some=TEXTS, more={**TEXTS, "sentence": ["x"] * 12})
    assert load("glue:sst2", train_split="some", validation_split="more").validation.texts == ["x"] * 12
    data = load("glue:sst2", train_split="some")
    assert len(data.train) + len(data.validation) == 12 and "no validation items were named" in data.notes[-1]


def test_the_test_split_validates_where_there_is_no_other(hub: dict[tuple[str, ...], Any]) -> None:
    hub["a",] = texts(train=TEXTS, test={**TEXTS, "sentence": ["x"] * 12})
    assert load("a").source == "a, split train and a, split test"


def test_rows_that_were_chosen_or_shuffled_come_in_their_order(hub: dict[tuple[str, ...], Any]) -> None:
    hub["a",] = texts(train=TEXTS, test=TEXTS)
    hub["a",]["train"] = hub["a",]["train"].select([5, 2, 8, 1])
    assert load("a").train.ids == ["5", "2", "8", "1"]


@pytest.mark.parametrize("stored", ["bytes", "files"])
def test_images_are_read_whether_their_bytes_or_their_files_are_there(hub: dict[tuple[str, ...], Any], stored: str, tmp_path: Path) -> None:
    pixels = [np.full((10, 12, 3), 20 * row, np.uint8) for row in range(10)]
    contents: list[Any] = [{"bytes": png(one), "path": None} for one in pixels]
    if stored == "files":
        for row, one in enumerate(pixels):
            Image.fromarray(one).save(tmp_path / f"{row}.png")
        contents = [str(tmp_path / f"{row}.png") for row in range(10)]
    made = datasets.Dataset.from_dict({"img": contents, "fine": [0, 1] * 5}).cast_column("img", datasets.Image())
    hub["a",] = datasets.DatasetDict(train=made, test=made)
    data = load("a", label_column="fine")
    assert data.train.images is not None and np.array_equal(data.train.images, np.stack(pixels)) and data.train.ids[3] == "train-3"


def test_what_the_hub_has_not_is_one_line(hub: dict[tuple[str, ...], Any]) -> None:
    with pytest.raises(TurnoverError, match=r"^no/such cannot be loaded from the hub as no/such \(no no/such\); download it and give files with --train$"):
        load("no/such")
    hub["a",] = texts(all=TEXTS)
    with pytest.raises(TurnoverError, match=r"^a: no split 'train' \(there are: all\); name one with --train-split$"):
        load("a")
    with pytest.raises(TurnoverError, match=r"^a: no split 'dev' \(there are: all\); name one with --validation-split$"):
        load("a", train_split="all", validation_split="dev")


@pytest.mark.parametrize("name", ["", "/", "a/b/c", "a b", "a:b:c", "../up", "a\n", "é"])
def test_names_that_are_none_are_not_asked_for(name: str) -> None:
    with pytest.raises(TurnoverError, match="write hub:NAME"):
        load(name)


def test_files_and_the_hub_are_not_mixed() -> None:
    with pytest.raises(TurnoverError, match="name files; for the hub, name splits"):
        load("a", validation="v.csv")
