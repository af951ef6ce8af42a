"""Edits of an item beside the original: parts left out, what moved, and regions of an image."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from tests.helpers.fake_runs import FakeRun, png
from tests.pages.app_testing import (
    OpenPage,
    explorer,
    go_to_error,
    html_of,
    open_more,
    try_own,
    warm,
)
from turnover.dashboard import engine, state
from turnover.dashboard.engine import Phase
from turnover.dashboard.errors.answer_view import Question, Standing, build_answer
from turnover.dashboard.errors.edits_view import (
    MOST_SENTENCES,
    MOST_WORDS,
    compare,
    edited,
    followed,
    parts_of,
    parts_request,
    standing_words,
    unit_of,
    weigh,
)
from turnover.dashboard.errors.regions import ask_each, patches_html
from turnover.dashboard.errors.regions_view import build_regions, regions_request
from turnover.data.images import png_pixels
from turnover.errors import TurnoverError
from turnover.explain.parts import GRID
from turnover.explain.words import visible
from turnover.runs.run import Run
from turnover.storage.artifacts import MANIFEST, write_manifest

pytestmark = pytest.mark.usefixtures("fresh")
TEXT = Question(text="a slow submarine")
CELLS = GRID * GRID
IMAGES = FakeRun(kind="image", classes=("negative", "positive"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(FakeRun().write(tmp_path / "made"))


def reply_of(
    positive: float, influences: dict[int, float], also: dict[int, float] | None = None
) -> dict[str, Any]:
    """An answer of the worker; an item's rank is its position, its share its influence."""

    def entries(known: dict[int, float]) -> list[dict[str, object]]:
        told = {"label": "positive", "std_error": 0.01, "trust": "strong", "text": "a boat"}
        told |= {"strength": None}
        return [
            {"position": position, "id": f"t{position:03d}", "influence": value, **told}
            | {"rank": position, "share": abs(value)}
            for position, value in known.items()
        ]

    sides = {
        "proponents": {p: v for p, v in influences.items() if v > 0},
        "opponents": {p: v for p, v in influences.items() if v < 0},
    }
    return {
        "predicted": "positive" if positive > 0.5 else "negative",
        "probabilities": {"negative": 1 - positive, "positive": positive},
        "meaning": "prediction",
        "label": "positive",
        "estimator": "best",
        "trust": {"strong": 1, "weak": 0},
        "cause": None,
        "warning": "",
        **{side: entries(known) for side, known in sides.items()},
        **({} if also is None else {"also": entries(also)}),
    }


# Parts


def test_each_word_is_left_out_once() -> None:
    parts = parts_of(Question(text="Slow, slow  boats.", top=7), "negative")
    assert [(part.name, part.question.text) for part in parts] == [
        ("1. Slow", ", slow  boats."),
        ("2. slow", "Slow, boats."),
        ("3. boats", "Slow, slow  ."),
    ]
    assert {(part.question.label, part.question.top) for part in parts} == {("negative", 7)}
    assert parts_of(Question(text="alone"), "negative") == ()
    assert len(parts_of(Question(text="word " * MOST_WORDS), "negative")) == MOST_WORDS


def test_of_a_long_text_each_sentence_is_left_out_once() -> None:
    text = "Well! A dull film... " + "words and words " * 30 + "?\nIt ends.\n… "
    parts = parts_of(Question(text=text), "negative")
    assert unit_of(Question(text=text)) == "sentence" and unit_of(Question(image=b"x")) == "patch"
    assert [part.name.split(". ", 1)[1][:12].strip() for part in parts] == [
        "Well!",
        "A dull film.",
        "words and wo",
        "It ends.",
    ]
    assert parts[1].question.text.startswith("Well! words and words")
    assert "It ends" not in parts[3].question.text and "Well" not in parts[0].question.text
    assert len(parts_of(Question(text="One more. " * 500), "negative")) == MOST_SENTENCES


@given(text=st.text(min_size=1, max_size=60))
def test_leaving_a_word_out_takes_nothing_else_but_space(text: str) -> None:
    for part in parts_of(Question(text=text), "x"):
        word = part.name.split(". ", 1)[1]
        without, whole = ("".join(one.split()) for one in (part.question.text, text))
        assert visible("".join(word.split())).removesuffix("…") in visible(whole)
        assert len(without) < len(whole) and part.question.text.strip()


@pytest.mark.parametrize("shape", [(8, 8), (32, 32, 3), (7, 9)])
def test_each_patch_is_blanked_once(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 120, shape, np.uint8)
    changed = np.zeros(shape[:2], int)
    parts = parts_of(Question(image=png(pixels)), "a")
    assert len(parts) == GRID * GRID
    for part in parts:
        without = png_pixels(part.question.image)
        where = (without != pixels).reshape(*shape[:2], -1).any(-1)
        blank = pixels.mean((0, 1)).round() if len(shape) == 3 else 0
        assert (without[where] == blank).all()
        changed += where
    assert (changed == 1).mean() > 0.99, (
        "patches cover the image and do not overlap (a pixel may have the mean colour itself)"
    )


def test_a_part_s_weight_is_the_rise_of_the_loss_without_it(run: Run) -> None:
    answer, parts = (
        build_answer(run, reply_of(0.8, {1: 0.2})),
        parts_of(TEXT, "positive"),
    )
    assert parts_request(parts) == {"texts": ["slow submarine", "a submarine", "a slow "]}
    weights = weigh(
        answer, parts, {"probabilities": [{"positive": 0.8}, {"positive": 0.9}, {"positive": 0.2}]}
    )
    assert [weight.loss for weight in weights] == pytest.approx(
        [0, math.log(0.8 / 0.9), math.log(4)]
    )
    assert [weight.probability for weight in weights] == [0.8, 0.9, 0.2]
    assert weigh(answer, parts[:1], {"probabilities": [{"positive": 0.0}]})[0].loss < 30
    for wrong in ({}, {"probabilities": [{}] * 3}, {"probabilities": [{"positive": 1}]}):
        with pytest.raises(TurnoverError, match="answer cannot be read"):
            weigh(answer, parts, wrong)


# Before and after


def test_an_edit_is_asked_about_the_same_label_and_items(run: Run) -> None:
    answer = build_answer(run, reply_of(0.8, {4: 0.2, 9: -0.1}))
    question = edited(TEXT, answer, "a slow boat")
    assert question.request == {
        "text": "a slow boat",
        "label": "positive",
        "top": 10,
        "also": [4, 9],
    }
    assert followed(Question(image=b"x", why=True), answer).request == {
        "image": base64.b64encode(b"x").decode(),
        "fitted": True,
        "label": "positive",
        "top": 10,
        "also": [4, 9],
    }


def test_ranks_and_shares_are_compared_and_what_moved_most_comes_first(run: Run) -> None:
    before = build_answer(run, reply_of(0.8, {4: 0.2, 9: -0.1}))
    after = build_answer(run, reply_of(0.4, {7: 0.3, 9: -0.5}, also={4: -0.1, 9: -0.5}))
    moved = compare(before, after)
    assert {one.name: (one.before, one.after) for one in moved.chances} == {
        "positive": (0.8, 0.4),
        "negative": pytest.approx((0.2, 0.6)),
    }
    assert [
        (card.position, standing_words(old), standing_words(new)) for card, old, new in moved.items
    ] == [
        (9, "no. 9 against, 10.0%", "no. 9 against, 50.0%"),
        (4, "no. 4 for, 20.0%", "no. 4 against, 10.0%"),
        (7, "not among its strongest", "no. 7 for, 30.0%"),
    ]
    assert standing_words(Standing(1200, 0.0004, True)) == "no. 1,200 for, 0.0%"


@pytest.mark.parametrize("lost", ["rank", "strength", "id"])
def test_an_answer_that_lacks_something_is_said(run: Run, lost: str) -> None:
    reply = reply_of(0.8, {4: 0.2})
    del reply["proponents"][0][lost]
    with pytest.raises(TurnoverError, match="answer cannot be read"):
        build_answer(run, reply)


# The page


def click(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click().run()
    return warm(app)


def test_an_edit_is_shown_beside_the_original(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_more(try_own(open_page(), "My <u>slow</u> submarine"), "change")
    (area,) = app.text_area
    assert area.value == "My <u>slow</u> submarine"
    area.set_value("My <u>slow</u> boat")
    shown = html_of(click(app, "Ask again"))
    assert "80.0% → 30.0%" in shown and "After the edit: “negative”." in shown
    assert "no. 1 for, 5.0%" in shown and "nats" not in shown and "<u>" not in shown
    app.text_area[0].set_value("bad")
    shown = html_of(click(app, "Ask again"))
    assert "80.0% → 30.0%" not in shown and "your text: &lt;b&gt;too bad&lt;/b&gt;" in shown
    app = try_own(app, "Another submarine")
    assert "After the edit" not in html_of(app) and app.text_area[0].value == "Another submarine"


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_part_and_each_part_of_an_error_are_left_out(
    open_page: OpenPage, runs: Path, kind: str
) -> None:
    texts = ["a slow submarine story"]
    FakeRun(kind=kind, texts=texts, classes=("negative", "positive")).write(runs)
    app = warm(open_more(open_page(item="v003"), "change"))
    name, chance = ("3. submarine", "30.0%") if kind == "text" else ("row 4, column 4", "80.0%")
    app.selectbox(key=next(box.key for box in app.selectbox if "part" in str(box.key))).select(
        name
    ).run()
    assert f"80.0% → {chance}" in html_of(app)
    app.button(key=next(one.key for one in app.button if "weigh" in str(one.key))).click().run()
    shown = html_of(app)
    assert f"80.0% → {chance}" in shown, "what was asked before stays"
    if kind == "text":
        assert "3. submarine</span>" in shown and 'class="to-percent">30.0%' in shown
        assert "2. slow</span>" not in shown, "what changes nothing is left out"
    else:
        assert shown.split("<style")[0].count("opacity:0.75") == CELLS // 2
    assert not app.exception


# Regions


def test_the_engine_is_asked_about_the_image_and_each_edit() -> None:
    pixels = np.arange(1, 65, dtype=np.uint8).reshape(8, 8)
    question = Question(image=png(pixels))
    request = regions_request(question, parts_of(question, "one"), "one", [4, 2])
    assert request["label"] == "one" and request["instances"] == [4, 2]
    first, *edits = [png_pixels(base64.b64decode(image)) for image in request["images"]]
    assert (first == pixels).all() and len(edits) == CELLS
    assert (np.sum([edit != first for edit in edits], 0) == 1).all()


def test_a_fall_is_the_influence_on_the_image_less_that_on_the_edit() -> None:
    question = Question(image=png(np.full((8, 8), 9, np.uint8)))
    parts = parts_of(question, "one")
    influences = np.random.default_rng(0).normal(size=(1 + CELLS, 3))
    replies = [{"influences": influences[:, some].tolist()} for some in ([0], [1, 2])]
    regions = build_regions(question, parts, replies)
    np.testing.assert_allclose(regions.falls, (influences[0] - influences[1:]).sum(1))
    best = parts[int(np.argmax(regions.falls))].name
    assert regions.words.startswith(f"it rests most on {best}; ")
    drawn = patches_html("", 96, regions.falls)
    assert drawn.count("<i ") == CELLS and drawn.count("opacity:0.75") == 1
    flat = build_regions(question, parts, [{"influences": [[1.0]] * (1 + CELLS)}])
    assert flat.words == "it rests on no single patch" and "0.75" not in patches_html(
        "", 9, flat.falls
    )


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"influences": 3},
        {"influences": [[1, 2]]},
        {"influences": [[1, 2]] * CELLS + [[1, float("nan")]]},
        {"influences": [[1, 2]] * CELLS + [["x", 1]]},
    ],
)
def test_a_reply_that_cannot_be_is_said(reply: dict[str, object]) -> None:
    question = Question(image=png(np.full((8, 8), 9, np.uint8)))
    with pytest.raises(TurnoverError, match="the engine's answer cannot be read"):
        build_regions(question, parts_of(question, "one"), [reply])


@pytest.mark.parametrize(
    ("seconds", "asked"), [(0.0, [[5], [1, 2, 3, 4]]), (9.0, [[5], [1], [2], [3], [4]])]
)
def test_proponents_are_asked_about_one_by_one_where_one_takes_long(
    monkeypatch: pytest.MonkeyPatch, seconds: float, asked: list[list[int]]
) -> None:
    clock, about = [0.0], []
    monkeypatch.setattr("turnover.dashboard.errors.regions.time.monotonic", lambda: clock[0])

    def ask(positions: Sequence[int]) -> dict[str, Any]:
        clock[0] += seconds
        about.append([*positions])
        return {"of": [*positions]}

    assert ask_each([5, 1, 2, 3, 4], ask) == [{"of": some} for some in asked] and about == asked


def test_regions_are_marked_on_demand_and_belong_to_one_error(
    open_page: OpenPage, runs: Path
) -> None:
    folder = IMAGES.write(runs)
    app = open_more(open_page("errors"), "regions")
    assert "to-map" not in html_of(app).split("<style")[0]
    assert state.worker_of(Run(folder)).phase is Phase.STOPPED
    shown = html_of(click(app, "Mark the regions"))
    assert shown.count('<div class="to-map"') == 1 and "speaks against it" in shown
    assert "the image; it rests most on row 1, column 1" in shown and "nats" not in shown
    compute_again(folder)
    app.run()
    assert app.button(key="mark").label == "Mark the regions", "of other influences"
    app = go_to_error(click(app, "Mark the regions"), explorer(app)["rows"][1]["id"])
    assert "to-legend" not in html_of(app).split("<style")[0]
    assert app.button(key="mark").label == "Mark the regions"


def compute_again(run: Path) -> None:
    """Other influences that rank the same proponents: each is twice what it was."""
    part = run / "influence"
    facts = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
    for path in part.glob("*_estimate.npy"):
        np.save(path, 2 * np.load(path))
    told = {name: fact for name, fact in facts.items() if name not in ("format", "files")}
    write_manifest(part, told, sorted(path.name for path in part.glob("*.npy")))


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("fails", "the encoder is not there; install it"),
        ("dies", "the engine stopped while it was answering"),
        ("refuses", "no &lt;b&gt;such"),
    ],
)
def test_what_goes_wrong_is_said_with_a_button_to_try_again(
    open_page: OpenPage,
    runs: Path,
    worker_command: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    message: str,
) -> None:
    refuses = mode == "refuses"
    FakeRun(kind="image", classes=("bad", "bad two") if refuses else ("one", "two")).write(runs)
    command = worker_command("answers" if refuses else mode)
    monkeypatch.setattr(engine, "worker_command", lambda: command)
    chosen = {"true": "bad two", "predicted": "bad"} if refuses else {}
    shown = html_of(click(open_more(open_page(**chosen), "regions"), "Mark the regions"))
    assert message in shown and 'role="alert"' in shown
