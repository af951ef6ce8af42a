"""The data report: what is wrong with a data set is counted and said; what is right is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from turnover.data.base import Dataset, Items, plant_label_noise
from turnover.data.report import DataReport, look_at

Rows = list[tuple[str, int]]
ROWS = some.lists(
    some.tuples(some.sampled_from("abcdef"), some.integers(0, 3)), min_size=1, max_size=30
)


def data_of(train: Rows, validation: Rows, classes: tuple[str, ...] = tuple("pqrs")) -> Dataset:
    def items(rows: Rows) -> Items:
        labels = np.array([label for _, label in rows], np.int64)
        return Items(
            [f"i{row}" for row in range(len(rows))], labels, texts=[one for one, _ in rows]
        )

    return Dataset("made", "made up", classes, items(train), items(validation))


@given(ROWS, ROWS)
def test_counts_are_those_of_a_plain_count(train: Rows, validation: Rows) -> None:
    report = look_at(data_of(train, validation))
    labels, measured = Counter(label for _, label in train), {label for _, label in validation}
    by_text = {one: {label for text, label in train if text == one} for one, _ in train}
    names = dict(enumerate("pqrs"))
    counts = {
        "torn": sum(len(own) > 1 for own in by_text.values()),
        "repeated": len(train) - len({*train}),
        "shared": sum(text in by_text for text, _ in validation),
        "missing": tuple(name for number, name in names.items() if labels[number] == 0),
        "single": tuple(name for number, name in names.items() if labels[number] == 1),
        "unmeasured": tuple(name for number, name in names.items() if number not in measured),
    }
    assert {name: getattr(report, name) for name in counts} == counts
    assert bool(report.torn) is bool(report.torn_ids)
    assert len(report.lines) == sum(map(bool, counts.values()))


def test_lines_say_what_where_and_how_many() -> None:
    train = [("x", 0), ("x", 0), ("x", 1), ("y", 2), ("z", 1)]
    classes = ("good", "Good ", "bad", "lost")
    assert look_at(data_of(train, [("y", 2), ("w", 0)], classes)).lines == [
        "1 text among the training items with two or more labels, such as i0, i1, i2",
        "1 training item with the text and label of an earlier one",
        "1 validation item with a text that is trained on as well, so the accuracy flatters",
        "no training item of lost",
        "one training item only of bad",
        "no validation item of Good , lost",
        "classes whose names may mean the same: good, Good ",
    ]


@pytest.mark.parametrize(
    "names", [("1", "True"), ("0", "false"), ("01", "+1", "1e0"), ("TRUE", "true"), ("Ja", "j a")]
)
def test_classes_whose_names_are_one_value_in_two_writings_are_named(
    names: tuple[str, ...],
) -> None:
    classes = (*names, "another")
    rows = [(str(number), number % len(classes)) for number in range(20)]
    assert look_at(data_of(rows, rows, classes)).alike == (names,)


def test_notes_come_first_and_nothing_wrong_is_nothing_said() -> None:
    repeated = "2 training items with the text and label of an earlier one"
    assert DataReport("text", notes=("read so",), repeated=2).lines == ["read so", repeated]
    right = data_of([("x", 0), ("y", 1), ("z", 0), ("u", 1)], [("v", 0), ("w", 1)], ("p", "q"))
    assert look_at(right).lines == []


def test_labels_made_wrong_on_purpose_are_not_held_against_the_data() -> None:
    twins = data_of(
        [(one, row % 2) for row, one in enumerate("abcdef") for _ in range(3)], [("a", 0)]
    )
    noisy = plant_label_noise(twins, 0.3, 0)
    assert look_at(twins) == look_at(noisy)
    assert look_at(twins) != look_at(replace(noisy, train=replace(noisy.train, true_labels=None)))


def test_of_long_lists_only_the_first_are_named() -> None:
    names = tuple(f"class {'x' * 50} {number}" for number in range(1000))
    line = DataReport("image", single=names).lines[0]
    assert line.endswith("and 995 more") and len(line) < 300
