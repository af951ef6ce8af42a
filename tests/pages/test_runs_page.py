"""The Runs page: the list, before and after, details, and jobs; sign-in stands before every page
where it is set up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st

from tests.helpers.fake_jobs import at_work, fake_job
from tests.helpers.fake_runs import HOSTILE, FakeRun, truncate
from tests.pages.app_testing import PAGES, OpenPage, html_of, shown_pane
from turnover.dashboard.runs.details import build_details
from turnover.dashboard.runs.list_view import RunRow, run_rows
from turnover.dashboard.runs.run_list import _pick
from turnover.dashboard.shared import jobs as jobs_component
from turnover.errors import TurnoverError
from turnover.jobs import Job, find_jobs
from turnover.runs.compare import compare_runs
from turnover.runs.run import RUN_FILES, Run
from turnover.storage.artifacts import MANIFEST, write_manifest

TRAIN = [["train", "--data", "digits", "--run", "runs/x"], ["influence", "--run", "runs/x"]]


@pytest.fixture(autouse=True)
def _fresh(fresh: None) -> None:
    """Nothing cached from another test."""


def button(app: Any, label: str) -> Any:
    return next(one for one in app.button if one.label == label)


def changed(folder: Path, change: Any) -> Path:
    """A run whose validation items are changed in place by a function of their rows."""
    items = pd.read_parquet(folder / "items.parquet")
    rows = items.index[items["split"] == "validation"]
    change(items, rows)
    items.to_parquet(folder / "items.parquet", index=False)
    facts = json.loads((folder / MANIFEST).read_text())
    wrong = (items["predicted"] != items["label"])[rows]
    facts["results"]["validation_accuracy"] = float(1 - wrong.mean())
    write_manifest(
        folder, {key: facts[key] for key in facts if key not in ("format", "files")}, RUN_FILES
    )
    return folder


def mended(items: pd.DataFrame, rows: pd.Index) -> None:
    """Two errors are gone, and one is new."""
    wrong = [row for row in rows if items.at[row, "predicted"] != items.at[row, "label"]]
    right = next(row for row in rows if row not in wrong)
    for row in (*wrong[:2], right):
        items.loc[row, ["probability_0", "probability_1"]] = items.loc[
            row, ["probability_1", "probability_0"]
        ].to_numpy()
        items.at[row, "predicted"] = 1 - items.at[row, "predicted"]


# The list


def test_all_runs_are_listed_with_what_is_done_with_them(tmp_path: Path) -> None:
    facts = {"created": "2026-01-02T03:04:05Z", "data": {"name": "x", "source": "/a/films.csv"}}
    FakeRun("one", facts=facts).write(tmp_path)
    FakeRun("two", influence=False).write(tmp_path)
    truncate(FakeRun("torn").write(tmp_path) / "weights.safetensors")
    steps = [["train", "--run", "r/young"], ["influence", "--run", "r/young"]]
    young = fake_job(tmp_path, steps, "Train young", "1", begun=True)
    measured = fake_job(tmp_path, [["evaluate", "--run", f"{tmp_path}/two"]], "m", "2", begun=True)
    with at_work(young), at_work(measured):
        rows = {row.name: row for row in run_rows(tmp_path, find_jobs(tmp_path))}
    assert list(rows) == ["young", "one", "torn", "two"]
    assert rows["young"] == RunRow("young", training=True, now="in training")
    assert rows["one"] == RunRow(
        *("one", False, "films.csv", "30 + 24 texts", 2 / 3, "8"),
        created="2026-01-02T03:04:05Z",
    )
    assert rows["torn"].now == "cannot be opened"
    assert (rows["two"].errors, rows["two"].now) == ("8, none explained", "being measured")


def test_a_row_of_the_list_chooses_its_run(
    open_page: OpenPage, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        FakeRun(name).write(runs)
    app = open_page("runs", run="b", view="Details")
    assert list(app.dataframe[0].value["Run"]) == ["a", "b"]
    assert f"In the folder {runs / 'b'}." in html_of(app)
    rows = [RunRow("a", False), RunRow("young", True)]
    state: dict[str, Any] = {"run": "b", "view": "Details"}
    monkeypatch.setattr(st, "session_state", state)
    state["table"] = {"selection": {"cells": [(0, "Run")], "rows": []}}
    _pick("table", rows)
    assert state["next-run"] == "a" and state["view"] == "Details"
    state["table"] = {"selection": {"cells": [], "rows": [1]}}
    _pick("table", rows)
    assert (state["training"], state["view"]) == ("young", "Curves")


# Before and after


def test_errors_of_two_runs_are_gone_new_or_the_same_whatever_their_order(tmp_path: Path) -> None:
    before = Run(FakeRun("before").write(tmp_path))
    after = Run(changed(FakeRun("after", influence=False).write(tmp_path), mended))
    found = compare_runs(before, after)
    errors = [str(before.item("validation", one)["id"]) for one in before.misclassified_positions]
    assert found.gone == tuple(errors[:2]) and found.same == tuple(errors[2:])
    assert found.new == ("v001",) and found.items == 24
    assert found.p == 1.0, "two of three"
    assert compare_runs(before, before).p == 1.0 and not compare_runs(before, before).new


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("id", "other", "other items (23 in common of 24 and 24)"),
        ("label", 1, "1 validation items differ in content or label, such as v000"),
        ("text", "other", "1 validation items differ in content or label, such as v000"),
    ],
)
def test_runs_on_other_validation_items_are_not_compared(
    open_page: OpenPage, runs: Path, column: str, value: object, words: str
) -> None:
    before = FakeRun("before").write(runs)

    def change(items: pd.DataFrame, rows: pd.Index) -> None:
        items.loc[rows[0], column] = value

    after = changed(FakeRun("after", influence=False).write(runs), change)
    with pytest.raises(TurnoverError) as told:
        compare_runs(Run(before), Run(after))
    assert words in str(told.value) and "give both trainings the same" in str(told.value)
    app = open_page("runs", run="after", view="Before and after", before="before")
    assert words in html_of(app) and "Errors gone" not in html_of(app)


@pytest.mark.parametrize(
    ("kind", "classes"), [("text", ("<b>neg</b>", "positive")), ("image", ("cat", "dog"))]
)
def test_before_and_after_links_each_error_to_the_run_that_makes_it(
    open_page: OpenPage, runs: Path, kind: str, classes: tuple[str, ...]
) -> None:
    FakeRun("before", kind=kind, classes=classes, texts=HOSTILE).write(runs)
    after = FakeRun("after", kind=kind, classes=classes, texts=HOSTILE, influence=False)
    changed(after.write(runs), mended)
    shown = html_of(open_page("runs", run="after", view="Before and after"))
    assert "2 errors gone, 1 new: no difference can be told from chance (p = 1.000)." in shown
    assert "before is right on 66.7% of 24 validation items, after on 70.8%." in shown
    gone, new, same = shown.split('<div class="to-changed">')[1:]
    assert gone.count('href="./?run=before&amp;item=') == 2 and "Errors gone" in gone
    assert new.count('href="./?run=after&amp;item=') == 1 and "New errors" in new
    assert same.count('href="./?run=after&amp;item=') == 6 and "The same errors" in same
    assert "<b>" not in shown and "<script" not in shown and "<img src=x" not in shown
    assert ("data:image/png" in gone) == (kind == "image")


def test_one_run_alone_has_no_before(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_page("runs", view="Before and after")
    assert "There is only one run" in html_of(app)


# Details


def test_facts_are_the_manifest_s_and_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    facts = {
        "leaks": ["the output bias", "more"],
        "timings": {"training": 1.5},
        "settings": {"data": "fake", "limit": None, "path": "", "members": 4},
    }
    run = Run(FakeRun(facts=facts).write(tmp_path))
    groups = dict(build_details(run).groups)
    assert groups["Settings"] == (("data", "fake"), ("members", "4"))
    assert groups["Made"] == (("Leaks", "the output bias, more"), ("Seconds, training", "1.5"))
    assert "Versions" not in groups


def test_details_are_shown_as_text(open_page: OpenPage, runs: Path) -> None:
    source = {"name": "<b>bold</b>", "source": "[x](http://evil.example)"}
    report = ["<b>a.csv</b>: text from column x", "2 texts with two labels"]
    FakeRun("one", facts={"data": source, "data_report": report}).write(runs)
    shown = html_of(open_page("runs", run="one", view="Details"))
    assert "&lt;b&gt;bold&lt;/b&gt;" in shown and "[x](http://evil.example)" in shown
    assert "&lt;b&gt;a.csv&lt;/b&gt;: text from column x" in shown and "<b>" not in shown
    assert "<li>2 texts with two labels</li>" in shown and "What it cannot tell" in shown


# Jobs


def test_a_job_at_work_is_shown_with_its_progress_and_on_every_page(
    open_page: OpenPage, runs: Path
) -> None:
    FakeRun().write(runs)
    progress = {
        "stage": "digits: training",
        "done": 3,
        "total": 30,
        "unit": "epochs",
        "seconds_left": 65.0,
    }
    line = "digits: training, 3 of 30 epochs, about 1 min left"
    with at_work(fake_job(runs, TRAIN, "Train <b>x", begun=True, progress=progress)):
        for page in PAGES:
            app = open_page(page)
            shown = html_of(app)
            assert shown.count(line) == 1 and 'aria-valuenow="10"' in shown, page
            links = [link.proto.label for link in app.sidebar.get("page_link")]
            assert ("Jobs and runs" in links) == (page != "runs") and "<b>" not in shown
    buttons = [one.label for one in app.button if (one.key or "").startswith("job-")]
    assert buttons == ["Cancel"]
    assert line not in html_of(open_page("training"))


def test_a_failed_job_shows_its_last_words_and_can_be_resumed_or_forgotten(
    open_page: OpenPage, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = {"results": [], "finished": False, "error": "the disk is full"}
    fake_job(runs, TRAIN, "Train x", outcome=outcome, log="a <b>\nthe disk is full")
    resumed: list[Job] = []
    monkeypatch.setattr(jobs_component, "resume_job", resumed.append)
    app = open_page("runs")
    assert "the disk is full" in html_of(app) and "a &lt;b&gt;" in html_of(app)
    button(app, "Resume").click().run()
    assert [job.label for job in resumed] == ["Train x"]
    button(app, "Forget").click().run()
    assert find_jobs(runs) == [] and not app.exception


def test_a_finished_job_links_to_its_run_and_older_ones_are_folded_away(
    open_page: OpenPage, runs: Path
) -> None:
    run = FakeRun("made").write(runs)
    result = {"validation_accuracy": 0.9, "plain_accuracy": 0.9, "members": 8}
    outcome = {"results": [result], "finished": True, "error": ""}
    for number in "123":
        step = ["train", "--run", str(run)]
        fake_job(runs, [step], f"Train {number}", number, outcome=outcome)
    app = open_page("runs")
    link = '<a class="to-link" href="./?run=made" target="_self">Open the run</a>'
    assert html_of(app).count(link) == 3
    (older,) = [one for one in app.expander if one.label == "Earlier jobs (2)"]
    assert "Train 3" not in "".join(one.proto.body for one in older.get("html"))
    fake_job(runs, [["prove", "--run", str(run)]], "Prove it", "4", outcome=outcome)
    app = open_page("runs")
    (older,) = [one for one in app.expander if one.label == "Earlier jobs (4)"]
    assert "Prove it" in "".join(one.proto.body for one in older.get("html"))


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_and_errors_stay_text(open_page: OpenPage, runs: Path, label: str) -> None:
    outcome = {"results": [], "finished": False, "error": label}
    fake_job(runs, TRAIN, label, outcome=outcome, log=label)
    shown = html_of(open_page("runs"))
    assert "<script" not in shown and "<img src=x" not in shown and "<b>" not in shown
    assert len(shown) < 60_000


def test_a_damaged_job_hides_no_other(open_page: OpenPage, runs: Path) -> None:
    (fake_job(runs, TRAIN, "torn", "1") / "job.json").write_text("{")
    fake_job(runs, TRAIN, "Train x", "2", cancelled=True)
    shown = html_of(open_page("runs"))
    assert "Train x" in shown and "Cancelled. Resume it" in shown


# Sign-in


@pytest.mark.parametrize(
    ("user", "stopped"),
    [({}, False), ({"is_logged_in": True}, False), ({"is_logged_in": False}, True)],
)
def test_who_is_not_signed_in_sees_nothing_of_a_run(
    open_page: OpenPage,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: dict[str, bool],
    stopped: bool,
) -> None:
    FakeRun("secret run", texts=["a secret text"]).write(runs)
    monkeypatch.setattr(st, "user", user)
    app = open_page("errors", run="secret run")
    assert ("Sign in to go on" in html_of(app)) == stopped
    assert bool(app.get("bidi_component")) != stopped and "secret" not in html_of(app)
    assert stopped or "secret" in str(shown_pane(app)["content"]["head"])
    assert (len(app.sidebar.selectbox) == 0) == stopped
