"""Any data set: what holds of all, a limit, and wrong labels planted on purpose."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import TurnoverError
from core.data import NAMES, load_data
from core.data.base import WRONG_LABEL, Dataset, Items, check_dataset, limit_training, limit_validation, plant_label_noise
from core.data.digits import load_digits


def some_data(count: int = 40, classes: int = 3, **changes: Any) -> Dataset:
    labels = np.arange(count) % classes
    train = Items([f"t{row}" for row in range(count)], labels, texts=[f"text {row}" for row in range(count)])
    validation = Items(["v0", "v1"], np.array([0, 1]), texts=["one", "two"])
    names = tuple(f"class {number}" for number in range(classes))
    return Dataset(**{"name": "made", "source": "made up", "classes": names, "train": train, "validation": validation, **changes})


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


def rgb_data(count: int = 40, height: int = 4, width: int = 6) -> Dataset:
    data, pixels = some_data(count), np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
    return replace(data, train=replace(data.train, texts=None, images=pixels), validation=replace(data.validation, texts=None, images=pixels[:2]))


def test_colour_images_are_taken_limited_and_spoiled_like_any_items() -> None:
    data = rgb_data()
    assert data.kind == "image"
    noisy = plant_label_noise(limit_training(data, 20, 3), 0.5, 3)
    assert noisy.train.images is not None and noisy.train.images.shape == (20, 4, 6, 3)
    for place, name in enumerate(noisy.train.ids):
        row = data.train.ids.index(name)
        assert np.array_equal(noisy.train.images[place], data.train.images[row])  # type: ignore[index]
        assert noisy.train.true_labels[place] == data.train.labels[row]  # type: ignore[index]
    assert (noisy.train.labels != noisy.train.true_labels).sum() == 10


def test_the_fingerprint_knows_every_pixel_and_the_shape() -> None:
    data = rgb_data()
    pixels = data.train.images.copy()  # type: ignore[union-attr]
    pixels[7, 2, 3, 1] ^= 1
    others = [pixels, data.train.images.transpose(0, 2, 1, 3), data.train.images.reshape(40, 6, 4, 3), data.train.images.reshape(40, 4, 18)]  # type: ignore[union-attr]
    made = [replace(data, train=replace(data.train, images=images)) for images in others]
    assert len({data.fingerprint(), *(other.fingerprint() for other in made)}) == 1 + len(made)


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


def test_a_validation_limit_draws_validation_items_alone() -> None:
    data = replace(some_data(), validation=some_data().train)
    drawn = limit_validation(data, 15, 1)
    assert len(drawn.validation) == len(set(drawn.validation.ids)) == 15
    assert drawn.train is data.train
    assert limit_validation(data, 15, 1).validation.ids == drawn.validation.ids != limit_validation(data, 15, 2).validation.ids
    for limit in (0, 41):
        with pytest.raises(TurnoverError, match=f"--validation-limit {limit}: choose a number from 1 to the 40 validation items"):
            limit_validation(data, limit, 0)


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
