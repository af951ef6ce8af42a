"""Near duplicates: pairs are read and checked, and limits do not drop what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import TurnoverError
from core.data.base import Dataset, Items, limit_training, limit_validation
from core.data.pairs import pairs_between, read_pairs
from core.pipeline.settings import TrainSettings
from tests.contracts.test_data import some_data

HEADER = "test_index,train_index,feature_distance,judgment\n"


def pairs_in(folder: Path, content: str = HEADER + "7,120,0.08,1\n3,0,0.09,2\n7,5,0.1,1\n", name: str = "test_train_near_duplicates_shared.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_pairs_are_read_from_the_file_or_its_folder(tmp_path: Path) -> None:
    expected = [("test-7", "train-120"), ("test-3", "train-0"), ("test-7", "train-5")]
    assert read_pairs(pairs_in(tmp_path)) == read_pairs(tmp_path) == expected
    pairs_in(tmp_path, HEADER + "1,2,0.5,1\n", "test_train_near_duplicates.csv")
    assert read_pairs(tmp_path) == [("test-1", "train-2")]


def test_a_pair_counts_if_both_items_are_there(tmp_path: Path) -> None:
    validation, train = ["test-3", "test-7"], ["train-5", "train-9", "train-120"]
    assert pairs_between(pairs_in(tmp_path), validation, train) == [(1, 2), (1, 0)]
    with pytest.raises(TurnoverError, match=r"^[^\n]*no pair has both its items here; train on a data set that has them, and with --limit"):
        pairs_between(tmp_path, ["test-3"], train)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("test_index,judgment\n1,2\n", r"shared\.csv: no column 'train_index' \(there are: test_index, judgment\)"),
        (HEADER + "1,2,.1,1\n1,-2,.1,1\n", r"shared\.csv, row 2, column train_index: '-2' is not a whole number; correct it"),
        (HEADER + "a,2,.1,1\n", r"shared\.csv, row 1, column test_index: 'a' is not a whole number"),
        (HEADER, r"shared\.csv: a header but no rows"),
    ],
)
def test_files_are_checked(content: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=reason):
        read_pairs(pairs_in(tmp_path, content))


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=r"nowhere\.csv: no such file"):
        read_pairs(tmp_path / "nowhere.csv")
    with pytest.raises(TurnoverError, match=r"none of test_train_near_duplicates\.csv, .* is there"):
        read_pairs(tmp_path)


# Limits


@given(st.sets(st.integers(0, 39), max_size=10), st.integers(0, 50))
def test_what_is_kept_is_drawn_and_the_rest_at_random(rows: set[int], seed: int) -> None:
    data = some_data()
    kept = {f"t{row}" for row in rows}
    drawn = limit_training(data, 20, seed, kept).train
    assert kept <= set(drawn.ids) and len(set(drawn.ids)) == 20
    for name, label, text in zip(drawn.ids, drawn.labels, drawn.texts or [], strict=True):
        assert label == int(name[1:]) % 3 and text == f"text {name[1:]}"
    free = limit_training(data, 40, seed).train.ids  # the whole order
    assert [name for name in drawn.ids if name not in kept] == [name for name in free if name not in kept][: 20 - len(kept)]


def validated(count: int) -> Dataset:
    data = some_data()
    return Dataset(data.name, data.source, data.classes, data.train, Items([f"v{row}" for row in range(count)], data.train.labels, texts=data.train.texts))


def test_validation_items_are_kept_alike() -> None:
    for seed in range(5):
        assert {"v3", "v17"} <= set(limit_validation(validated(40), 4, seed, {"v3", "v17"}).validation.ids)


def test_more_than_the_limit_cannot_be_kept() -> None:
    names = {f"{letter}{row}" for row in range(7) for letter in "tv"}
    with pytest.raises(TurnoverError, match=r"^--limit 6: --keep names 7 of the items; choose that many or more$"):
        limit_training(some_data(), 6, 0, names)
    with pytest.raises(TurnoverError, match=r"^--validation-limit 6: --keep names 7 of the items"):
        limit_validation(validated(40), 6, 0, names)


def test_nothing_to_keep_from_is_said() -> None:
    with pytest.raises(TurnoverError, match=r"^--keep names items that .* there is no limit, so leave it out$"):
        TrainSettings("cifar10", keep="pairs.csv").resolved("image")
    assert TrainSettings("cifar10", keep="pairs.csv", limit=5).resolved("image").keep == "pairs.csv"
