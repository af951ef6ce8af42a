"""Any data set: what holds of all, limits and what they keep, planted labels, a share held out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.helpers.source_files import GOOD, TWINS, load_files, write_file
from turnover import TurnoverError
from turnover.data.base import (
    WRONG_LABEL,
    Dataset,
    Items,
    check_dataset,
    limit_items,
    plant_label_noise,
)
from turnover.data.sources.images import pairs_between, read_pairs
from turnover.data.tables.load import split_off
from turnover.models.registry import TrainSettings


def some_data(count: int = 40, classes: int = 3, validation: int = 2) -> Dataset:
    def items(letter: str, rows: int) -> Items:
        ids = [f"{letter}{row}" for row in range(rows)]
        texts = [f"text {row} of {letter}" for row in range(rows)]
        return Items(ids, np.arange(rows) % classes, texts=texts)

    names = tuple(f"class {number}" for number in range(classes))
    return Dataset("made", "made up", names, items("t", count), items("v", validation))


def rgb_data() -> Dataset:
    data = some_data()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 4, 6, 3), np.uint8)
    train = replace(data.train, texts=None, images=pixels)
    return replace(
        data, train=train, validation=replace(data.validation, texts=None, images=pixels[:2])
    )


def check_raises(reason: str) -> pytest.RaisesExc[TurnoverError]:
    return pytest.raises(TurnoverError, match=reason)


SPLITS = {"train": "training", "validation": "validation"}


@pytest.mark.parametrize("split", SPLITS)
def test_an_empty_split_and_an_id_that_occurs_twice_are_refused(split: str) -> None:
    data, name = some_data(4), SPLITS[split]
    items = getattr(data, split)
    with check_raises(f"made up: the {name} split is empty; add rows"):
        check_dataset(replace(data, **{split: items.take(np.array([], int))}))
    doubled = replace(items, ids=[items.ids[0]] * 2 + items.ids[2:])
    with check_raises(
        f"row 2 of the {name} split repeats the id '{items.ids[0]}'; make ids unique"
    ):
        check_dataset(replace(data, **{split: doubled}))


def test_training_items_of_one_class_are_refused() -> None:
    data = some_data()
    zeros = data.train.take(np.flatnonzero(data.train.labels == 0))
    with check_raises(
        "all 14 training items have the label 'class 0'; a classifier needs two classes"
    ):
        check_dataset(replace(data, train=zeros))
    lonely = replace(data.train, labels=np.eye(40, dtype=np.int64)[7])
    with check_raises("a classifier needs two classes"):
        limit_items(replace(data, train=lonely), 2, 0)


def test_the_fingerprint_knows_ids_labels_classes_and_every_content() -> None:
    data, photos = some_data(), rgb_data()
    train, validation, images = data.train, data.validation, photos.train.images
    assert train.texts and validation.texts and images is not None
    labels, spoiled = train.labels.copy(), images.copy()
    labels[3], spoiled[7, 2, 3, 1] = 1, spoiled[7, 2, 3, 1] ^ 1
    others = [images, spoiled, images.transpose(0, 2, 1, 3), images.reshape(40, 6, 4, 3)]
    changed = [
        replace(data, classes=("a", "b", "c")),
        replace(data, train=replace(train, ids=["other", *train.ids[1:]])),
        replace(data, train=replace(train, labels=labels)),
        replace(data, train=replace(train, texts=["other", *train.texts[1:]])),
        replace(data, validation=replace(validation, texts=["other", validation.texts[1]])),
        data,
        *(
            replace(
                photos,
                train=replace(photos.train, images=pixels),
                validation=replace(photos.validation, images=pixels[: len(photos.validation)] * 0),
            )
            for pixels in (*others, images.reshape(40, 4, 18))
        ),
    ]
    assert len({other.fingerprint() for other in changed}) == len(changed)
    assert data.fingerprint() == some_data().fingerprint()


def test_colour_images_are_taken_limited_and_spoiled_like_any_items() -> None:
    data = rgb_data()
    noisy = plant_label_noise(limit_items(data, 20, 3), 0.5, 3)
    train = noisy.train
    assert train.images is not None and train.images.shape == (20, 4, 6, 3)
    assert train.true_labels is not None and data.train.images is not None
    rows = [data.train.ids.index(name) for name in train.ids]
    assert data.kind == noisy.kind == "image"
    assert np.array_equal(train.images, data.train.images[rows])
    assert np.array_equal(train.true_labels, data.train.labels[rows])
    assert (train.labels != train.true_labels).sum() == 10


@given(some.lists(some.integers(0, 39), min_size=1, max_size=20))
def test_taking_rows_keeps_each_item_together(rows: list[int]) -> None:
    train = plant_label_noise(some_data(), 0.3, 0).train
    taken = train.take(np.array(rows))
    assert train.texts and train.true_labels is not None and taken.true_labels is not None
    assert taken.ids == [train.ids[row] for row in rows]
    assert taken.texts == [train.texts[row] for row in rows]
    assert taken.injected == [train.injected[row] for row in rows]
    assert np.array_equal(taken.labels, train.labels[rows])
    assert np.array_equal(taken.true_labels, train.true_labels[rows])


# --limit, and --keep


@given(some.integers(10, 40), some.sets(some.integers(0, 39), max_size=10), some.integers(0, 50))
def test_a_limit_draws_what_is_kept_and_the_rest_at_random_once_each(
    limit: int, rows: set[int], seed: int
) -> None:
    data, kept = some_data(validation=40), {f"{letter}{row}" for row in rows for letter in "tv"}
    for name in SPLITS:
        draw = partial(limit_items, split=name)
        whole = getattr(data, name)
        limited = draw(data, limit, seed, kept)
        drawn = getattr(limited, name)
        assert len(drawn) == len({*drawn.ids}) == limit and kept & {*whole.ids} <= {*drawn.ids}
        for place, one in enumerate(drawn.ids):
            row = whole.ids.index(one)
            assert (drawn.labels[place], drawn.texts[place]) == (row % 3, whole.texts[row])
        order = getattr(draw(data, 40, seed), name).ids
        free = [one for one in order if one not in kept][: limit - len(rows)]
        assert [one for one in drawn.ids if one not in kept] == free
        assert draw(data, limit, seed, kept).fingerprint() == limited.fingerprint()
        (other,) = {*SPLITS} - {name}
        assert getattr(limited, other) is getattr(data, other)


def test_a_limit_depends_on_the_seed() -> None:
    data = some_data(validation=40)
    assert len({tuple(limit_items(data, 20, seed).train.ids) for seed in range(10)}) == 10
    draws = (limit_items(data, 15, seed, split="validation") for seed in range(10))
    drawn = {tuple(draw.validation.ids) for draw in draws}
    assert len(drawn) == 10


def test_a_limit_out_of_range_or_below_what_is_kept_is_refused() -> None:
    data = some_data(validation=30)
    for limit in (-1, 0, 1, 41):
        with check_raises(
            f"^--limit {limit}: choose a number from 2 to the 40 training items of made$"
        ):
            limit_items(data, limit, 0)
    for limit in (0, 31):
        reason = f"^--validation-limit {limit}: choose a number from 1 to the 30 validation items"
        with check_raises(reason):
            limit_items(data, limit, 0, split="validation")
    kept = {f"{letter}{row}" for row in range(7) for letter in "tv"}
    with check_raises("^--limit 6: --keep names 7 of the items; choose that many or more$"):
        limit_items(data, 6, 0, kept)
    with check_raises("^--validation-limit 6: --keep names 7 of the items"):
        limit_items(data, 6, 0, kept, "validation")
    with check_raises(
        "^--keep goes with --limit or --validation-limit; give one of them, or leave --keep out$"
    ):
        TrainSettings("cifar10", keep="pairs.csv").resolved("image")
    assert TrainSettings("cifar10", keep="pairs.csv", limit=5).resolved("image").keep == "pairs.csv"


def test_a_pair_counts_if_both_items_are_there(tmp_path: Path) -> None:
    pairs = write_file(tmp_path, GOOD["pairs"][TWINS] + "7,5,0.1,1\n", TWINS)
    validation, train = ["test-3", "test-7"], ["train-5", "train-9", "train-120"]
    assert pairs_between(pairs, validation, train) == [(1, 2), (1, 0)]
    with check_raises(
        r"^[^\n]*no pair has both its items here; train on a data set that has them, and"
    ):
        pairs_between(tmp_path, ["test-3"], train)
    with check_raises(r"nowhere\.csv: no such file"):
        read_pairs(tmp_path / "nowhere.csv")


# --label-noise

COUNTS, CLASSES, SHARES = some.integers(30, 80), some.integers(2, 5), some.floats(0, 0.6)


@given(COUNTS, CLASSES, SHARES, some.integers(0, 100))
def test_label_noise_changes_and_marks_exactly_its_share(
    count: int, classes: int, fraction: float, seed: int
) -> None:
    data = some_data(count, classes)
    before, noisy = data.fingerprint(), plant_label_noise(data, fraction, seed)
    changed = noisy.train.labels != data.train.labels
    assert changed.sum() == int(np.floor(fraction * count + 0.5))
    assert [mark == WRONG_LABEL for mark in noisy.train.injected] == changed.tolist()
    assert np.array_equal(noisy.train.true_labels, data.train.labels)  # type: ignore[arg-type]
    assert {*noisy.train.labels} <= {*range(classes)}
    assert noisy.validation is data.validation and data.fingerprint() == before
    assert plant_label_noise(data, fraction, seed).fingerprint() == noisy.fingerprint()


def test_wrong_labels_depend_on_the_seed_and_are_spread_over_all_other_classes() -> None:
    noisy = [plant_label_noise(some_data(), 0.3, seed).fingerprint() for seed in range(10)]
    assert len({*noisy}) == 10
    train = plant_label_noise(some_data(9000, 3), 0.5, 0).train
    shifts = Counter(((train.labels - train.true_labels) % 3).tolist())  # type: ignore[operator]
    assert shifts[0] == 4500 and abs(shifts[1] - shifts[2]) < 5 * 4500**0.5


def test_label_noise_keeps_the_marks_that_are_there() -> None:
    data = some_data()
    marked = replace(data, train=replace(data.train, injected=["cue"] * 40))
    found = Counter(plant_label_noise(marked, 0.25, 0).train.injected)
    assert found == {"cue": 30, WRONG_LABEL: 10}


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_label_noise_out_of_range_is_refused(fraction: float) -> None:
    with check_raises(r"--label-noise .*: choose a share from 0"):
        plant_label_noise(some_data(), fraction, 0)


# The share for validation

LABELS = some.lists(some.integers(0, 3), min_size=1, max_size=60)


@given(LABELS, some.integers(1, 40), some.integers(0, 5))
def test_the_share_holds_no_content_of_the_rest(
    labels: list[int], contents: int, seed: int
) -> None:
    known = [row % contents for row in range(len(labels))]
    train, validation = split_off(np.array(labels), known, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert not {known[row] for row in train} & {known[row] for row in validation}
    again = split_off(np.array(labels), known, seed)
    assert np.array_equal(train, again[0]) and np.array_equal(validation, again[1])


@given(LABELS, some.integers(0, 5))
def test_where_all_contents_differ_every_class_gives_its_share(
    labels: list[int], seed: int
) -> None:
    train, validation = split_off(np.array(labels), range(len(labels)), seed)
    for number in {*labels}:
        count = labels.count(number)
        drawn = sum(labels[row] == number for row in validation)
        assert drawn == (max(1, int(0.2 * count + 0.5)) if count > 1 else 0)
        assert sum(labels[row] == number for row in train) == count - drawn


def test_a_class_of_one_content_cannot_be_split(tmp_path: Path) -> None:
    with check_raises("no class has two different items, so none can be spared for validation"):
        load_files(write_file(tmp_path, "text,label\nx,1\ny,0\n"))
