"""One's own texts and images: what is given becomes items of Errors, which the address names."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import streamlit
from PIL import Image
from streamlit.testing.v1 import AppTest

from tests.helpers.fake_runs import FakeRun, png, remove_influence
from tests.pages.app_testing import (
    OpenPage,
    explorer,
    go_to_error,
    html_of,
    open_more,
    shown_pane,
    try_own,
)
from turnover.dashboard import engine, state
from turnover.dashboard.engine import Phase
from turnover.dashboard.errors.answer_view import Question
from turnover.dashboard.errors.own_view import MAX_ROWS, Collection, given_of, image_as_seen
from turnover.data.images import is_blank, png_pixels
from turnover.runs.run import Run

pytestmark = pytest.mark.usefixtures("fresh")
IMAGES = FakeRun(kind="image", classes=("negative", "positive"))
TEXT = "My <u>slow</u> submarine"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(FakeRun().write(tmp_path / "made"))


def given(run: Run, content: bytes, name: str = "mine.csv") -> list[tuple[str, str]]:
    """What a file holds: names, and texts or why there is none."""
    return [
        (name, asked.text if isinstance(asked, Question) else f"! {asked}")
        for name, asked in given_of(run, "not looked at", (content, name))
    ]


# What is given


def test_a_text_or_a_file_becomes_a_question(run: Run) -> None:
    assert given_of(run, "a boat", None) == [("your text", Question(text="a boat", why=True))]
    assert given(run, b"\xef\xbb\xbfwords in a file", "mine.txt") == [
        ("mine.txt", "words in a file")
    ]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (
            b'\xef\xbb\xbfid,text\n1,a film\n2,"two, lines\nof text"\n',
            ["a film", "two, lines\nof text"],
        ),
        (b"sentence\nx\n", ["x"]),
        (b"what people said\nx\n", ["x"]),
        (
            b"id,label,remark\n1,good,a film of two hours\n2,bad,another long one\n",
            ["a film of two hours", "another long one"],
        ),
    ],
)
def test_the_column_of_the_texts_is_found(run: Run, content: bytes, texts: list[str]) -> None:
    assert [text for _, text in given(run, content)] == texts


def test_rows_with_problems_are_skipped_and_listed(run: Run) -> None:
    content = b"text,n\na,1\n,2\n" + b"x" * 20_001 + b',3\n" ",4\nb,5\n'
    rows = given(run, content)
    assert [name for name, _ in rows] == [
        "mine.csv, row 1",
        *(f"mine.csv, row {row}: skipped" for row in (2, 3, 4)),
        "mine.csv, row 5",
    ]
    assert rows[1][1].startswith("! mine.csv, row 2, column text: the text is empty")
    assert "20,001 characters" in rows[2][1] and rows[4][1] == "b"
    rows = given(run, b"text\n" + b"x\n" * (MAX_ROWS + 7))
    assert len(rows) == MAX_ROWS + 1 and rows[-1][0] == "mine.csv, rows 201 to 207: skipped"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"text\n", "no rows; add some"),
        (b"n,m\n1,2\n", "no column reads like texts (there are: n, m); name one of them text"),
        (b"text\ngood\nb\xe4d\n", "line 3: not UTF-8 text"),
        (b'text\n"torn\n', "a quote is never closed"),
        (b"text\na,b\n", "2 fields under 1 names"),
        (b"x" * 20_000_000, f"is more than {MAX_ROWS} texts need"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not UTF-8 text"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(run: Run, content: bytes, message: str) -> None:
    ((_, why),) = given(run, content)
    assert message in why and why.startswith("! mine.csv") and "\n" not in why


@pytest.mark.parametrize(
    ("text", "file", "message"),
    [
        ("", None, "your text: the text is empty"),
        ("x" * 100_000, None, "100,000 characters"),
        ("", (b"x" * 100_000, "a.txt"), "a.txt: 100,000 bytes is more"),
        ("", (b"b\xe4d", "a.txt"), "a.txt, line 1: not UTF-8"),
    ],
)
def test_a_text_that_cannot_be_asked_says_why(
    run: Run, text: str, file: tuple[bytes, str] | None, message: str
) -> None:
    ((_, why),) = given_of(run, text, file)
    assert isinstance(why, str) and message in why


def test_an_image_is_asked_as_the_model_sees_it(tmp_path: Path) -> None:
    run = Run(IMAGES.write(tmp_path))
    ((_, why),) = given_of(run, "", None)
    assert why == "there is no image yet; choose a file first"
    ((_, why),) = given_of(run, "", (b"\x89PNG but no more", "mine.png"))
    assert "mine.png: not an image that can be read" in str(why)
    strokes = np.zeros((30, 30, 4), np.uint8)
    strokes[5:25, 14:17] = 0, 0, 0, 255  # black on transparent, which is white
    picture = io.BytesIO()
    Image.fromarray(strokes).save(picture, "PNG")
    ((name, asked),) = given_of(run, "", (picture.getvalue(), "mine.png"))
    assert isinstance(asked, Question) and name == "mine.png"
    seen = png_pixels(asked.image)
    assert seen.shape == run.image_shape and seen.max() == 255 and seen[:, 0].max() == 0
    strokes[..., :3] = 255
    Image.fromarray(strokes).save(picture := io.BytesIO(), "PNG")
    assert is_blank(png_pixels(image_as_seen(run, picture.getvalue(), "x")))


def test_what_could_not_be_asked_makes_room_and_answers_of_old_influences_are_forgotten() -> None:
    collection = Collection(opened=1)
    assert collection.add([("a", Question("a")), ("b", "is bad")]) == "own-1"
    assert [own.problem for own in collection.items.values()] == ["", "is bad"]
    assert collection.add([("c", Question("c"))]) == "own-3" and [*collection.items] == [
        "own-1",
        "own-3",
    ]
    collection.put(replace(collection.items["own-1"], prediction=("x", 0.5)))
    assert [own.id for own in collection.answered_by(1).unknown] == ["own-3"]
    assert [own.id for own in collection.answered_by(2).unknown] == ["own-1", "own-3"]
    collection.add([("d", Question("d"))] * 1500)
    assert len(collection.items) == 1000 and "own-1503" in collection.items


# The page


def test_a_text_is_answered_as_an_item_of_the_list(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = try_own(open_page(), TEXT)
    data, pane = explorer(app), shown_pane(app)
    assert (data["item"], data["index"], data["total"]) == ("own-1", 0, 9)
    assert data["rows"][0]["cause"] == "Yours" and data["causes"][0]["words"] == "Yours (1)"
    assert (pane["predicted"], pane["probability"], pane["label"]) == ("positive", "80%", "")
    assert pane["why"] == "“submarine” taught this: without it, “positive” 80% → 30%."
    assert (len(pane["teachers"]), len(pane["opponents"])) == (5, 1)
    assert pane["teachers"][0]["strength"] == "5 × usual" and pane["others"] == "negative 20%"
    assert pane["content"]["head"] == [["My <u>slow</u> ", 0], ["submarine", 1]]
    assert "<u>" not in html_of(app) and not app.text_area, "the form is closed"
    app = try_own(app, "odd")
    assert shown_pane(app)["warning"] == "<i>unknown</i>" and explorer(app)["total"] == 10


def test_the_address_shows_the_same_elsewhere_and_nobody_else_sees_it(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun().write(runs)
    app = open_page()
    files = sorted(folder.rglob("*"))
    app = try_own(try_own(app, TEXT), "a boat")
    token = explorer(app)["yours"]
    again = open_page(yours=token, item="own-1")
    assert shown_pane(again)["teachers"] == shown_pane(go_to_error(app, "own-1"))["teachers"]
    assert explorer(again)["total"] == 10 and explorer(open_page())["total"] == 8
    assert sorted(folder.rglob("*")) == files, "what somebody asks is not kept in the run"
    streamlit.cache_resource.clear()
    lost = open_page(yours=token, item="own-1")
    assert "“own-1” was asked before this dashboard was started again" in explorer(lost)["lost"]
    assert explorer(lost)["total"] == 8 and not lost.exception


def test_many_texts_are_predicted_at_once_and_explained_one_by_one(
    open_page: OpenPage, runs: Path
) -> None:
    FakeRun().write(runs)
    content = b'text\na submarine\n""\na boat\nbad\n'
    app = try_own(open_page(true="positive"), file=("mine.csv", content))
    data = explorer(app)
    assert [(row["text"], row["predicted"], row["probability"]) for row in data["rows"][:4]] == [
        ("a submarine", "positive", "80%"),
        ("mine.csv, row 2: skipped", "", ""),
        ("a boat", "negative", "70%"),
        ("bad", "negative", "70%"),
    ]
    assert data["place"]["true"] == "", "filters would hide what was asked"
    assert {pane["id"]: pane["waiting"] for pane in data["panes"] if pane.get("waiting")} == {
        "own-3": True,
        "own-4": True,
    }
    app = go_to_error(app, "own-3").run()
    assert shown_pane(app)["teachers"] and shown_pane(app)["name"] == "mine.csv, row 3"
    app = go_to_error(app, "own-2")
    assert "row 2, column text: the text is empty" in shown_pane(app)["problem"]
    app = go_to_error(app, "own-4").run()
    assert shown_pane(app)["problem"] == "your text: <b>too bad</b>"
    assert not shown_pane(app)["teachers"] and not app.exception


def test_a_refusal_takes_the_place_of_the_old_answer(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = try_own(open_page(), TEXT)
    app = try_own(app, file=("bad.txt", b"b\xe4d"))
    pane = shown_pane(app)
    assert pane["problem"] == "bad.txt, line 1: not UTF-8 text; save the file as UTF-8"
    assert (pane["teachers"], pane["predicted"], pane["why"]) == ([], "", "")
    app = try_own(app, "another")
    assert [row["text"] for row in explorer(app)["rows"][:3]] == [
        TEXT,
        "another",
        explorer(app)["rows"][2]["text"],
    ]


def test_an_image_is_answered(open_page: OpenPage, runs: Path) -> None:
    IMAGES.write(runs)
    picture = png(np.full((30, 30), 200, np.uint8))
    app = try_own(open_page(), file=("mine.png", picture))
    pane = shown_pane(app)
    assert pane["name"] == "mine.png" and pane["predicted"] == "positive"
    shown = [one["content"]["image"] for one in (pane, *pane["teachers"])]
    assert len(shown) == 6 and all(one.startswith("data:image/png;base64,") for one in shown)


def test_without_errors_one_can_still_try(open_page: OpenPage, runs: Path) -> None:
    FakeRun(errors=False).write(runs)
    app = open_page()
    assert "Try your own instead" in html_of(app)
    assert shown_pane(try_own(app, TEXT))["teachers"] and explorer(app)["total"] == 1


def test_without_influence_there_is_nothing_to_try(open_page: OpenPage, runs: Path) -> None:
    remove_influence(FakeRun().write(runs))
    app = open_page()
    app.session_state["try-0"] = True
    app.run()
    assert not app.text_area and "No influence yet" in html_of(app)


def test_only_what_is_asked_starts_the_engine(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    app = open_page()
    app.session_state["try-0"] = True
    app.run()
    assert app.text_area and state.worker_of(Run(folder)).phase is Phase.STOPPED
    try_own(app, TEXT)
    assert state.worker_of(Run(folder)).phase is Phase.READY


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does, 20 seconds at most."""
    end = time.monotonic() + 20
    while not true() and time.monotonic() < end:
        time.sleep(0.05)


def ask_slow(open_page: OpenPage, command: list[str], monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setattr(engine, "worker_command", lambda: command)
    app = open_page()
    app.session_state["try-0"] = True
    app.run()
    app.text_area(key="try-text").set_value("hello")
    next(button for button in app.button if button.label == "Explain").click().run()
    return app


def test_a_question_waits_for_the_model_in_the_list(
    open_page: OpenPage,
    runs: Path,
    worker_command: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    FakeRun().write(runs)
    app = ask_slow(open_page, worker_command("slow start"), monkeypatch)
    assert "The model is warming up" in html_of(app) and shown_pane(app)["waiting"]
    assert explorer(app)["rows"][0]["text"] == "hello"
    app = go_to_error(app, explorer(app)["rows"][1]["id"])
    assert shown_pane(app)["teachers"] and "warming up" not in html_of(app)


def test_an_engine_that_does_not_start_says_why(
    open_page: OpenPage,
    runs: Path,
    worker_command: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = FakeRun().write(runs)
    app = ask_slow(open_page, worker_command("fails"), monkeypatch)
    worker = state.worker_of(Run(folder))
    wait_until(lambda: worker.phase is Phase.FAILED)
    app.run()
    assert "The engine did not start" in html_of(app)
    assert "the encoder is not there; install it" in html_of(app)
    before = worker._engine.process
    next(button for button in app.button if button.label == "Start it again").click().run()
    wait_until(lambda: worker._engine.process is not before)
    assert worker._engine.process is not before and worker.phase in (Phase.WARMING, Phase.FAILED)


def test_below_an_item_of_ones_own_is_what_can_be_said_of_it(
    open_page: OpenPage, runs: Path
) -> None:
    FakeRun().write(runs)
    app = try_own(open_page(), TEXT)
    app = open_more(app, "groups")
    assert app.segmented_control(key="more-choice").options == [
        "Change it",
        "Why not another label?",
        "All numbers",
        "Copy as Markdown",
    ]
    app = open_more(app, "truth")
    assert "Influence on the loss of the label “negative”" in html_of(app)
    app = open_more(app, "numbers")
    assert html_of(app).count('class="to-line"') == 11 and "In nats of loss" in html_of(app)
    app = open_more(app, "markdown")
    assert app.code[0].value.startswith("### `own-1`: `positive` (80%)")
    assert not app.exception and "<u>" not in html_of(app)
