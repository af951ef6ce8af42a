"""Data sets from the hub: what is said when they cannot be had, or are not what they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import pytest

from core import TurnoverError
from core.data import load_data

TITLES = {
    "sst2": ("SST-2", "stanfordnlp/sst2"),
    "yahoo": ("Yahoo Answers", "community-datasets/yahoo_answers_topics"),
    "cifar10": ("CIFAR-10", "uoft-cs/cifar10"),
}
FAILURES = [ConnectionError("no route\nto host"), datasets.exceptions.DatasetNotFoundError("gone"), datasets.exceptions.DatasetGenerationError("x"), OSError()]


def a_hub_that(says: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", says)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("name", TITLES)
def test_a_hub_that_cannot_be_reached_is_one_line_with_the_other_way(name: str, failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise failure

    a_hub_that(fail, monkeypatch)
    title, hub_name = TITLES[name]
    with pytest.raises(TurnoverError, match=rf"^{title} cannot be loaded from the hub as {hub_name} \(.*\); give a local folder with --path$") as raised:
        load_data(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", TITLES)
def test_a_hub_data_set_without_its_splits_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = datasets.DatasetDict({"all": datasets.Dataset.from_dict({"text": ["x"]})})
    a_hub_that(lambda _: other, monkeypatch)
    with pytest.raises(TurnoverError, match=rf"^{TITLES[name][1]}: no split 'train' \(there are: all\); give a local folder"):
        load_data(name)


@pytest.mark.parametrize("name", TITLES)
def test_a_hub_data_set_without_its_columns_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split = datasets.Dataset.from_dict({"line": ["x"], "label": [0]})
    a_hub_that(lambda _: datasets.DatasetDict(dict.fromkeys(("train", "validation", "test"), split)), monkeypatch)
    missing = {"sst2": "sentence", "yahoo": "topic", "cifar10": "img"}[name]
    with pytest.raises(TurnoverError, match=rf"^{TITLES[name][1]}, split train: no column '{missing}' \(there are: line, label\); give a local folder"):
        load_data(name)
