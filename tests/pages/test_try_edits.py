"""On the page for one's own inputs: many texts from a CSV file, and edits beside the original."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest
from test_try_page import explain, settle

from tests.helpers.fake_runs import FakeRun, png
from tests.pages.app_testing import OpenPage, html_of
from turnover.dashboard.errors.answer_view import (
    MAX_ROWS,
    Question,
    Reply,
    batch_questions,
    batch_table,
    build_answer,
    item_question,
)
from turnover.dashboard.errors.edits_view import (
    MOST_SENTENCES,
    MOST_WORDS,
    compare,
    edited,
    followed,
    parts_of,
    parts_request,
    unit_of,
    weigh,
)
from turnover.data.images import png_pixels
from turnover.errors import TurnoverError
from turnover.explain.parts import GRID
from turnover.explain.words import visible
from turnover.runs.run import Run

pytestmark = pytest.mark.usefixtures("fresh")
TEXT = Question(text="a slow submarine")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(FakeRun().write(tmp_path / "made"))


def reply_of(
    positive: float, influences: dict[int, float], also: dict[int, float] | None = None
) -> dict:  # type: ignore[type-arg]
    def entries(known: dict[int, float]) -> list[dict[str, object]]:
        told = {"label": "positive", "std_error": 0.01, "trust": "strong", "text": "a boat"}
        return [
            {"position": position, "id": f"t{position:03d}", "influence": value, **told}
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
        "seconds": 0.1,
        **{side: entries(known) for side, known in sides.items()},
        **({} if also is None else {"also": entries(also)}),
    }


# Parts


def test_each_word_is_left_out_once(run: Run) -> None:
    parts = parts_of(run, Question(text="Slow, slow  boats.", top=7), "negative")
    assert [(part.name, part.question.text) for part in parts] == [
        ("1. Slow", ", slow  boats."),
        ("2. slow", "Slow, boats."),
        ("3. boats", "Slow, slow  ."),
    ]
    assert {(part.question.label, part.question.top) for part in parts} == {("negative", 7)}
    assert parts_of(run, Question(text="alone"), "negative") == ()
    assert len(parts_of(run, Question(text="word " * MOST_WORDS), "negative")) == MOST_WORDS


def test_of_a_long_text_each_sentence_is_left_out_once(run: Run) -> None:
    text = "Well! A dull film... " + "words and words " * 30 + "?\nIt ends.\n… "
    parts = parts_of(run, Question(text=text), "negative")
    assert unit_of(Question(text=text)) == "sentence" and unit_of(Question(image=b"x")) == "patch"
    assert [part.name.split(". ", 1)[1][:12].strip() for part in parts] == [
        "Well!",
        "A dull film.",
        "words and wo",
        "It ends.",
    ]
    assert parts[1].question.text.startswith("Well! words and words")
    assert "It ends" not in parts[3].question.text and "Well" not in parts[0].question.text
    assert len(parts_of(run, Question(text="One more. " * 500), "negative")) == MOST_SENTENCES


@given(text=st.text(min_size=1, max_size=60))
def test_leaving_a_word_out_takes_nothing_else_but_space(text: str) -> None:
    for part in parts_of(None, Question(text=text), "x"):  # type: ignore[arg-type]
        word = part.name.split(". ", 1)[1]
        without, whole = ("".join(one.split()) for one in (part.question.text, text))
        assert visible("".join(word.split())).removesuffix("…") in visible(whole)
        assert len(without) < len(whole) and part.question.text.strip()


@pytest.mark.parametrize("shape", [(8, 8), (32, 32, 3), (7, 9)])
def test_each_patch_is_blanked_once(shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 120, shape, np.uint8)
    folder = FakeRun("images", kind="image", classes=("a", "b")).write(tmp_path)
    run = Run(folder)
    run.items["image"] = [png(pixels)] * len(run.items)
    changed = np.zeros(shape[:2], int)
    parts = parts_of(run, Question(image=png(pixels), name="x"), "a")
    assert len(parts) == GRID * GRID and all(part.question.fitted for part in parts)
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
        build_answer(run, TEXT, reply_of(0.8, {1: 0.2})),
        parts_of(run, TEXT, "positive"),
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
    answer = build_answer(run, TEXT, reply_of(0.8, {4: 0.2, 9: -0.1}))
    question = edited(TEXT, answer, "a slow boat")
    assert question.request == {
        "text": "a slow boat",
        "label": "positive",
        "top": 5,
        "also": [4, 9],
    }
    assert followed(replace(TEXT, image=b"x", fitted=True), answer).request["fitted"] is True


def test_what_moved_most_comes_first(run: Run) -> None:
    before = build_answer(run, TEXT, reply_of(0.8, {4: 0.2, 9: -0.1}))
    question = edited(TEXT, before, "a slow boat")
    after = build_answer(run, question, reply_of(0.4, {7: 0.3, 9: -0.5}, also={4: 0.1, 9: -0.5}))
    moved = compare(before, after)
    assert {one.name: (one.before, one.after) for one in moved.chances} == {
        "positive": (0.8, 0.4),
        "negative": pytest.approx((0.2, 0.6)),
    }
    assert moved.loss == "Loss of “positive”: 0.223 before, 0.916 after (+0.693 nats)."
    assert [
        (old.influence if old else None, new.position, new.influence) for old, new in moved.items
    ] == [(-0.1, 9, -0.5), (0.2, 4, 0.1), (None, 7, 0.3)]


# Many texts


def test_a_table_of_texts_becomes_questions() -> None:
    made = batch_questions(
        '﻿id,text\n1,a film\n2,"two, lines\nof text"\n'.encode(), "a.csv", "positive", 10
    )
    assert [question.text for question in made] == ["a film", "two, lines\nof text"]
    assert {(question.label, question.top) for question in made} == {("positive", 10)}
    assert [question.text for question in batch_questions(b"sentence\nx\n", "a.csv", None, 5)] == [
        "x"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"text\n", "no rows; add some"),
        (b"words\nx\n", "no column 'text' (there are: words)"),
        (b'text\nx\n" "\n', "row 2, column text: the text is empty"),
        (b"text\ngood\nb\xe4d\n", "line 3: not UTF-8 text"),
        (b'text\n"torn\n', "a quote is never closed"),
        (b"text\na,b\n", "2 fields under 1 names"),
        (
            b"text\n" + b"x\n" * (MAX_ROWS + 1),
            f"{MAX_ROWS + 1} rows, the limit is {MAX_ROWS}; split the file",
        ),
        (b"text\n" + b"x" * 20_001 + b"\n", "row 1, column text: the text has 20,001 characters"),
        (b"x" * 5_000_000, "is more than 50 texts need"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not UTF-8 text"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(content: bytes, message: str) -> None:
    with pytest.raises(TurnoverError) as raised:
        batch_questions(content, "mine.csv", None, 5)
    assert (
        message in str(raised.value)
        and str(raised.value).startswith("mine.csv")
        and "\n" not in str(raised.value)
    )


def test_the_table_shows_the_strongest_proponent_or_the_problem(run: Run) -> None:
    table = batch_table(
        [
            Reply(TEXT, build_answer(run, TEXT, reply_of(0.8, {4: 0.2, 9: 0.3}))),
            Reply(TEXT, problem="too bad"),
        ]
    )
    assert table.loc[0, ["predicted", "proponent", "influence", "trust"]].tolist() == [
        "positive",
        "a boat",
        0.2,
        "strong",
    ]
    assert (
        table.loc[1, "proponent"] == "too bad"
        and table["probability"].tolist()[0] == 80
        and table["influence"].isna()[1]
    )


# The page


def ask(app: AppTest, text: str = "My <u>slow</u> submarine") -> AppTest:
    app.text_area(key="try-text").set_value(text)
    explain(app).run()
    return settle(app)


def test_an_edit_is_shown_beside_the_original(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = ask(settle(open_page("try")))
    assert app.text_area(key="try-edited-0-0").value == "My <u>slow</u> submarine"
    app.text_area(key="try-edited-0-0").set_value("My <u>slow</u> boat")
    next(button for button in app.button if button.label == "Ask again").click().run()
    shown = html_of(app)
    assert not app.exception and "Predicted: positive" in shown and "80.0% → 30.0%" in shown
    assert (
        "After the edit: “negative”. Loss of “positive”: 0.223 before, 1.204 after (+0.981 nats)."
        in shown
    )
    assert (
        "Influence before" in shown
        and "+0.900" in shown
        and "My &lt;u&gt;slow&lt;/u&gt; boat" in shown
        and "<u>" not in shown
    )
    app.text_area(key="try-edited-0-0").set_value("  ")
    next(button for button in app.button if button.label == "Ask again").click().run()
    assert "Predicted: positive" in html_of(app)
    ask(app, "Another submarine")
    assert (
        "After the edit" not in html_of(app)
        and app.text_area(key="try-edited-1-0").value == "Another submarine"
    )


def test_a_word_and_each_word_are_left_out(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = ask(settle(open_page("try")))
    app.selectbox(key="try-part-0-0").select("5. submarine").run()
    assert "80.0% → 30.0%" in html_of(app)
    app.button(key="try-weigh-0-0").click().run()
    assert (
        "5. submarine</span>" in html_of(app)
        and "+0.981, 30.0%" in html_of(app)
        and "4. u</span>" not in html_of(app)
    )
    assert "80.0% → 30.0%" in html_of(app), "what was asked before stays"


def test_a_patch_and_each_patch_are_blanked(open_page: OpenPage, runs: Path) -> None:
    FakeRun(kind="image", classes=("negative", "positive")).write(runs)
    app = settle(open_page("try"))
    app.file_uploader(key="try-image").upload(
        "mine.png", png(np.full((30, 30), 200, np.uint8)), "image/png"
    )
    explain(app).run()
    settle(app)
    app.button(key="try-weigh-0-0").click().run()
    shown = html_of(app)
    assert (
        not app.exception
        and shown.split("<style")[0].count("opacity:0.75") == GRID * GRID // 2
        and "row 1, column 1" in shown
    )
    app.selectbox(key="try-part-0-0").select("row 4, column 4").run()
    assert "your image, edited" in html_of(app) and "80.0% → 80.0%" in html_of(app)


def test_many_texts_are_answered_and_one_is_chosen(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = settle(open_page("try"))
    app.file_uploader(key="try-file").upload(
        "mine.csv", b"text\na submarine\nbad\na boat\n", "text/csv"
    )
    explain(app).run()
    settle(app)
    table = app.dataframe[0].value
    assert (
        table["predicted"].tolist() == ["positive", "", "negative"]
        and table["proponent"][1] == "your text: <b>too bad</b>"
    )
    assert "Predicted: positive" in html_of(app)
    app.selectbox(key="try-row").select(3).run()
    assert (
        "Predicted: negative" in html_of(app)
        and app.text_area(key="try-edited-0-2").value == "a boat"
    )
    app.selectbox(key="try-row").select(2).run()
    assert "your text: &lt;b&gt;too bad&lt;/b&gt;" in html_of(app) and not app.exception


@pytest.mark.parametrize("kind", ["text", "image"])
def test_an_error_is_opened_by_link_and_changed(open_page: OpenPage, runs: Path, kind: str) -> None:
    run = Run(
        FakeRun(
            kind=kind, texts=["a slow submarine story"], classes=("negative", "positive")
        ).write(runs)
    )
    question = item_question(run, "v003")
    assert question.image == bytes(run.item("validation", 3)["image"]) and question.request.get(
        "fitted", False
    ) == (kind == "image")
    app = settle(open_page("try", error="v003"))
    shown = html_of(app)
    assert not app.exception and "Validation item v003" in shown and "Predicted: positive" in shown
    app.button(key="try-weigh-0-0").click().run()
    assert ("3. submarine</span>" if kind == "text" else 'class="to-map"') in html_of(app)
    if kind == "text":
        ask(app, "My own submarine")
        assert "Validation item" not in html_of(app) and "My own <mark>submarine</mark>" in html_of(
            app
        )


def test_a_link_to_no_item_says_so(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = settle(open_page("try", error="<b>x</b>"))
    assert (
        "“&lt;b&gt;x&lt;/b&gt;” is not a validation item of this run" in html_of(app)
        and not app.exception
    )


def test_a_table_without_texts_is_said(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = settle(open_page("try"))
    app.file_uploader(key="try-file").upload("mine.csv", b"words\nx\n", "text/csv")
    explain(app).run()
    assert "mine.csv: no column &#x27;text&#x27;" in html_of(app)
