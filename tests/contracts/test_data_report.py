"""The data report: what is wrong with a data set is counted, named and said; what is right is not mentioned."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as some

from core.data import load_data
from core.data.base import Dataset, Items, plant_label_noise
from core.data.report import DataReport, look_at

ROWS = some.lists(some.tuples(some.sampled_from("abcdef"), some.integers(0, 3)), min_size=1, max_size=30)


def data_of(train: list[tuple[str, int]], validation: list[tuple[str, int]], classes: tuple[str, ...] = ("p", "q", "r", "s")) -> Dataset:
    def items(rows: list[tuple[str, int]]) -> Items:
        return Items([f"i{row}" for row in range(len(rows))], np.array([label for _, label in rows], np.int64), texts=[text for text, _ in rows])

    return Dataset("made", "made up", classes, items(train), items(validation))


@given(ROWS, ROWS)
def test_counts_are_those_of_a_plain_count(train: list[tuple[str, int]], validation: list[tuple[str, int]]) -> None:
    report = look_at(data_of(train, validation))
    labels = Counter(label for _, label in train)
    assert report.repeated == len(train) - len({*train})
    assert report.torn == sum(len({label for text, label in train if text == one}) > 1 for one in "abcdef")
    assert report.shared == sum(text in {text for text, _ in train} for text, _ in validation)
    assert report.single == tuple(name for number, name in enumerate("pqrs") if labels[number] == 1)
    assert report.missing == tuple(name for number, name in enumerate("pqrs") if labels[number] == 0)
    assert report.unmeasured == tuple(name for number, name in enumerate("pqrs") if number not in {label for _, label in validation})
    assert bool(report.torn) is bool(report.torn_ids) and len(report.lines) == sum(
        map(bool, (report.repeated, report.torn, report.shared, report.single, report.missing, report.unmeasured))
    )


def test_lines_say_what_where_and_how_many() -> None:
    report = look_at(data_of([("x", 0), ("x", 0), ("x", 1), ("y", 2), ("z", 1)], [("y", 2), ("w", 0)], ("good", "Good ", "bad", "lost")))
    assert report.lines == [
        "1 text among the training items with two or more labels, such as i0, i1, i2",
        "1 training item with the text and label of an earlier one",
        "1 validation item with a text that is trained on as well, so the accuracy flatters",
        "no training item of lost",
        "one training item only of bad",
        "no validation item of Good , lost",
        "classes whose names differ in spaces or capitals only: good, Good ",
    ]


def test_notes_come_first_and_nothing_wrong_is_nothing_said() -> None:
    assert DataReport("text", notes=("read so",), repeated=2).lines == ["read so", "2 training items with the text and label of an earlier one"]
    assert look_at(data_of([("x", 0), ("y", 1), ("z", 0), ("u", 1)], [("v", 0), ("w", 1)], ("p", "q"))).lines == []


def test_labels_made_wrong_on_purpose_are_not_held_against_the_data() -> None:
    digits = load_data("digits")
    assert look_at(digits) == look_at(plant_label_noise(digits, 0.3, 0))


def test_of_long_lists_only_the_first_are_named() -> None:
    line = DataReport("image", single=tuple(f"class {'x' * 50} {number}" for number in range(1000))).lines[0]
    assert line.endswith("and 995 more") and len(line) < 300
