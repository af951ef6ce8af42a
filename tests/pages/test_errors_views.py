"""The list of errors and one of them, as data for the browser."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.fake_runs import FakeRun, keep_ends, keep_targets
from turnover.attribution.estimators.significance import NOISE
from turnover.dashboard.errors.list_view import (
    CAUSE,
    CLEAREST,
    CONFIDENT,
    POSITION,
    STEP,
    Place,
    confusions,
    place_of,
    select,
    window,
)
from turnover.dashboard.errors.pane_view import decisions, pane, why_words
from turnover.explain.causes import Causes, causes
from turnover.explain.doubt import Doubt
from turnover.explain.explanation import ErrorItem, error_items, explain_error
from turnover.explain.reasons import CLASS, CUE, LABEL, NONE, TEACHERS, Cause
from turnover.flags import Flags
from turnover.runs.run import PREDICTION, Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(FakeRun().write(tmp_path))


# The list


def test_filters_search_and_sorting(run: Run) -> None:
    items = error_items(run, with_influence=True)
    assert select(items, Place()) == list(items)
    assert {item.label for item in select(items, Place(true="negative"))} == {"negative"}
    assert {item.predicted for item in select(items, Place(predicted="negative"))} == {"negative"}
    assert select(items, Place(true="negative", predicted="negative")) == []
    word = items[3].text.split()[0]
    found = select(items, Place(search=f"  {word.upper()} "))
    assert found == [item for item in items if word in item.text]
    assert [item.id for item in select(items, Place(search=items[2].id))] == [items[2].id]
    assert all(item.injected for item in select(items, Place(search="cue-sub")))
    chances = [item.probability for item in select(items, Place(sort=CONFIDENT))]
    assert chances == sorted(chances, reverse=True)
    assert [
        item.position for item in select(items, Place(sort=POSITION))
    ] == run.misclassified_positions
    assert select(items, Place()) == select(items, Place(sort=CLEAREST))


def test_errors_of_ordinary_training_are_told_apart(run: Run) -> None:
    items = error_items(run, with_influence=True)
    assert {item.twin for item in items} == {True, False}
    for value, twin in (("yes", True), ("no", False)):
        found = select(items, Place(twin=value))
        assert found == [item for item in items if item.twin is twin]
    unknown = [replace(item, twin=None) for item in items]
    assert select(unknown, Place(twin="yes")) == select(unknown, Place(twin="no")) == []


def test_errors_stand_together_by_cause_the_first_group_first(run: Run) -> None:
    items = error_items(run, with_influence=True)
    names = ("b", "a", "b", "c", "a", "b", "c", "c")
    groups = {item.position: name for item, name in zip(items, names, strict=True)}
    order = [items[number] for number in (0, 2, 5, 1, 4, 3, 6, 7)]
    assert select(items, Place(sort=CAUSE), groups) == order
    assert select(items, Place(cause="a"), groups) == [items[1], items[4]]
    assert select(items, Place(cause="nothing"), groups) == []
    assert select(items, Place(sort=CLEAREST), groups) == list(items)


def test_a_place_is_what_its_address_says(run: Run) -> None:
    for place in (
        Place(),
        Place("negative", "positive", "“boat”", "a b&c", CONFIDENT, "v003", "no", "groups", "x y"),
        Place(sort=POSITION, item="<b>"),
    ):
        said = {name: value for name, value in vars(place).items() if value not in ("", CAUSE)}
        assert place_of(said, run.classes) == place
    odd = {
        "true": "zebra",
        "sort": "up",
        "twin": "maybe",
        "search": "x" * 9000,
        "item": 3,
        "other": "y",
    }
    read = place_of(odd, run.classes)
    assert read == Place(search="x" * 200)


def test_rows_reach_far_enough_on_both_sides() -> None:
    for total in (0, 1, 49, 50, 151, 700):
        for index in range(total):
            rows = window(index, total)
            assert set(range(max(0, index - STEP), min(total, index + STEP))) <= set(rows)
            assert len(rows) <= 3 * STEP
    assert list(window(0, 0)) == []


def test_confusions_count_the_errors_that_the_same_filters_show(tmp_path: Path) -> None:
    items = error_items(Run(FakeRun(classes=tuple("0123456789")).write(tmp_path)), True)
    pairs = confusions(items)
    for one in pairs:
        found = len(select(items, Place(true=one["true"], predicted=one["predicted"])))
        assert one["words"] == f"{one['true']} → {one['predicted']} ({found})"
    assert len({(one["true"], one["predicted"]) for one in pairs}) == len(pairs)


# One error


def shown_of(run: Run, number: int = 0) -> tuple[ErrorItem, dict[str, Any]]:
    """An error of a run, and as data for the browser."""
    item = error_items(run, with_influence=True)[number]
    return item, pane(run, item, causes(run))


def test_strength_is_told_in_usual_items_of_the_same_class(run: Run) -> None:
    item, shown = shown_of(run)
    sizes = np.abs(run.influence.ranked(item.position, PREDICTION).values)
    labels = run.train["label"].to_numpy()
    explanation = explain_error(run, item, PREDICTION, 5)
    for card, sent in zip(explanation.proponents, shown["teachers"], strict=True):
        same = labels == run.classes.index(card.label)
        times = card.influence / np.median(sizes[same])
        words = f"{times:.1f}" if times < 2 else f"{times:,.0f}"
        assert sent["strength"] == f"{words} × usual"
        assert sent["tick"] / sent["share"] == pytest.approx(1 / times, rel=0.05)
        assert sent["uncertain"] is (card.trust == NOISE)
        assert "nats" in sent["hover"] and "±" in sent["hover"]


def test_where_only_ends_are_kept_nothing_says_what_is_usual(run: Run) -> None:
    keep_ends(run.folder, 6)
    _, shown = shown_of(Run(run.folder))
    assert {card["strength"] for card in shown["teachers"]} == {""} and shown["why"]


def test_an_error_without_influence_is_shown_without_teachers(run: Run) -> None:
    item, _ = shown_of(run)
    bare = pane(run, item, None)
    assert (bare["teachers"], bare["why"], bare["content"] != {}) == ([], "", True)
    keep_targets(run.folder, [item.position])
    _, other = shown_of(Run(run.folder), 1)
    assert "--targets" in other["why"] and other["teachers"] == []


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (
            Cause(0, CUE, "long", "“boat”", words=("boat",), without=0.18),
            "“boat” taught this: without it, “positive” 70% → 18%.",
        ),
        (
            Cause(0, CUE, "long", "other cues", regions=(5,), without=0.18),
            "The outlined region taught this: without it, “positive” 70% → 18%.",
        ),
        (
            Cause(0, LABEL, "long", "label in doubt", doubt=Doubt("positive", 0.87)),
            "Label in doubt: probably “positive”.",
        ),
        (
            Cause(0, TEACHERS, "long", "teachers", teachers=(1, 2, 3)),
            "3 doubtful labels taught this.",
        ),
        (
            Cause(0, CLASS, "long", "whole class"),
            "The whole class taught this.",
        ),
        (
            Cause(0, NONE, "long", "no clear cause"),
            "No clear cause.",
        ),
    ],
)
def test_why_is_told_in_few_words(run: Run, cause: Cause, words: str) -> None:
    item = replace(shown_of(run)[0], predicted="positive", probability=0.7)
    assert why_words(run, item, cause) == words and len(re.findall(r"[^\W\d]+", words)) <= 8


def test_labels_in_doubt_are_proposed_by_name_and_number(run: Run) -> None:
    item, shown = shown_of(run)
    known = causes(run)
    position = shown["teachers"][1]["position"]
    own = replace(known.by_error[item.position], doubt=Doubt("negative", 0.6))
    doubted = Causes((own,), {position: Doubt("positive", 0.951)})
    sent = pane(run, item, doubted)
    assert sent["doubt"] == {"label": "negative", "index": 0, "chance": "60%"}
    assert [card["doubt"] for card in sent["teachers"]] == [
        {"label": "positive", "index": 1, "chance": "95%"} if number == 1 else None
        for number in range(5)
    ]


def test_only_the_words_of_a_cue_are_marked(tmp_path: Path) -> None:
    run = Run(FakeRun(texts=["a slow submarine", "the submarine again"]).write(tmp_path))
    item, shown = shown_of(run)
    cue = replace(causes(run).by_error[item.position], kind=CUE, words=("submarine",))
    marked = pane(run, item, Causes((cue,), {}))
    assert not any(kind for text, kind in shown["content"]["head"])
    for one in (marked, *marked["teachers"]):
        assert [text for text, kind in one["content"]["head"] if kind] == ["submarine"]


def test_the_region_of_a_cue_is_outlined_where_it_lies(tmp_path: Path) -> None:
    run = Run(FakeRun(kind="image", classes=("one", "two")).write(tmp_path))
    item, shown = shown_of(run)
    assert shown["boxes"] == []
    cue = replace(causes(run).by_error[item.position], kind=CUE, regions=(6, 15))
    boxes = pane(run, item, Causes((cue,), {}))["boxes"]
    assert boxes == [[50, 25, 25, 25], [75, 75, 25, 25]]


def test_a_long_text_is_cut_and_says_how_much_is_left(tmp_path: Path) -> None:
    run = Run(FakeRun(texts=["word " * 20_000]).write(tmp_path))
    content = shown_of(run)[1]["content"]
    sent = sum(len(text) for text, _ in (*content["head"], *content["tail"]))
    assert sent + content["left"] == 100_000 and sent <= 3000


def test_only_decisions_on_shown_items_are_sent(run: Run) -> None:
    _, shown = shown_of(run)
    first, *_ = shown["teachers"]
    others = {card["position"] for card in (*shown["teachers"], *shown["opponents"])}
    hidden = next(place for place in range(30) if place not in others)
    flags = Flags(run.folder, by="ann")
    flags.put_many([first["position"], hidden], "relabel", "positive", "why")
    assert decisions(flags.current(), [shown]) == {
        str(first["position"]): {
            "action": "relabel",
            "label": "positive",
            "note": "why",
            "by": "ann",
        }
    }
