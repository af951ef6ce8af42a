"""The Train page with data of one's own, run in process; the check is the engine's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.helpers.fake_runs import FakeRun
from tests.pages.app_testing import OpenPage, html_of
from turnover.dashboard.runs import train_form

pytestmark = pytest.mark.usefixtures("fresh")
FILES, HUB = "your own files", "any data set of the hub"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would have been started."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(train_form, "start_job", lambda *arguments: calls.append(arguments))
    return calls


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twenty texts of two classes, one of them twice, one without a label; the classes' names are
    markup.
    """
    rows = [
        f"{text} {row // 2},{label}"
        for row in range(20)
        for text, label in [(("fine", "<b>good</b>"), ("dull", "bad"))[row % 2]]
    ]
    (tmp_path / "films.csv").write_text(
        "\n".join(["review,verdict", *rows, rows[0], "no label,", ""])
    )
    return tmp_path / "films.csv"


def button(app: AppTest, label: str) -> Any:
    return next(one for one in app.button if one.label == label)


def test_a_check_says_the_columns_that_were_guessed_and_what_is_in_the_data(
    open_page: OpenPage, table: Path, started: list[Any]
) -> None:
    app = open_page(
        "train", **{"train-data": FILES, "own-train": str(table), "own-label-column": "verdict"}
    )
    assert (
        app.text_input(key="train-name").placeholder == "films-1"
        and app.selectbox(key="train-model").value == "what suits the data"
    )
    button(app, "Check the data").click().run()
    shown = html_of(app)
    assert "text from column review (inferred), label from column verdict" in shown
    assert (
        "films.csv, row 22: no label; 1 row skipped for that" in shown
        and "no validation items were named: " in shown
    )
    assert "heads with 16 members" in shown and "<b>good" not in shown
    assert list(app.dataframe[0].value["Class"]) == ["<b>good</b>", "bad"] and not started


def test_start_trains_on_the_files(
    open_page: OpenPage, table: Path, started: list[Any], runs: Path
) -> None:
    app = open_page(
        "train",
        **{
            "train-data": FILES,
            "own-train": str(table),
            "train-members": "2",
            "own-validation": str(table.parent),
        },
    )
    assert not button(app, "Start training").disabled
    button(app, "Start training").click().run()
    assert (
        "This cannot be trained" in html_of(app)
        and "no folders with images in it" in html_of(app)
        and not started
    )
    app.text_input(key="own-validation").set_value("").run()
    app.text_input(key="own-label-column").set_value("verdict").run()
    button(app, "Start training").click().run()
    assert not app.exception
    ((folder, steps, label),) = started
    assert folder == runs and label == "Train films-1: your own files, what suits the data"
    assert (
        steps[0][:3] == ["train", "--train", str(table)]
        and "--label-column" in steps[0]
        and "--validation" not in steps[0]
    )
    assert steps[1] == ["influence", "--run", str(runs / "films-1")]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"train-data": FILES}, "Name the file or folder with the training items."),
        (
            {"train-data": FILES, "own-train": "/nowhere/<b>x</b>"},
            "/nowhere/&lt;b&gt;x&lt;/b&gt;: no such file or folder",
        ),
        ({"train-data": HUB}, "Name the data set as on the hub"),
        ({"train-data": HUB, "own-hub": "a b"}, "write hub:NAME"),
    ],
)
def test_what_is_wrong_at_sight_keeps_the_buttons_from_being_pressed(
    open_page: OpenPage, query: dict[str, str], words: str
) -> None:
    app = open_page("train", **query)
    assert words in html_of(app) and "<b>x" not in html_of(app)
    assert button(app, "Start training").disabled and button(app, "Check the data").disabled


def test_a_data_set_of_the_hub_is_asked_for_by_its_name(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, started: list[Any]
) -> None:
    asked: list[list[str]] = []
    told = {
        "data": "a/b",
        "train_size": 1,
        "validation_size": 1,
        "kind": "text",
        "injected_labels": 0,
        "model": "heads",
        "members": 2,
        "epochs": 3,
    }
    monkeypatch.setattr(
        train_form,
        "answer_of",
        lambda command: (
            asked.append(command) or {**told, "resumes": False, "data_report": [], "classes": []}
        ),
    )
    app = open_page("train", **{"train-data": HUB, "own-hub": "a/b:c", "own-train-split": "s"})
    button(app, "Start training").click().run()
    assert asked[0][:5] == ["train", "--data", "hub:a/b:c", "--train-split", "s"] and started[0][
        2
    ].startswith("Train a-b-c-1: hub:a/b:c")


def test_fields_of_files_go_when_other_data_are_chosen(open_page: OpenPage, table: Path) -> None:
    app = open_page(
        "train", **{"train-data": FILES, "own-train": str(table), "train-model": "vgg19"}
    )
    app.selectbox(key="train-data").select("reviews").run()
    assert not app.exception and app.selectbox(key="train-model").value == "heads"
    assert not [one for one in app.text_input if (one.key or "").startswith("own-")]


def test_about_shows_the_data_report_as_text(open_page: OpenPage, runs: Path) -> None:
    FakeRun(
        "one",
        facts={"data_report": ["<b>a.csv</b>: text from column x", "2 texts with two labels"]},
    ).write(runs)
    shown = html_of(open_page("about", run="one"))
    assert (
        "&lt;b&gt;a.csv&lt;/b&gt;: text from column x" in shown
        and "<li>2 texts with two labels</li>" in shown
    )
