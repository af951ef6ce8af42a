"""The Trust tab in every state, and the note that the Errors page borrows from it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from tests.helpers.fake_jobs import at_work, fake_job
from tests.helpers.fake_runs import HOSTILE, FakeRun, remove_influence
from tests.pages.app_testing import OpenPage, html_of, open_more, shown_pane
from turnover.dashboard.shared import jobs
from turnover.research.evaluate.results import FOLDER, Figure, ResultRow, keep_result
from turnover.runs.run import Run
from turnover.storage.artifacts import MANIFEST, write_manifest

pytestmark = pytest.mark.usefixtures("fresh")
NOTE = "too noisy to read one by one"


def keep(folder: Path, measure: str, *rows: ResultRow, **facts: Any) -> Path:
    """A result of a run, as `evaluate` keeps it."""
    result = {
        "run": str(folder),
        "measure": measure,
        "targets": 24,
        **facts,
        "rows": [asdict(row) for row in rows],
    }
    return keep_result(Run(folder), result)


def lds_rows(baseline: str = "TracIn") -> list[ResultRow]:
    return [
        ResultRow(
            "turn-over, one member",
            1.0,
            0.5,
            {"LDS": Figure(0.1, 0.05, 0.15), "placebo": Figure(0.01)},
        ),
        ResultRow(
            "turn-over, as shown", 10.0, 5.0, {"LDS": Figure(0.6, 0.5, 0.7), "placebo": Figure(0.0)}
        ),
        ResultRow(baseline, 0.0, 0.0, {"LDS": Figure(0.3, 0.2, 0.4), "placebo": Figure(0.0)}),
        ResultRow("a method", 0.0, 0.0, note="refused: the model has no last layer"),
    ]


def change_influence(folder: Path, scale: float) -> None:
    """The same influences with errors that are so many times as large."""
    part = folder / "influence"
    facts = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
    for meaning in ("truth", "prediction"):
        np.save(part / f"{meaning}_error.npy", scale * np.load(part / f"{meaning}_error.npy"))
    write_manifest(
        part,
        {name: fact for name, fact in facts.items() if name not in ("format", "files")},
        sorted(facts["files"]),
    )


def open_trust(open_page: OpenPage, **query: str) -> AppTest:
    return open_page("runs", view="Trust", **query)


def test_the_button_measures_as_a_job(
    open_page: OpenPage, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FakeRun(facts={"timings": {"twin": 1.0}}).write(runs)
    started: list[tuple[Any, ...]] = []
    monkeypatch.setattr(jobs, "start_job", lambda *arguments: started.append(arguments))
    app = open_trust(open_page)
    assert not app.get("plotly_chart") and not app.code and not app.metric
    assert "It takes about 1 min, and goes on" in html_of(app)
    app.button(key="measure-start").click().run()
    step = ["evaluate", "--run", str(folder), "--measure", "lds"]
    assert started == [(runs, [step], "Measure fake: lds")] and not app.exception
    keep(folder, "lds", *lds_rows())
    app = open_trust(open_page)
    assert "Do summed influences" not in str(app.selectbox(key="measure-asked").options)
    app.button(key="measure-start").click().run()
    assert started[1][1][0][-1] == "agreement"
    with at_work(fake_job(runs, [[*step[:-1], "agreement"]], begun=True)):
        app = open_trust(open_page)
        assert "Being measured (agreement)." in html_of(app)
        assert "measure-start" not in [button.key for button in app.button]


def test_one_measure_is_a_picture_with_its_numbers(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    keep(folder, "lds", *lds_rows(), halves=6, ceiling=0.9)
    app = open_trust(open_page)
    (chart,) = app.get("plotly_chart")
    assert "best: turn-over, as shown, 0.60" in str(
        chart.proto
    ) and "the most that can be reached" in str(chart.proto)
    table = app.dataframe[-1].value
    assert list(table["Method"]) == [
        "turn-over, as shown",
        "TracIn",
        "turn-over, one member",
        "a method",
    ]
    assert list(table["LDS, 95 %"]) == ["0.500 to 0.700", "0.200 to 0.400", "0.050 to 0.150", ""]
    shown = html_of(app)
    assert (
        "refused" in table["Note"].iloc[3]
        and "Do summed influences predict retraining on random halves?" in shown
    )
    assert list(json.loads(chart.proto.spec)["layout"]["yaxis"]["categoryarray"]) == [
        "turn-over, one member",
        "TracIn",
        "<b>turn-over, as shown</b>",
    ]
    assert (
        "rank correlation of 0.600 [0.500, 0.700]" in shown
        and "halves 6" in shown
        and "Nothing is measured" not in shown
    )


def test_one_of_several_measures_is_chosen_by_the_url(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    keep(folder, "lds", *lds_rows())
    keep(
        folder,
        "something-new",
        ResultRow("turn-over, as shown", 1.0, 1.0, {"score": Figure(3.5)}),
        strange=["a", "list"],
    )
    figures = {
        "Spearman": Figure(0.87),
        "same sign, strong": Figure(0.999, 0.998, 1.0),
        "coverage, top 10": Figure(0.8),
    }
    keep(folder, "agreement", ResultRow("turn-over, as shown", 1.0, 1.0, figures), members=4)
    app = open_trust(open_page, measure="something-new")
    assert app.segmented_control(key="measure").value == "something-new"
    assert "score" in app.dataframe[-1].value and "Something new" in html_of(app)
    app.segmented_control(key="measure").set_value("agreement").run()
    assert not app.exception and "Spearman" in app.dataframe[-1].value
    assert "What 2 of the models call reliable, the other 2 give the same sign in 99.9%" in html_of(
        app
    )
    assert "80% come out within ± 1.96 standard errors" in html_of(app)
    # what says most comes first
    assert open_trust(open_page, measure="nothing").segmented_control(key="measure").value == "lds"


def test_a_measure_that_another_run_lacks_is_let_go(open_page: OpenPage, runs: Path) -> None:
    one, two = FakeRun("one").write(runs), FakeRun("two").write(runs)
    keep(
        one,
        "injected",
        ResultRow("flipped loss: turn-over, mean of members", 1.0, 0.0, {"AUC": Figure(0.9)}),
    )
    keep(one, "lds", *lds_rows())
    keep(two, "lds", *lds_rows())
    app = open_trust(open_page, run="one", measure="injected")
    app.selectbox(key="run").select("two").run()
    assert not app.exception and app.segmented_control(key="measure").value == "lds"


def test_a_stale_result_says_so_and_counts_for_nothing(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    keep(folder, "lds", *lds_rows())
    assert "out of date" not in html_of(open_trust(open_page))
    change_influence(folder, 2.0)
    app = open_trust(open_page)
    assert "These numbers are out of date" in html_of(
        app
    ) and "influences were computed again" in html_of(app)
    assert "summed influences predict retraining" in app.selectbox(key="measure-asked").value
    assert "rank correlation of" not in html_of(app)


def test_a_damaged_result_hides_no_other(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    keep(folder, "lds", *lds_rows())
    (folder / FOLDER / "injected.json").write_text('{"torn', encoding="utf-8")
    app = open_trust(open_page)
    assert "injected.json: not readable (" in html_of(app)
    assert f"<code>turnover evaluate --run {folder} --measure injected</code>" in html_of(app)
    assert len(app.get("plotly_chart")) == 1


def test_no_method_gave_a_number(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    keep(folder, "lds", ResultRow("a method", 0.0, 0.0, note="refused: no"))
    app = open_trust(open_page)
    assert (
        "No method gave a number" in html_of(app)
        and app.dataframe[-1].value["Note"].iloc[0] == "refused: no"
    )


def test_a_run_without_influence_names_the_command(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    keep(folder, "lds", *lds_rows())
    remove_influence(folder)
    app = open_trust(open_page)
    assert app.code[0].value == f"turnover influence --run {folder}" and not app.metric


def test_one_member_knows_nothing_of_noise(open_page: OpenPage, runs: Path) -> None:
    FakeRun(members=1).write(runs)
    app = open_trust(open_page)
    assert "With one model, nothing tells whether an explanation is reliable" in html_of(app)
    numbers = html_of(open_more(open_page("errors"), "numbers"))
    assert "Nothing says which of these items stand out" in numbers


def test_no_errors_at_all(open_page: OpenPage, runs: Path) -> None:
    FakeRun(errors=False).write(runs)
    assert "nothing to trust yet" in html_of(open_trust(open_page))


def test_names_from_a_file_stay_text(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    keep(folder, "lds", *lds_rows(HOSTILE[0]), **{"<b>halves</b>": "<script>"})
    app = open_trust(open_page)
    shown = html_of(app)
    assert "<img src=x" not in shown and "<b>" not in shown and "<script" not in shown
    assert "&lt;b&gt;halves&lt;/b&gt;" in shown
    assert "<img" not in app.get("plotly_chart")[0].proto.spec


@pytest.mark.parametrize(
    ("scale", "words"),
    [(1e6, "cannot tell for any of 8 errors"), (1e-6, "explanations of all 8 errors are reliable")],
)
def test_the_sentence_and_the_note_follow_the_noise(
    open_page: OpenPage, runs: Path, scale: float, words: str
) -> None:
    folder = FakeRun().write(runs)
    change_influence(folder, scale)
    app = open_trust(open_page)
    assert words in html_of(app)
    errors = open_more(open_page("errors"), "numbers")
    noisy = scale > 1
    links = [link.proto.label for link in errors.get("page_link")]
    assert ("No single training item can be told from noise" in html_of(errors)) is noisy
    assert links.count("How far to trust this run") == noisy
    assert all(card["uncertain"] for card in shown_pane(errors)["teachers"]) is noisy
