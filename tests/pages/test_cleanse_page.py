"""The Cleanse page in every state, run in process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.helpers.fake_jobs import at_work, fake_job
from tests.helpers.fake_runs import HOSTILE, FakeRun, remove_influence
from tests.pages.app_testing import OpenPage, a_curve, html_of
from turnover.dashboard.shared import jobs
from turnover.flags import Flags
from turnover.runs.run import Run
from turnover.workflows.cleansing_results import keep_cleansing, keep_scores, run_scores

pytestmark = pytest.mark.usefixtures("fresh")
ELEC = "Reviews of electronics (Elec)"
STEP = ["--repeats", "4", "--validation", "validation"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The steps of jobs that would have been started."""
    calls: list[list[str]] = []
    monkeypatch.setattr(jobs, "start_job", lambda _, steps, label: calls.extend(steps))
    return calls


def button(app: AppTest, key: str) -> Any:
    return next(one for one in app.button if one.key == key)


def keep(folder: Path, finished: bool = True, **facts: Any) -> Path:
    return keep_cleansing(Run(folder), json.loads(json.dumps(a_curve(**facts))), finished)


def test_before_anything_is_measured_a_click_starts_it(
    open_page: OpenPage, runs: Path, started: list[list[str]]
) -> None:
    folder = FakeRun(train=200, facts={"timings": {"twin": 2.0}}).write(runs)
    app = open_page("cleanse")
    shown = html_of(app)
    assert "Does it help?" in shown and "nats" not in shown and not app.get("plotly_chart")
    assert "10 of 200 training texts would go." in shown and app.slider(key="share").value == 5
    assert button(app, "cleanse-retrain").label == "Retrain and see (≈ 44 s)"
    button(app, "cleanse-retrain").click().run()
    assert started == [["cleanse", "--run", str(folder), *STEP]]
    Flags(folder).put(1, "drop")
    button(open_page("cleanse"), "cleanse-retrain").click().run()
    assert started[-1] == ["cleanse", "--run", str(folder), *STEP, "--flags"]


def test_the_address_says_how_much_goes(open_page: OpenPage, runs: Path) -> None:
    FakeRun(train=200).write(runs)
    assert "24 of 200" in html_of(open_page("cleanse", share="12"))
    for odd in ("0", "99", "many"):
        assert "10 of 200" in html_of(open_page("cleanse", share=odd))


def test_a_share_that_is_no_item_says_so(open_page: OpenPage, runs: Path) -> None:
    FakeRun(train=30).write(runs)
    shown = html_of(open_page("cleanse", share="1"))
    assert "Nothing can be removed so" in shown and "choose a larger one" in shown


def test_a_run_without_influence_names_the_command(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    remove_influence(folder)
    app = open_page("cleanse")
    assert app.code[0].value == f"turnover influence --run {folder}" and not app.slider


def test_a_measured_curve_answers_and_its_items_are_those_that_go(
    open_page: OpenPage, runs: Path, started: list[list[str]]
) -> None:
    folder = FakeRun(train=60).write(runs)
    keep(folder, removed_ids=[f"t{place:03d}" for place in range(20, 32)])
    app = open_page("cleanse")
    shown = html_of(app)
    assert 'data-turnover="verdict"><strong>Yes.</strong> Without the 6 most harmful' in shown
    assert len(app.get("plotly_chart")) == 2 and app.slider(key="share").value == 10
    assert all(f'title="t{place:03d}"' in shown for place in range(20, 26))
    assert 'title="t026"' not in shown and not [
        one for one in app.button if one.key == "cleanse-retrain"
    ]
    app.number_input(key="repeats").set_value(12).run()
    button(app, "cleanse-more").click().run()
    assert started[-1][3:5] == ["--repeats", "12"]


def test_where_no_difference_can_be_told_it_says_so(open_page: OpenPage, runs: Path) -> None:
    keep(FakeRun(train=60).write(runs), helps=False)
    shown = html_of(open_page("cleanse"))
    assert (
        "<strong>No difference can be told.</strong>" in shown
        and 'class="to-verdict to-doubt"' in shown
    )


def test_decisions_that_came_since_are_tried_at_one_click(
    open_page: OpenPage, runs: Path, started: list[list[str]]
) -> None:
    folder = FakeRun(train=60).write(runs)
    keep(folder, seconds=44.0, trained=44)
    Flags(folder).put(1, "drop")
    app = open_page("cleanse")
    assert button(app, "cleanse-retrain").label == "Retrain with your decisions (≈ 4 s)"
    button(app, "cleanse-retrain").click().run()
    assert started[-1][-1] == "--flags"


def test_taking_over_stores_with_a_note_and_overwrites_nothing(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun(train=200).write(runs)
    gone = run_scores(Run(folder)).estimates[0].argsort(kind="stable")[:10].tolist()
    Flags(folder, by="zoe").put(gone[3], "keep", note="mine")
    app = open_page("cleanse", share="5")
    shown = html_of(app)
    assert "On 1 of them somebody decided otherwise." in shown and "zoe: keep" in shown
    assert button(app, "cleanse-take-over").label == "Take over 9 items as flags"
    Flags(folder).put(gone[4], "keep", note="meanwhile")
    button(app, "cleanse-take-over").click().run()
    flags = Flags(folder).current()
    assert set(flags) == set(gone) and {flags[one].action for one in gone[3:5]} == {"keep"}
    assert {flags[one].action for one in gone if one not in gone[3:5]} == {"drop"}
    assert flags[gone[0]].note == "Cleansing: among the 5% most harmful for the validation items."
    shown = html_of(app)
    assert "8 training items are flagged to drop" in shown and ">10 decisions<" in shown
    assert button(app, "cleanse-take-over").disabled


def test_a_stale_curve_says_so_and_a_damaged_one_hides_no_other(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun(train=60).write(runs)
    path = keep(folder)
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"made_with": {"run": "another"}}))
    path.with_name("torn.json").write_text("{")
    app = open_page("cleanse")
    shown = html_of(app)
    assert "This is out of date" in shown and "torn.json: not readable (" in shown
    assert button(app, "cleanse-retrain").label.startswith("Retrain and see")


def test_a_curve_is_shown_as_it_is_measured(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun(train=60).write(runs)
    progress = {"stage": "fake: retraining", "done": 6, "total": 12, "unit": "models"}
    step = ["cleanse", "--run", str(folder), *STEP]
    job = fake_job(
        runs, [step], "Cleanse fake", begun=True, progress=progress | {"seconds_left": 20.0}
    )
    fake_job(runs, [["cleanse", "--run", str(runs / "other")]], "Cleanse other", "1")
    keep(folder, finished=False)
    with at_work(job):
        app = open_page("cleanse")
    shown = html_of(app)
    assert "Being measured." in shown and "So far:" in shown and "Cleanse other" not in shown
    assert "fake: retraining, 6 of 12 models, about 20 s left" in shown
    assert len(app.get("plotly_chart")) == 2 and 'turnover="verdict"' not in shown
    assert not [one for one in app.button if one.key == "cleanse-retrain"]
    shown = html_of(open_page("cleanse"))
    assert "So far:" not in shown, "the job is gone, and what it left is no result"


def test_reviews_of_electronics_are_offered_to_sentiment_runs_only(
    open_page: OpenPage, runs: Path, started: list[list[str]]
) -> None:
    folder = FakeRun("texts", train=200).write(runs)
    FakeRun("images", kind="image", classes=("cat", "dog"), train=200).write(runs)
    assert not open_page("cleanse", run="images").segmented_control
    app = open_page("cleanse", run="texts", validation=ELEC)
    assert "Not measured on these reviews yet" in html_of(app)
    for nowhere, words in (
        ("some/folder", "some/folder: no such folder"),
        ("~nobody-here/x", "nobody here has this home folder"),
    ):
        app.text_input(key="elec-path").set_value(nowhere).run()
        assert words in html_of(app)
        assert not [one for one in app.button if one.key == "cleanse-retrain"]
    app.text_input(key="elec-path").set_value(str(runs)).run()
    button(app, "cleanse-retrain").click().run()
    step = ["cleanse", "--run", str(folder), "--repeats", "4", "--validation", "elec", "--path"]
    assert started == [[*step, str(runs)]]
    scores = run_scores(Run(folder))
    known = type(scores)(scores.members, None, scores.estimator, 7, "some/folder")
    keep_scores(Run(folder), "elec", known)
    app = open_page("cleanse", run="texts", validation=ELEC)
    assert "10 of 200 training texts would go." in html_of(app)
    button(app, "cleanse-retrain").click().run()
    assert started[-1] == [*step, "some/folder"]


def test_hostile_texts_names_and_results_stay_text(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun(
        train=200, texts=HOSTILE, classes=("<b>neg</b>", ":red[pos] [x](http://evil.example)")
    ).write(runs)
    keep(folder, validation="<script>")
    keep(folder)
    Flags(folder, by="<i>eve</i>").put_many(range(200), "keep")
    app = open_page("cleanse", share="10")
    shown = html_of(app)
    assert not [tag for tag in ("<script", "<img src=x", "<b>", "<i>eve") if tag in shown]
    assert [
        element.value
        for kind in ("markdown", "caption", "header", "error")
        for element in app.get(kind)
    ] == []
