"""The list of errors and one of them, as data for the browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.fake_runs import FakeRun, keep_ends, keep_targets
from turnover.dashboard.errors.list_view import (
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
from turnover.dashboard.errors.pane_view import decisions, pane, usual_influences
from turnover.explain.explanation import error_items, explain_error
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
    assert select(items, Place(sort="unknown")) == select(items, Place(sort=CLEAREST))


def test_a_place_is_what_its_address_says(run: Run) -> None:
    for place in (
        Place(),
        Place("negative", "positive", "a b&c", CONFIDENT, "v003"),
        Place(sort=POSITION, item="<b>"),
    ):
        assert place_of(place.params, run.classes) == place
    odd = {"true": "zebra", "sort": "up", "search": "x" * 9000, "item": 3, "other": "y"}
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


def test_strength_is_told_in_usual_items_of_the_same_class(run: Run) -> None:
    item = error_items(run, with_influence=True)[0]
    values = run.influence.ranked(item.position, PREDICTION).values
    labels = run.train["label"].to_numpy()
    usual = usual_influences(run, item)
    assert usual == {
        name: pytest.approx(np.abs(values[labels == label]).mean())
        for label, name in enumerate(run.classes)
    }
    shown, explanation = pane(run, item, True), explain_error(run, item, PREDICTION, 5)
    for card, sent in zip(explanation.proponents, shown["teachers"], strict=True):
        times = card.influence / usual[card.label]
        words = f"{times:.1f}" if times < 1.95 else f"{times:,.0f}"
        assert sent["strength"] == f"{words} × usual"
        assert sent["tick"] / sent["share"] == pytest.approx(1 / times, rel=0.05)
        assert sent["uncertain"] is (card.trust != "strong")
        assert "nats" in sent["hover"] and "±" in sent["hover"]


def test_where_only_ends_are_kept_nothing_says_what_is_usual(run: Run) -> None:
    keep_ends(run.folder, 6)
    item = error_items(run := Run(run.folder), with_influence=True)[0]
    shown = pane(run, item, True)
    assert usual_influences(run, item) == {}
    assert {card["strength"] for card in shown["teachers"]} == {""} and shown["why"]


def test_an_error_without_influence_is_shown_without_teachers(run: Run) -> None:
    item = error_items(run, with_influence=True)[0]
    bare = pane(run, item, with_influence=False)
    assert (bare["teachers"], bare["why"], bare["known"]) == ([], "", False)
    keep_targets(run.folder, [item.position])
    run = Run(run.folder)
    others = [one for one in error_items(run, with_influence=True) if one.id != item.id]
    assert pane(run, item, True)["known"] and "--targets" in pane(run, others[0], True)["why"]


def test_a_long_text_is_cut_and_says_how_much_is_left(tmp_path: Path) -> None:
    run = Run(FakeRun(texts=["word " * 20_000]).write(tmp_path))
    content = pane(run, error_items(run, with_influence=True)[0], True)["content"]
    sent = sum(len(text) for text, _ in (*content["head"], *content["tail"]))
    assert sent + content["left"] == 100_000 and sent <= 3000


def test_only_decisions_on_shown_items_are_sent(run: Run) -> None:
    shown = pane(run, error_items(run, with_influence=True)[0], True)
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
