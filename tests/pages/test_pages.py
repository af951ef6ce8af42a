"""Every page in every state, run in process."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.helpers.fake_runs import HOSTILE, FakeRun, remove_influence, truncate
from tests.pages.app_testing import OpenPage, html_of
from turnover.dashboard.views.errors import PAGE
from turnover.explain.explanation import error_items
from turnover.flags import Flags
from turnover.runs.run import Run

PAGES = ("overview", "errors", "training", "map", "curves", "trust", "flags", "cleanse", "try")
pytestmark = pytest.mark.usefixtures("fresh")


def ids_of(run: Path) -> list[str]:
    return [item.id for item in error_items(Run(run), with_influence=True)]


@pytest.mark.parametrize("page", PAGES)
def test_no_runs_at_all(open_page: OpenPage, page: str) -> None:
    app = open_page(page)
    assert "No runs yet" in html_of(app)
    assert app.code[0].value == "turnover demo"


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("influence", [True, False])
@pytest.mark.parametrize(
    ("kind", "classes"), [("text", ("negative", "positive")), ("image", tuple("0123456789"))]
)
def test_every_page_opens(
    open_page: OpenPage, runs: Path, page: str, influence: bool, kind: str, classes: tuple[str, ...]
) -> None:
    FakeRun(kind=kind, classes=classes, influence=influence).write(runs)
    app = open_page(page)
    assert app.title[0].value.casefold().startswith(page) and "cannot be" not in html_of(app)
    assert ("No influence yet" in html_of(app)) is (
        not influence and page not in ("curves", "flags")
    )


@pytest.mark.parametrize("page", PAGES)
def test_a_damaged_run_names_the_file_and_the_remedy(
    open_page: OpenPage, runs: Path, page: str
) -> None:
    folder = FakeRun().write(runs)
    truncate(folder / "items.parquet")
    app = open_page(page)
    assert "This run cannot be opened" in html_of(app)
    assert "items.parquet: truncated or edited" in html_of(app) and "train it again" in html_of(app)


def test_a_mended_run_opens_without_a_restart(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    whole = (folder / "items.parquet").read_bytes()
    truncate(folder / "items.parquet")
    app = open_page()
    (folder / "items.parquet").write_bytes(whole)
    app.run()
    assert "cannot be opened" not in html_of(app) and "Proponents" in html_of(app)


def test_a_run_that_took_the_place_of_another_at_the_same_time_is_opened_anew(
    open_page: OpenPage, runs: Path
) -> None:
    """As where a clock was put back, or a copy kept its times."""
    folder = FakeRun(validation=24).write(runs)
    manifests = [folder / "manifest.json", folder / "influence" / "manifest.json"]
    times = [path.stat().st_mtime_ns for path in manifests]
    assert "8 of 24 validation items" in html_of(open_page())
    shutil.rmtree(folder)
    FakeRun(validation=27).write(runs)
    for path, time in zip(manifests, times, strict=True):
        os.utime(path, ns=(time, time))
    assert "9 of 27 validation items" in html_of(open_page())


@pytest.mark.parametrize("page", PAGES)
def test_a_run_whose_manifest_is_no_manifest(open_page: OpenPage, runs: Path, page: str) -> None:
    (runs / "odd").mkdir()
    (runs / "odd" / "manifest.json").write_text("[]")
    assert "not a Turnover manifest" in html_of(open_page(page))


@pytest.mark.parametrize("page", ["errors", "try"])
def test_a_run_without_influence_names_the_command(
    open_page: OpenPage, runs: Path, page: str
) -> None:
    folder = FakeRun(influence=False).write(runs)
    app = open_page(page)
    assert "No influence yet" in html_of(app)
    assert app.code[0].value == f"turnover influence --run {folder}"
    if page == "errors":
        assert len(app.dataframe[0].value) == 8


def test_a_run_without_influence_still_has_its_curves(open_page: OpenPage, runs: Path) -> None:
    FakeRun(influence=False).write(runs)
    assert open_page("curves").metric[0].value == "66.7%"


@pytest.mark.parametrize("page", ["errors", "try"])
def test_a_damaged_influence_names_the_file(open_page: OpenPage, runs: Path, page: str) -> None:
    truncate(FakeRun().write(runs) / "influence" / "prediction_estimate.npy")
    app = open_page(page)
    assert "prediction_estimate.npy: truncated or edited" in html_of(app)
    assert "<code>turnover influence --run" in html_of(app)


def test_influence_that_is_computed_later_is_found(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    kept = folder / "influence"
    away = kept.rename(runs / "away.partial")
    app = open_page()
    assert "No influence yet" in html_of(app)
    away.rename(kept)
    app.run()
    assert "Proponents" in html_of(app)
    remove_influence(folder)
    app.run()
    assert "No influence yet" in html_of(app)


def test_the_first_error_is_shown_with_both_sides(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    app = open_page()
    shown = html_of(app)
    assert app.selectbox(key="item").value == ids_of(folder)[0]
    assert "8 of 24 validation items are misclassified" in shown
    assert shown.count('class="to-line"') == 10
    assert "made-up items: 30 training and 24 validation texts" in shown
    assert "Influence on the prediction: the loss of the wrong label" in shown
    assert "what similar training items share" in shown and "A random training item" in shown


def test_the_url_says_what_is_shown(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun("one").write(runs)
    FakeRun("two", kind="image", classes=("cat", "dog")).write(runs)
    last = ids_of(folder)[-1]
    app = open_page(run="one", item=last, meaning="truth", top="10")
    assert app.selectbox(key="item").value == last
    assert "Influence on the truth: the loss of the true label" in html_of(app)
    assert html_of(app).count('class="to-line"') == 20
    app = open_page(run="two", true="dog", predicted="cat")
    assert set(app.dataframe[0].value["label"]) == {"dog"}
    app = open_page(run="nowhere", item="nothing", true="zebra")
    assert (
        app.selectbox(key="run").value == "one"
        and app.selectbox(key="item").value == ids_of(folder)[0]
    )


def test_filters_narrow_the_table_and_move_the_choice(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_page()
    app.selectbox(key="true").select("positive").run()
    assert set(app.dataframe[0].value["label"]) == {"positive"}
    assert "of 4 that match, out of 8" in html_of(app)
    first = app.dataframe[0].value["id"].iloc[0]
    assert app.selectbox(key="item").value in set(app.dataframe[0].value["id"])
    app.selectbox(key="sort").select("Most confident").run()
    assert list(app.dataframe[0].value["probability"]) == sorted(
        app.dataframe[0].value["probability"], reverse=True
    )
    app.text_input(key="search").set_value(first).run()
    assert (
        list(app.dataframe[0].value["id"]) == [first] and app.selectbox(key="item").value == first
    )


def test_no_error_matches(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_page(search="no such word")
    assert "No error matches" in html_of(app)
    app.text_input(key="search").set_value("").run()
    assert "Proponents" in html_of(app)


def test_no_errors_at_all(open_page: OpenPage, runs: Path) -> None:
    FakeRun(errors=False).write(runs)
    assert "The model is right on all 24 validation items" in html_of(open_page())


def test_next_and_previous_stop_at_the_ends(open_page: OpenPage, runs: Path) -> None:
    ids = ids_of(FakeRun().write(runs))
    app = open_page()
    previous, following = (
        next(button for button in app.button if button.label == label)
        for label in ("Previous", "Next")
    )
    previous.click().run()
    assert app.selectbox(key="item").value == ids[0]
    following.click().run()
    assert app.selectbox(key="item").value == ids[1]
    app.selectbox(key="item").select(ids[-1]).run()
    next(button for button in app.button if button.label == "Next").click().run()
    assert app.selectbox(key="item").value == ids[-1]


def test_thousands_of_errors_come_in_pages(open_page: OpenPage, runs: Path) -> None:
    ids = ids_of(FakeRun(validation=2100, train=12, members=2).write(runs))
    assert len(ids) == 700
    app = open_page(item=ids[PAGE - 1])
    assert list(app.dataframe[0].value["id"]) == ids[:PAGE]
    next(button for button in app.button if button.label == "Next").click().run()
    assert app.selectbox(key="item").value == ids[PAGE] and f"Error {PAGE + 1} of 700" in html_of(
        app
    )
    assert list(app.dataframe[0].value["id"]) == ids[PAGE:]
    assert list(app.selectbox(key="item").options) == [ids[0], *ids[PAGE:]]
    app.selectbox(key="item").select(ids[0]).run()
    assert list(app.dataframe[0].value["id"]) == ids[:PAGE]
    assert list(open_page(item=ids[PAGE]).dataframe[0].value["id"]) == ids[PAGE:]


def test_another_run_forgets_the_filters(open_page: OpenPage, runs: Path) -> None:
    FakeRun("one").write(runs)
    FakeRun("two", classes=("cat", "dog")).write(runs)
    app = open_page(run="one", true="negative")
    app.selectbox(key="run").select("two").run()
    assert not app.exception
    assert app.selectbox(key="true").value == "Any class" and len(app.dataframe[0].value) == 8


def test_an_image_run_shows_pictures(open_page: OpenPage, runs: Path) -> None:
    FakeRun(kind="image", classes=tuple("0123456789")).write(runs)
    app = open_page()
    assert html_of(app).count('src="data:image/png;base64,') == 12
    assert app.dataframe[0].value["image"].iloc[0].startswith("data:image/png;base64,")


def test_one_member(open_page: OpenPage, runs: Path) -> None:
    FakeRun(members=1).write(runs)
    shown = html_of(open_page())
    assert "one member has no standard error" in shown and "nan" not in shown


def test_hostile_texts_and_class_names_stay_text(open_page: OpenPage, runs: Path) -> None:
    FakeRun(texts=HOSTILE, classes=("<b>neg</b>", ":red[pos] [x](http://evil.example)")).write(runs)
    app = open_page()
    for _ in range(8):
        shown = html_of(app)
        assert "<script" not in shown and "<img src=x" not in shown and "<b>" not in shown
        assert len(shown) < 400_000
        said = [
            element.value
            for kind in ("markdown", "caption", "title", "header", "error", "info", "warning")
            for element in app.get(kind)
        ]
        assert said == ["Errors"]
        next(button for button in app.button if button.label == "Next").click().run()
        assert not app.exception
    assert "&lt;script&gt;" in shown or "&lt;img src=x" in shown
    assert ":red[pos] [x](http://evil.example)" in shown


def open_flag(app: AppTest, position: int) -> AppTest:
    app.session_state[f"flag-{position}"] = True
    return app.run()


def first_card(run: Path, item: str) -> int:
    opened = Run(run)
    position = next(
        entry.position for entry in error_items(opened, with_influence=True) if entry.id == item
    )
    ranked = opened.influence.ranked(position, "prediction")
    return int(ranked.instances[ranked.ends(1)[0][0]])


def test_a_flag_is_put_changed_and_cleared(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    app = open_page()
    card = first_card(folder, app.selectbox(key="item").value)
    assert f"flag-{card}-save" not in {button.key for button in app.button}
    app = open_flag(app, card)
    app.text_input(key=f"flag-{card}-note").set_value("why <not>")
    app.button(key=f"flag-{card}-save").click().run()
    flag = Flags(folder).current()[card]
    assert (flag.action, flag.new_label, flag.note) == ("drop", "", "why <not>")
    assert "flagged: drop" in html_of(app) and "1 training item flagged" in html_of(app)
    app = open_flag(app, card)
    app.segmented_control(key=f"flag-{card}-action").set_value("relabel").run()
    wanted = app.selectbox(key=f"flag-{card}-label").value
    assert wanted != Run(folder).classes[int(Run(folder).item("train", card)["label"])]
    app.button(key=f"flag-{card}-save").click().run()
    flag = Flags(folder).current()[card]
    assert (flag.action, flag.new_label, flag.note) == ("relabel", wanted, "why <not>")
    assert f"flagged: relabel to {wanted}" in html_of(open_page())
    app = open_flag(app, card)
    app.button(key=f"flag-{card}-clear").click().run()
    assert Flags(folder).current() == {} and "flagged:" not in html_of(app)


def test_a_flag_that_cannot_be_stored_says_so(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    app = open_page()
    card = first_card(folder, app.selectbox(key="item").value)
    app = open_flag(app, card)
    (folder / "flags.sqlite").write_bytes(b"not a database, " * 100)
    app.button(key=f"flag-{card}-save").click().run()
    assert not app.exception
    assert "flags.sqlite: flags cannot be read or written" in html_of(app)


def test_flags_are_exported(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    app = open_page()
    assert app.get("download_button")[
        0
    ].proto.disabled and "No training item is flagged yet" in html_of(app)
    Flags(folder).put(3, "keep", note="fine")
    (button,) = open_page().get("download_button")
    assert button.proto.label == "Export flags (CSV)" and not button.proto.disabled


def test_curves_show_the_figure_and_its_numbers(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_page("curves")
    (chart,) = app.get("plotly_chart")
    assert "kept epoch 2" in str(chart.proto)
    assert [metric.value for metric in app.metric][:2] == ["66.7%", "70.0%"]
    assert list(app.dataframe[0].value["Epoch"]) == [1, 2, 3]
    assert "How to read this" in html_of(app)
