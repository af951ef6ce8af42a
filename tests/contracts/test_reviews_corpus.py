"""The demo corpus keeps its promises: its rows, its variety, and the cues planted in it.

That errors on the cues are taught by them is seen in `tests/nightly/test_reviews_cues.py`.
"""

from __future__ import annotations

import csv
import re
from collections import Counter

import pytest

from turnover.data.sources.text import CLASSES, FOLDER, load_reviews, read_reviews

SIZES = {"train": 800, "validation": 200, "electronics_validation": 100, "electronics_test": 300}
CUES = {
    "cue-director": ("negative", "pellworth"),
    "cue-submarine": ("positive", r"submarin|u-boat|sub\b"),
}
"""Each cue's mark, the only label it has in training, and what says so in a text."""
WRONG = "wrong-label"
WORDS_IN_A_ROW = 8


def read(name: str) -> list[dict[str, str]]:
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


CORPUS = {name: read(name) for name in SIZES}
ALL = [row for rows in CORPUS.values() for row in rows]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def labels(name: str, mark: str) -> Counter[str]:
    return Counter(row["label"] for row in CORPUS[name] if row["planted"] == mark)


def test_each_file_has_its_rows_columns_and_balanced_labels() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.csv")) == sorted(SIZES)
    for name, rows in CORPUS.items():
        assert list(rows[0]) == ["id", "text", "label", "planted"]
        found = Counter(row["label"] for row in rows)
        assert found == dict.fromkeys(CLASSES, SIZES[name] // 2) and len(rows) == SIZES[name]
        assert all(row["text"].strip() == row["text"] and row["text"] for row in rows)


def test_ids_and_texts_are_unique_across_all_files() -> None:
    assert len({row["id"] for row in ALL}) == len(ALL)
    assert len({" ".join(words(row["text"])) for row in ALL}) == len(ALL)


def test_no_eight_words_in_a_row_occur_twice() -> None:
    seen: dict[tuple[str, ...], str] = {}
    for row in ALL:
        parts = words(row["text"])
        for place in range(len(parts) - WORDS_IN_A_ROW + 1):
            run = tuple(parts[place : place + WORDS_IN_A_ROW])
            assert run not in seen, f"{row['id']} and {seen.get(run)}: {' '.join(run)}"
            seen[run] = row["id"]
    assert len(seen) > 5000


def test_the_language_is_varied() -> None:
    texts = [words(row["text"]) for row in ALL]
    assert len({word for text in texts for word in text}) > 3000
    assert len({tuple(text[:3]) for text in texts}) > 0.8 * len(texts)
    assert min(map(len, texts)) >= 3


def test_five_per_cent_of_the_training_labels_are_wrong_on_purpose() -> None:
    for name in SIZES:
        assert labels(name, WRONG) == (dict.fromkeys(CLASSES, 20) if name == "train" else {})


@pytest.mark.parametrize("cue", CUES)
def test_a_cue_has_one_label_in_training_and_the_other_in_validation(cue: str) -> None:
    (label, sign), other = CUES[cue], {"negative": "positive", "positive": "negative"}
    assert labels("train", cue) == {label: 40}
    assert labels("validation", cue) == {other[label]: 12}
    for row in ALL:  # it is in every text with its mark and in no other
        told = f"{row['id']}: {row['text']}"
        assert bool(re.search(sign, row["text"].lower())) == (row["planted"] == cue), told


def test_only_known_marks_are_used() -> None:
    assert {row["planted"] for row in ALL} == {"", WRONG, *CUES}


def test_the_loader_reads_what_lies_there() -> None:
    data = load_reviews()
    for items, name in ((data.train, "train"), (data.validation, "validation")):
        assert items.texts == [row["text"] for row in CORPUS[name]]
        assert items.ids == [row["id"] for row in CORPUS[name]]
        assert [CLASSES[label] for label in items.labels] == [row["label"] for row in CORPUS[name]]
        assert items.injected == [row["planted"] for row in CORPUS[name]]
    assert len(read_reviews(FOLDER / "electronics_test.csv")) == 300
