"""The page where a user tries a text or an image of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from tests.helpers.fake_runs import FakeRun, png
from tests.pages.app_testing import OpenPage, html_of
from turnover.dashboard import engine, state
from turnover.dashboard.engine import Phase
from turnover.runs.run import Run

pytestmark = pytest.mark.usefixtures("fresh")


def settle(app: AppTest) -> AppTest:
    """Run the page until the model is warm."""
    end = time.monotonic() + 20
    while "warming up" in html_of(app) and time.monotonic() < end:
        time.sleep(0.1)
        app.run()
    assert "warming up" not in html_of(app)
    return app


def explain(app: AppTest) -> AppTest:
    next(button for button in app.button if button.label == "Explain").click()
    return app


def test_a_text_is_explained(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = settle(open_page("try"))
    assert "The model is ready" in html_of(app)
    app.text_area(key="try-text").set_value("My <u>slow</u> submarine")
    app.selectbox(key="try-label").select("negative")
    explain(app).run()
    shown = html_of(settle(app))
    assert "Predicted: positive" in shown and "80.0%" in shown
    assert (
        "the label you gave, “negative”" in shown
        and "A random training item on a validation item" in shown
    )
    assert "&lt;u&gt;" in shown and "<u>" not in shown and "<i>slow" not in shown
    assert shown.count('class="to-line"') == 6 and "<mark>slow</mark>" in shown


def test_a_question_waits_for_the_model(
    open_page: OpenPage,
    runs: Path,
    worker_command: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    FakeRun().write(runs)
    monkeypatch.setattr(engine, "worker_command", lambda: worker_command("slow start"))
    app = open_page("try")
    assert "The model is warming up" in html_of(app) and "You can already write" in html_of(app)
    app.text_area(key="try-text").set_value("hello")
    explain(app).run()
    assert "Your question is asked as soon as it is ready" in html_of(app)


def test_an_upload_goes_before_the_text(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = settle(open_page("try"))
    app.file_uploader(key="try-file").upload("mine.txt", b"words in a file", "text/plain")
    explain(app).run()
    assert "words in a file" in html_of(settle(app))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty"),
        ("x" * 100_000, "100,000 characters"),
        ("bad", "&lt;b&gt;too bad&lt;/b&gt;"),
    ],
)
def test_what_cannot_be_explained_is_said_in_a_box(
    open_page: OpenPage, runs: Path, text: str, message: str
) -> None:
    FakeRun().write(runs)
    app = settle(open_page("try"))
    app.text_area(key="try-text").set_value(text)
    explain(app).run()
    assert message in html_of(settle(app)) and 'role="alert"' in html_of(app)


def test_an_image_is_explained(open_page: OpenPage, runs: Path) -> None:
    FakeRun(kind="image", classes=("negative", "positive")).write(runs)
    app = settle(open_page("try"))
    explain(app).run()
    assert "there is no image yet" in html_of(app)
    app.file_uploader(key="try-image").upload(
        "mine.png", png(np.full((30, 30), 200, np.uint8)), "image/png"
    )
    explain(app).run()
    shown = html_of(settle(app))
    assert (
        "Your image, as the model sees it" in shown and shown.count("data:image/png;base64,") == 7
    )


def test_a_corrupt_image_is_said(open_page: OpenPage, runs: Path) -> None:
    FakeRun(kind="image", classes=("negative", "positive")).write(runs)
    app = settle(open_page("try"))
    app.file_uploader(key="try-image").upload("mine.png", b"\x89PNG but no more", "image/png")
    explain(app).run()
    assert "mine.png: not an image that can be read" in html_of(app)


def test_an_engine_that_does_not_start_says_why(
    open_page: OpenPage,
    runs: Path,
    worker_command: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = FakeRun().write(runs)
    monkeypatch.setattr(engine, "worker_command", lambda: worker_command("fails"))
    app = settle(open_page("try"))
    assert "The engine did not start" in html_of(
        app
    ) and "the encoder is not there; install it" in html_of(app)
    worker = state.worker_of(Run(folder))
    before = worker._loading
    next(button for button in app.button if button.label == "Start it again").click().run()
    assert worker._loading is not before
    assert worker.phase in (Phase.WARMING, Phase.FAILED)


def test_only_the_try_page_starts_the_engine(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    open_page("errors")
    open_page("runs")
    assert state.worker_of(Run(folder)).phase is Phase.STOPPED
    open_page("try")
    assert state.worker_of(Run(folder)).phase is not Phase.STOPPED
