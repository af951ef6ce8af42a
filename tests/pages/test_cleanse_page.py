"""The Cleanse page in every state, run in process."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.helpers.fake_jobs import at_work, fake_job
from tests.helpers.fake_runs import HOSTILE, FakeRun, remove_influence
from tests.pages.app_testing import OpenPage, html_of
from turnover.dashboard.shared import jobs
from turnover.flags import Flags
from turnover.runs.run import Run
from turnover.workflows.cleansing import CONDITIONS, Retrained, summarise
from turnover.workflows.cleansing_results import keep_cleansing, keep_scores, run_scores

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The steps of jobs that would have been started."""
    calls: list[list[str]] = []
    monkeypatch.setattr(jobs, "start_job", lambda _, steps, label: calls.extend(steps))
    return calls


def button(app: AppTest, label: str) -> Any:
    return next(one for one in app.button if one.label == label)


def keep(
    folder: Path,
    losses: tuple[float, float, float],
    seeds: int = 4,
    finished: bool = True,
    **facts: Any,
) -> Path:
    """A result whose conditions have these mean losses, a little apart from seed to seed."""
    models = [
        Retrained(name, seed, 0.9, loss + 0.01 * seed + 0.001 * (seed * place % 3), 0.1)
        for seed in range(seeds)
        for place, (name, loss) in enumerate(zip(CONDITIONS, losses, strict=True))
    ]
    told = {
        "validation": "validation",
        "fraction": 0.1,
        "flags": None,
        "removed": 6,
        "repeats": seeds,
        "targets": 9,
        "measured_on": 9,
        "removed_ids": [],
    }
    found = {
        "conditions": [asdict(one) for one in summarise(models)],
        "models": [asdict(one) for one in models],
    }
    return keep_cleansing(Run(folder), json.loads(json.dumps(told | facts | found)), finished)


def test_one_percent_goes_at_first_and_the_url_says_how_much(
    open_page: OpenPage, runs: Path
) -> None:
    FakeRun(train=200).write(runs)
    app = open_page("cleanse")
    assert app.slider(key="share").value == 1.0 and "2 of 200 training items go" in html_of(app)
    (chart,) = app.get("plotly_chart")
    assert "the 2 lowest" in str(chart.proto)
    assert len(app.dataframe[0].value) == 2
    app = open_page("cleanse", share="5.0")
    assert "10 of 200 training items go" in html_of(app) and "face value" in html_of(app)


def test_a_share_that_is_no_item_says_so(open_page: OpenPage, runs: Path) -> None:
    FakeRun(train=30).write(runs)
    app = open_page("cleanse")
    assert "Nothing can be removed so" in html_of(app) and "choose a larger share" in html_of(app)
    assert not app.get("plotly_chart")


def test_a_run_without_influence_names_the_command(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    remove_influence(folder)
    app = open_page("cleanse")
    assert app.code[0].value == f"turnover influence --run {folder}" and not app.slider


def test_one_member(open_page: OpenPage, runs: Path) -> None:
    FakeRun(train=200, members=1).write(runs)
    assert "error not known" in html_of(open_page("cleanse"))


def test_adopting_asks_stores_with_a_note_and_overwrites_nothing(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun(train=200).write(runs)
    gone = run_scores(Run(folder)).estimates[0].argsort(kind="stable")[:10].tolist()
    Flags(folder).put(gone[3], "keep", note="mine")
    app = open_page("cleanse", share="5.0")
    assert "9 of the 10 items will be flagged to drop" in html_of(
        app
    ) and "1 flagged to keep" in html_of(app)
    assert set(Flags(folder).current()) == {gone[3]}
    Flags(folder).put(gone[4], "keep", note="meanwhile")
    button(app, "Flag 9 to drop").click().run()
    flags = Flags(folder).current()
    assert set(flags) == set(gone) and {flags[one].action for one in gone[3:5]} == {"keep"}
    assert {flags[one].action for one in gone if one not in gone[3:5]} == {"drop"}
    assert (
        flags[gone[0]].note
        == "Cleansing: among the lowest 5.0% by mean influence on the validation items."
    )
    assert "8 training items were flagged to drop." in html_of(app)
    assert button(app, "Flag 0 to drop").disabled


def test_retraining_is_a_job_with_what_is_chosen(
    open_page: OpenPage, runs: Path, started: list[list[str]]
) -> None:
    folder = FakeRun(train=200).write(runs)
    app = open_page("cleanse", share="2.5")
    assert not app.checkbox
    button(app, "Retrain").click().run()
    assert started == [
        [
            "cleanse",
            "--run",
            str(folder),
            "--fraction",
            "0.025",
            "--repeats",
            "4",
            "--validation",
            "validation",
        ]
    ]
    Flags(folder).put(1, "drop")
    app = open_page("cleanse", share="2.5", repeats="6")
    app.checkbox(key="with-flags").check().run()
    button(app, "Retrain").click().run()
    assert started[-1][5:] == ["--repeats", "6", "--validation", "validation", "--flags"]


def test_results_are_shown_again_and_claim_only_what_the_interval_says(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun(train=200).write(runs)
    keep(folder, (0.5, 0.52, 0.3))
    app = open_page("cleanse")
    assert "Cleansing improved the loss by" in html_of(app) and "against random removal" in html_of(
        app
    )
    assert list(app.dataframe[-1].value["Condition"]) == list(CONDITIONS)
    keep(folder, (0.5, 0.5, 0.5), fraction=0.2)
    app = open_page("cleanse", cleansing="validation-0.2-4-seeds")
    assert "improved" not in html_of(app) and "worsened" not in html_of(app)
    app.selectbox(key="cleansing").select("validation-0.1-4-seeds").run()
    assert "improved" in html_of(app)


def test_a_stale_result_says_so_and_a_damaged_one_hides_no_other(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun(train=200).write(runs)
    path = keep(folder, (0.5, 0.5, 0.5))
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"made_with": {"run": "another"}}))
    path.with_name("torn.json").write_text("{")
    shown = html_of(open_page("cleanse"))
    assert "These numbers are out of date" in shown and "torn.json: not readable (" in shown


def test_models_are_shown_as_they_finish_while_the_job_is_at_work(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun(train=200).write(runs)
    progress = {
        "stage": "fake: retraining",
        "done": 6,
        "total": 12,
        "unit": "models",
        "seconds_left": 20.0,
    }
    step = [
        "cleanse",
        "--run",
        str(folder),
        "--fraction",
        "0.1",
        "--repeats",
        "2",
        "--validation",
        "validation",
    ]
    job = fake_job(runs, [step], "Cleanse fake", begun=True, progress=progress)
    fake_job(runs, [["cleanse", "--run", str(runs / "other")]], "Cleanse other", "1")
    keep(folder, (0.5, 0.5, 0.5), seeds=2, finished=False)
    with at_work(job):
        app = open_page("cleanse")
    assert "fake: retraining, 6 of 12 models, about 20 s left" in html_of(
        app
    ) and "So far:" in html_of(app)
    assert list(app.dataframe[-1].value["Models"]) == [2, 2, 2] and "Cleanse other" not in html_of(
        app
    )
    shown = html_of(open_page("cleanse"))
    # the job is gone, and what it left is no result
    assert "So far:" not in shown and "What retraining came to" not in shown


@pytest.mark.parametrize(
    "other",
    [
        {"fraction": 0.2},
        {"validation": "elec"},
        {"repeats": 3},
        {"flags": {"dropped": 1, "relabelled": 0}},
    ],
    ids=str,
)
def test_models_of_a_cleansing_that_was_stopped_are_not_those_of_the_job_at_work(
    open_page: OpenPage, runs: Path, other: dict[str, Any]
) -> None:
    folder = FakeRun(train=200).write(runs)
    step = [
        "cleanse",
        "--run",
        str(folder),
        "--fraction",
        "0.1",
        "--repeats",
        "2",
        "--validation",
        "validation",
    ]
    keep(folder, (0.5, 0.5, 0.5), seeds=2, finished=False, **other)
    with at_work(fake_job(runs, [step], "Cleanse fake", begun=True)):
        assert "So far:" not in html_of(open_page("cleanse"))


def test_reviews_of_electronics_are_offered_to_sentiment_runs_only(
    open_page: OpenPage, runs: Path, started: list[list[str]]
) -> None:
    folder = FakeRun("texts", train=200).write(runs)
    FakeRun("images", kind="image", classes=("cat", "dog"), train=200).write(runs)
    assert not open_page("cleanse", run="images").segmented_control
    app = open_page("cleanse", run="texts", validation="Reviews of electronics (Elec)")
    assert (
        "No influences on these reviews yet" in html_of(app)
        and button(app, "Compute influences").disabled
        and not app.slider
    )
    for nowhere, words in (
        ("some/folder", "some/folder: no such folder"),
        ("~nobody-here/x", "nobody here has this home folder"),
    ):
        app.text_input(key="elec-path").set_value(nowhere).run()
        assert words in html_of(app) and button(app, "Compute influences").disabled
    app.text_input(key="elec-path").set_value(str(runs)).run()
    button(app, "Compute influences").click().run()
    assert started == [
        [
            "cleanse",
            "--run",
            str(folder),
            "--validation",
            "elec",
            "--path",
            str(runs),
            "--score-only",
        ]
    ]
    scores = run_scores(Run(folder))
    keep_scores(
        Run(folder), "elec", type(scores)(scores.members, None, scores.estimator, 7, "some/folder")
    )
    app = open_page("cleanse", run="texts", validation="Reviews of electronics (Elec)")
    assert "changes the mean loss on 7 items" in html_of(app)
    button(app, "Retrain").click().run()
    assert started[-1][-4:] == ["--validation", "elec", "--path", "some/folder"]


def test_hostile_texts_names_and_results_stay_text(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun(
        train=200, texts=HOSTILE, classes=("<b>neg</b>", ":red[pos] [x](http://evil.example)")
    ).write(runs)
    keep(folder, (0.5, 0.5, 0.5), validation="<script>")
    app = open_page("cleanse", share="10.0")
    shown = html_of(app)
    assert "<script" not in shown and "<img src=x" not in shown and "<b>" not in shown
    assert [
        element.value
        for kind in ("markdown", "caption", "header", "error")
        for element in app.get(kind)
    ] == []
