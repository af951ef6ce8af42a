"""The Overview: where the run errs, and where to begin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.fake_runs import HOSTILE, FakeRun, truncate
from tests.pages.app_testing import OpenPage, html_of, links
from turnover.dashboard.views.errors import ANY, Query, select
from turnover.dashboard.views.runs import Confusion, build_confusion, starting_points
from turnover.explain.explanation import error_items
from turnover.explain.facts import run_facts
from turnover.runs.ranking import clearness
from turnover.runs.run import Run

pytestmark = pytest.mark.usefixtures("fresh")
DIGITS = tuple("0123456789")


# The view


@pytest.mark.parametrize("classes", [("negative", "positive"), DIGITS])
def test_each_cell_row_and_column_counts_the_errors_that_the_same_filters_show(
    tmp_path: Path, classes: tuple[str, ...]
) -> None:
    run = Run(FakeRun(classes=classes).write(tmp_path))
    confusion, errors = build_confusion(run), error_items(run, with_influence=True)
    for true in confusion.options:
        for predicted in confusion.options:
            found = len(select(errors, Query(true=true, predicted=predicted)))
            assert confusion.behind(true, predicted) == found
            row, column = confusion.options.index(true), confusion.options.index(predicted)
            if true != predicted or true == ANY:
                assert confusion.table[row, column] == found
                assert confusion.chosen(true, predicted).startswith(
                    f"{found:,} error" if found else "No error"
                )
    assert confusion.counts.sum() == len(run.validation) and np.trace(confusion.counts) == len(
        run.validation
    ) - len(errors)


def test_the_matrix_in_words() -> None:
    confusion = Confusion(("cat", "dog"), np.array([[5, 1], [2, 4]]))
    assert (
        confusion.alt
        == "Confusion matrix of 12 validation items, 3 of them wrong. Most often: dog taken for "
        "cat, 2; cat taken for dog, 1"
    )
    assert confusion.chosen("dog", "cat") == "2 errors of class “dog” taken for “cat”."
    assert (
        confusion.chosen("cat", ANY) == "1 error of class “cat”."
        and confusion.chosen(ANY, ANY) == "3 errors."
    )
    assert (
        confusion.chosen("cat", "cat")
        == "Right answers: 5 of class “cat”. Choose another cell to see errors."
    )


def test_one_begins_with_the_clearest_errors_of_different_classes(tmp_path: Path) -> None:
    run = Run(FakeRun(classes=DIGITS, validation=60).write(tmp_path))
    errors = error_items(run, with_influence=True)
    starts = starting_points(run, errors, with_influence=True)
    assert len(starts) == 3 == len({(start.item.label, start.item.predicted) for start in starts})
    assert starts[0].item == errors[0] and [start.item.rank for start in starts] == sorted(
        start.item.rank for start in starts
    )
    for start in starts:
        like = [
            error
            for error in errors
            if (error.label, error.predicted) == (start.item.label, start.item.predicted)
        ]
        assert start.item == like[0] and (
            f"One of {len(like)} errors" in start.why or len(like) == 1
        )
        assert (
            "Its cause is known" in start.why
        ) or f"{clearness(run, start.item.position):.1f} standard errors" in start.why


def test_two_classes_fill_up_with_the_next_clearest(tmp_path: Path) -> None:
    run = Run(FakeRun().write(tmp_path))
    errors = error_items(run, with_influence=True)
    starts = starting_points(run, errors, with_influence=True)
    assert (
        len({start.item.id for start in starts}) == 3
        and len({start.item.label for start in starts[:2]}) == 2
    )
    assert starting_points(run, errors[:1], with_influence=True)[0].why.startswith(
        "The only error that takes"
    )


def test_without_influence_one_begins_with_the_surest(tmp_path: Path) -> None:
    run = Run(FakeRun(influence=False).write(tmp_path))
    errors = error_items(run, with_influence=False)
    starts = starting_points(run, errors, with_influence=False)
    assert starts[0].item.probability == max(error.probability for error in errors)
    assert f"The model is sure of it: {starts[0].item.probability:.0%}" in starts[0].why


# The page


@pytest.mark.parametrize(
    ("kind", "classes"), [("text", ("negative", "positive")), ("image", DIGITS)]
)
def test_the_page_says_what_the_run_is_and_links_to_its_errors(
    open_page: OpenPage, runs: Path, kind: str, classes: tuple[str, ...]
) -> None:
    run = Run(FakeRun("a run", kind=kind, classes=classes).write(runs))
    app = open_page("overview")
    shown = html_of(app)
    assert app.title[0].value == "Overview"
    assert [metric.value for metric in app.metric] == ["66.7%", "70.0%", "8", "4"]
    assert all(value in shown for value in run_facts(run).values())
    assert (
        "Do not read single influences of this run" in shown
        or "ead single influences of this run" in shown
    )
    errors = error_items(run, with_influence=True)
    starts = starting_points(run, errors, with_influence=True)
    assert links(app)[:3] == [
        (f"Open error {start.item.rank + 1}", {"run": ["a run"], "item": [start.item.id]})
        for start in starts
    ]
    assert links(app)[3] == (
        "Show these errors",
        {"run": ["a run"], "true": [ANY], "predicted": [ANY]},
    )
    assert app.dataframe[0].value.shape == (len(classes) + 1, len(classes) + 2)


def test_the_url_holds_the_chosen_cell(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_page("overview", **{"confused": "positive", "taken-for": "negative"})
    assert links(app)[-1][1] == {"run": ["fake"], "true": ["positive"], "predicted": ["negative"]}
    app.selectbox(key="taken-for").select("positive").run()
    assert "Right answers:" in html_of(app) and links(app)[-1][0] != "Show these errors"
    app.selectbox(key="confused").select(ANY).run()
    assert "4 errors taken for “positive”." in html_of(app)


def test_many_classes_are_shown_without_shades(open_page: OpenPage, runs: Path) -> None:
    FakeRun(
        classes=[f"c{number}" for number in range(600)], train=600, validation=600, members=2
    ).write(runs)
    app = open_page("overview", confused="c3", **{"taken-for": "c4"})
    assert app.dataframe[0].value.shape == (
        601,
        602,
    ) and "1 error of class “c3” taken for “c4”." in html_of(app)


def test_a_link_shows_what_it_says_whatever_was_chosen_before(
    open_page: OpenPage, runs: Path
) -> None:
    run = Run(FakeRun().write(runs))
    item = next(
        error for error in error_items(run, with_influence=True) if error.label == "positive"
    )
    app = open_page("errors", true="negative")
    app.text_input(key="search").set_value("no such word").run()
    app.switch_page("app_pages/overview.py").run()
    for name in ("true", "search"):
        app.query_params.pop(name, None)
    app.query_params["item"] = item.id
    app.switch_page("app_pages/errors.py").run()
    assert (
        not app.exception
        and app.selectbox(key="true").value == ANY
        and app.selectbox(key="item").value == item.id
    )


def test_a_visit_without_a_link_finds_the_filters_as_they_were(
    open_page: OpenPage, runs: Path
) -> None:
    FakeRun().write(runs)
    app = open_page("errors")
    app.selectbox(key="true").select("positive").run()
    app.switch_page("app_pages/overview.py").run()
    app.query_params.clear()
    app.switch_page("app_pages/errors.py").run()
    assert app.selectbox(key="true").value == "positive"


def test_without_influence_all_else_is_shown(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun(influence=False).write(runs)
    app = open_page("overview")
    assert app.code[
        0
    ].value == f"turnover influence --run {folder}" and "No influence yet" in html_of(app)
    assert (
        len(links(app)) == 4
        and app.metric[2].value == "8"
        and "66.7% with turn-over dropout" in html_of(app)
    )


def test_damaged_influence_hides_nothing_else(open_page: OpenPage, runs: Path) -> None:
    truncate(FakeRun().write(runs) / "influence" / "self.npy")
    app = open_page("overview")
    assert (
        "self.npy: truncated or edited" in html_of(app)
        and len(links(app)) == 4
        and "66.7% with" in html_of(app)
    )


def test_a_run_without_errors_says_so(open_page: OpenPage, runs: Path) -> None:
    FakeRun(errors=False).write(runs)
    app = open_page("overview")
    assert (
        "The model is right on all 24 validation items" in html_of(app)
        and not app.dataframe
        and not links(app)
    )
    assert app.metric[2].value == "0"


def test_hostile_texts_and_class_names_stay_text(open_page: OpenPage, runs: Path) -> None:
    FakeRun(texts=HOSTILE, classes=("<b>neg</b>", ":red[pos] [x](http://evil.example)")).write(runs)
    app = open_page("overview")
    shown = html_of(app)
    assert (
        "<script" not in shown
        and "<img src=x" not in shown
        and "<b>neg" not in shown
        and "&lt;b&gt;neg" in shown
    )
    assert all(
        label in ("Show these errors",) or label.startswith("Open error ")
        for label, _ in links(app)
    )
