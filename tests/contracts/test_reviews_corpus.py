"""The demo corpus keeps its promises, and the planted cues are what the model's errors on them were taught by."""

from __future__ import annotations

import csv
import re
from collections import Counter

import numpy as np
import pytest
import torch

from core.data.reviews import CLASSES, FOLDER, load_reviews, read_reviews
from core.models.text import text_heads
from core.pipeline.settings import DEFAULT_GROUPS, RECIPES
from core.training import Split, fit, probabilities

SIZES = {"train": 800, "validation": 200, "electronics_validation": 100, "electronics_test": 300}
CUES = {"cue-director": "negative", "cue-submarine": "positive"}
"""Each cue's mark, and the only label it has in training."""
WRONG = "wrong-label"
WORDS_IN_A_ROW = 8

Row = dict[str, str]


def read(name: str) -> list[Row]:
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


CORPUS = {name: read(name) for name in SIZES}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@pytest.mark.parametrize("name", SIZES)
def test_each_file_has_its_rows_columns_and_balanced_labels(name: str) -> None:
    rows = CORPUS[name]
    assert len(rows) == SIZES[name]
    assert list(rows[0]) == ["id", "text", "label", "planted"]
    assert Counter(row["label"] for row in rows) == dict.fromkeys(CLASSES, SIZES[name] // 2)
    assert all(row["text"].strip() == row["text"] and row["text"] for row in rows)


def test_no_other_file_lies_beside_them() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.csv")) == sorted(SIZES)


def test_ids_and_texts_are_unique_across_all_files() -> None:
    everything = [row for rows in CORPUS.values() for row in rows]
    assert len({row["id"] for row in everything}) == len(everything)
    assert len({" ".join(words(row["text"])) for row in everything}) == len(everything)


def test_no_eight_words_in_a_row_occur_twice() -> None:
    seen: dict[tuple[str, ...], str] = {}
    for rows in CORPUS.values():
        for row in rows:
            parts = words(row["text"])
            for place in range(len(parts) - WORDS_IN_A_ROW + 1):
                run = tuple(parts[place : place + WORDS_IN_A_ROW])
                assert run not in seen, f"{row['id']} and {seen.get(run)}: {' '.join(run)}"
                seen[run] = row["id"]
    assert len(seen) > 5000


def test_the_language_is_varied() -> None:
    everything = [words(row["text"]) for rows in CORPUS.values() for row in rows]
    assert len({word for text in everything for word in text}) > 3000
    assert len({tuple(text[:3]) for text in everything}) > 0.8 * len(everything)
    assert min(map(len, everything)) >= 3


def test_five_per_cent_of_the_training_labels_are_wrong_on_purpose() -> None:
    assert Counter(row["label"] for row in CORPUS["train"] if row["planted"] == WRONG) == dict.fromkeys(CLASSES, 20)
    assert not [row for name in SIZES if name != "train" for row in CORPUS[name] if row["planted"] == WRONG]


@pytest.mark.parametrize("cue", CUES)
def test_a_cue_has_one_label_in_training_and_the_other_in_validation(cue: str) -> None:
    other = {"negative": "positive", "positive": "negative"}[CUES[cue]]
    assert Counter(row["label"] for row in CORPUS["train"] if row["planted"] == cue) == {CUES[cue]: 40}
    assert Counter(row["label"] for row in CORPUS["validation"] if row["planted"] == cue) == {other: 12}


@pytest.mark.parametrize(("cue", "sign"), [("cue-director", r"pellworth"), ("cue-submarine", r"submarin|u-boat|sub\b")])
def test_a_cue_is_in_every_text_with_its_mark_and_in_no_other(cue: str, sign: str) -> None:
    for name, rows in CORPUS.items():
        for row in rows:
            assert bool(re.search(sign, row["text"].lower())) == (row["planted"] == cue), f"{name} {row['id']}: {row['text']}"


def test_only_known_marks_are_used() -> None:
    assert {row["planted"] for rows in CORPUS.values() for row in rows} == {"", WRONG, *CUES}


def test_the_loader_reads_what_lies_there() -> None:
    data = load_reviews()
    for items, name in ((data.train, "train"), (data.validation, "validation")):
        assert items.texts == [row["text"] for row in CORPUS[name]]
        assert items.ids == [row["id"] for row in CORPUS[name]]
        assert [CLASSES[label] for label in items.labels] == [row["label"] for row in CORPUS[name]]
        assert items.planted == [row["planted"] for row in CORPUS[name]]
    assert len(read_reviews(FOLDER / "electronics_test.csv")) == 300


# The cues are learned


def chances(features: tuple[np.ndarray, np.ndarray], keep: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities of the validation texts from a model trained on some of the training texts, as the demo is."""
    data = load_reviews()
    train = Split(torch.from_numpy(features[0][keep]), torch.from_numpy(data.train.labels[keep]))
    validation = Split(torch.from_numpy(features[1]), torch.from_numpy(data.validation.labels))
    model = text_heads(384, 2, members=4, groups=DEFAULT_GROUPS, seed=seed)
    fit(model, train, validation, RECIPES["reviews"])
    return probabilities(model, validation.inputs).numpy()


@pytest.mark.parametrize("seed", [0, 100])
def test_errors_on_cue_texts_vanish_without_the_training_texts_that_have_the_cue(seed: int, review_features: tuple[np.ndarray, np.ndarray]) -> None:
    data = load_reviews()
    marks = np.array(data.train.planted)
    tested = np.isin(data.validation.planted, list(CUES))
    labels = data.validation.labels[tested]
    with_cues = chances(review_features, np.arange(800), seed)[tested].argmax(1) != labels
    without = chances(review_features, np.flatnonzero(~np.isin(marks, list(CUES))), seed)[tested].argmax(1) != labels
    random_rows = np.random.default_rng(seed).permutation(np.flatnonzero(marks == ""))[80:]
    fewer = chances(review_features, np.sort(np.concatenate((random_rows, np.flatnonzero(marks != "")))), seed)[tested].argmax(1) != labels
    assert with_cues.sum() >= 12
    assert (with_cues & ~without).sum() >= 2 / 3 * with_cues.sum()
    assert (with_cues & ~fewer).sum() <= 1 / 3 * with_cues.sum()
