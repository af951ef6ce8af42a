"""The Train page in every state, run in process."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.helpers.fake_jobs import at_work, fake_job
from tests.helpers.fake_runs import HOSTILE, FakeRun
from tests.pages.app_testing import OpenPage, html_of
from turnover.dashboard import engine
from turnover.dashboard.runs import train_form
from turnover.dashboard.shared import jobs as jobs_component
from turnover.jobs import Job, find_jobs

pytestmark = pytest.mark.usefixtures("fresh")
TRAIN = [["train", "--data", "digits", "--run", "runs/x"], ["influence", "--run", "runs/x"]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would have been started."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(train_form, "start_job", lambda *arguments: calls.append(arguments))
    return calls


def button(app: AppTest, label: str) -> Any:
    return next(one for one in app.button if one.label == label)


def test_the_page_works_before_there_is_any_run(open_page: OpenPage) -> None:
    app = open_page("train")
    assert app.title[0].value == "Train" and "No runs yet" not in html_of(app)
    assert (
        app.text_input(key="train-name").placeholder == "digits-1"
        and not button(app, "Start training").disabled
    )
    assert "Trainings" not in html_of(app)


def test_a_check_says_sizes_and_classes_and_starts_nothing(
    open_page: OpenPage, started: list[Any], runs: Path
) -> None:
    app = open_page("train")
    button(app, "Check the data").click().run()
    assert (
        "1,200 training and 597 validation images in 10 classes. 60 training labels are wrong on "
        "purpose." in html_of(app)
    )
    assert (
        list(app.dataframe[0].value["Class"]) == [str(digit) for digit in range(10)]
        and app.dataframe[0].value["Training items"].sum() == 1200
    )
    app.number_input(key="train-limit").set_value(100).run()
    assert not app.dataframe  # what was said is of other settings
    assert not started and list(runs.iterdir()) == []


def test_start_checks_and_then_starts_train_and_influence(
    open_page: OpenPage, started: list[Any], runs: Path
) -> None:
    app = open_page(
        "train", **{"train-data": "reviews", "train-limit": "100", "train-name": "mine"}
    )
    assert app.selectbox(key="train-model").value == "heads"
    button(app, "Start training").click().run()
    assert not app.exception
    ((folder, steps, label),) = started
    assert folder == runs and label == "Train mine: reviews, heads"
    assert [step[0] for step in steps] == ["train", "influence"]
    assert "--limit" in steps[0] and steps[1][1:3] == ["--run", str(runs / "mine")]
    assert app.text_input(key="train-name").value == ""


def test_what_the_data_refuse_is_said_and_nothing_starts(
    open_page: OpenPage, started: list[Any]
) -> None:
    app = open_page("train", **{"train-limit": "5000"})
    button(app, "Start training").click().run()
    assert "This cannot be trained" in html_of(
        app
    ) and "choose a number from 2 to the 1200 training items" in html_of(app)
    assert not started


def test_data_that_take_long_to_look_at_are_trained_on_and_their_job_says_what_is_wrong(
    open_page: OpenPage, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "COMMAND_SECONDS", 0.01)
    app = open_page("train", **{"train-name": "big"})
    button(app, "Check the data").click().run()
    assert (
        "Looking at the data takes long" in html_of(app)
        and "cannot be trained" not in html_of(app)
        and not started
    )
    assert "<code>turnover train --data digits" in html_of(app) and "--check</code>" in html_of(app)
    button(app, "Start training").click().run()
    assert not app.exception and [label for _, _, label in started] == [
        "Train big: digits, small-vgg"
    ]


def test_a_command_that_takes_too_long_is_shown_as_a_terminal_takes_it() -> None:
    asked = ["train", "--train", "my $(films).csv"]
    with pytest.raises(engine.TookTooLong) as told:
        engine.answer_of(asked, seconds=0.01)
    assert shlex.split(str(told.value).split("`")[1])[1:] == asked


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"train-name": "../up"}, "A run's name has letters"),
        ({"train-data": "imdb-checks"}, "Name the folder"),
    ],
)
def test_what_is_wrong_at_sight_keeps_the_buttons_from_being_pressed(
    open_page: OpenPage, query: dict[str, str], words: str
) -> None:
    app = open_page("train", **query)
    assert words in html_of(app).replace("&#x27;", "'")
    assert button(app, "Start training").disabled and button(app, "Check the data").disabled


def test_another_kind_of_data_has_other_models(open_page: OpenPage) -> None:
    app = open_page("train", **{"train-model": "vgg19"})
    assert app.selectbox(key="train-model").value == "vgg19"
    app.selectbox(key="train-data").select("sst2").run()
    assert not app.exception and app.selectbox(key="train-model").value == "heads"
    assert app.text_input(key="train-path").placeholder == "Empty: from the hub"


def test_a_job_at_work_is_shown_with_its_progress(open_page: OpenPage, runs: Path) -> None:
    progress = {
        "stage": "digits: training",
        "done": 3,
        "total": 30,
        "unit": "epochs",
        "seconds_left": 65.0,
    }
    with at_work(fake_job(runs, TRAIN, "Train x", begun=True, progress=progress)):
        app = open_page("train")
    shown = html_of(app)
    assert (
        "Step 1 of 2: digits: training, 3 of 30 epochs, about 1 min left" in shown
        and 'aria-valuenow="10"' in shown
    )
    assert [one.label for one in app.button if one.key.startswith("job-")] == ["Cancel"]


def test_a_failed_job_shows_its_last_words_and_can_be_resumed_or_forgotten(
    open_page: OpenPage, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_job(
        runs,
        TRAIN,
        "Train x",
        outcome={"results": [], "finished": False, "error": "the disk is full"},
        log="a <b>\nthe disk is full",
    )
    resumed: list[Job] = []
    monkeypatch.setattr(jobs_component, "resume_job", resumed.append)
    app = open_page("train")
    assert "the disk is full" in html_of(app) and "a &lt;b&gt;" in html_of(app)
    button(app, "Resume").click().run()
    assert [job.label for job in resumed] == ["Train x"]
    button(app, "Forget").click().run()
    assert find_jobs(runs) == [] and not app.exception


def test_a_finished_job_links_to_its_run(open_page: OpenPage, runs: Path) -> None:
    run = FakeRun("made").write(runs)
    result = {"validation_accuracy": 0.9, "plain_accuracy": 0.9, "members": 8}
    fake_job(
        runs,
        [["train", "--run", str(run)]],
        "Train made",
        outcome={"results": [result], "finished": True, "error": ""},
    )
    app = open_page("train")
    assert '<a href="./?run=made" target="_self">Open the run</a>' in html_of(app)


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_and_errors_stay_text(open_page: OpenPage, runs: Path, label: str) -> None:
    fake_job(
        runs, TRAIN, label, outcome={"results": [], "finished": False, "error": label}, log=label
    )
    shown = html_of(open_page("train"))
    assert (
        "<script" not in shown
        and "<img src=x" not in shown
        and "<b>" not in shown
        and len(shown) < 60_000
    )


def test_a_damaged_job_hides_no_other(open_page: OpenPage, runs: Path) -> None:
    (fake_job(runs, TRAIN, "torn", "1") / "job.json").write_text("{")
    fake_job(runs, TRAIN, "Train x", "2", cancelled=True)
    assert "Train x" in html_of(open_page("train")) and "Cancelled. Resume it" in html_of(
        open_page("train")
    )


FIELDS = (
    ("train", "train-seed"),
    ("train", "train-members"),
    ("train", "train-noise"),
    ("cleanse", "share"),
    ("cleanse", "repeats"),
)


@pytest.mark.parametrize("value", ["1" + "0" * 400, "-1e999", "inf", "nan"])
@pytest.mark.parametrize(("page", "field"), FIELDS)
def test_a_number_in_the_url_that_no_float_holds_is_ignored_or_told_of(
    open_page: OpenPage, runs: Path, page: str, field: str, value: str
) -> None:
    FakeRun().write(runs)
    app = open_page(page, **{field: value})
    assert app.title[0].value.casefold() == page
    assert page == "cleanse" or app.button or "This address cannot be read" in html_of(app)
