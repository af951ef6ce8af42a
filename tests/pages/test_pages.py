"""Every page in every state, run in process."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.fake_runs import HOSTILE, FakeRun, remove_influence, truncate
from tests.pages.app_testing import OpenPage, explorer, go_to_error, html_of, shown_pane
from turnover.dashboard import state
from turnover.dashboard.errors.list_view import STEP, Place, select
from turnover.explain.causes import causes
from turnover.explain.explanation import error_items, explain_error
from turnover.runs.run import PREDICTION, Run

PAGES = ("errors", "training", "runs", "cleanse")
pytestmark = pytest.mark.usefixtures("fresh")


def ids_of(run: Path) -> list[str]:
    """The errors in the order of the list."""
    groups = {error: group.name for group in causes(Run(run)).groups for error in group.errors}
    return [one.id for one in select(error_items(Run(run), with_influence=True), Place(), groups)]


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
    assert ("No influence yet" in html_of(app)) is (not influence and page != "runs")


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
    assert "cannot be opened" not in html_of(app) and shown_pane(app)["teachers"]


def test_a_run_that_took_the_place_of_another_at_the_same_time_is_opened_anew(
    open_page: OpenPage, runs: Path
) -> None:
    """As where a clock was put back, or a copy kept its times."""
    folder = FakeRun(validation=24).write(runs)
    manifests = [folder / "manifest.json", folder / "influence" / "manifest.json"]
    times = [path.stat().st_mtime_ns for path in manifests]
    assert "8 errors" in explorer(open_page())["headline"]
    shutil.rmtree(folder)
    FakeRun(validation=27).write(runs)
    for path, time in zip(manifests, times, strict=True):
        os.utime(path, ns=(time, time))
    assert "9 errors" in explorer(open_page())["headline"]


@pytest.mark.parametrize("page", PAGES)
def test_a_run_whose_manifest_is_no_manifest(open_page: OpenPage, runs: Path, page: str) -> None:
    (runs / "odd").mkdir()
    (runs / "odd" / "manifest.json").write_text("[]")
    assert "not a Turnover manifest" in html_of(open_page(page))


def test_a_run_without_influence_names_the_command(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun(influence=False).write(runs)
    app = open_page()
    assert "No influence yet" in html_of(app)
    assert app.code[0].value == f"turnover influence --run {folder}"
    assert explorer(app)["total"] == 8 and shown_pane(app)["teachers"] == []


def test_a_damaged_influence_names_the_file(open_page: OpenPage, runs: Path) -> None:
    truncate(FakeRun().write(runs) / "influence" / "prediction_estimate.npy")
    app = open_page()
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
    assert shown_pane(app)["teachers"]
    remove_influence(folder)
    app.run()
    assert "No influence yet" in html_of(app)


def test_the_first_error_is_shown_with_both_sides(open_page: OpenPage, runs: Path) -> None:
    run = Run(FakeRun().write(runs))
    app = open_page()
    data, pane = explorer(app), shown_pane(app)
    first = next(
        one for one in error_items(run, with_influence=True) if one.id == ids_of(run.folder)[0]
    )
    assert data["item"] == pane["id"] == first.id == ids_of(run.folder)[0]
    assert data["headline"].startswith("66.7% right · 8 errors, ")
    assert data["headline"].endswith("8 errors, 4 the plain model’s too")
    assert data["twins"]["no"] == "Not the plain model’s (4)"
    assert len(pane["teachers"]) == len(pane["opponents"]) == 5 and pane["why"]
    shown = explain_error(run, first, PREDICTION, 5)
    for cards, sent in ((shown.proponents, "teachers"), (shown.opponents, "opponents")):
        assert [card.position for card in cards] == [card["position"] for card in pane[sent]]
    assert "made-up items: 30 training and 24 validation texts" in html_of(app)


def test_the_address_says_what_is_shown(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun("one").write(runs)
    FakeRun("two", kind="image", classes=("cat", "dog")).write(runs)
    last = ids_of(folder)[-1]
    assert explorer(open_page(run="one", item=last))["item"] == last
    data = explorer(open_page(run="two", true="dog", predicted="cat"))
    assert {row["label"] for row in data["rows"]} == {"dog"} and data["run"] == "two"
    app = open_page(run="nowhere", item="nothing", true="zebra")
    assert "There is no run “nowhere” here" in html_of(app)
    assert app.selectbox(key="run").value == "one" and explorer(app)["item"] == ids_of(folder)[0]


def test_filters_narrow_the_list_and_move_the_choice(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    data = explorer(open_page(true="positive"))
    assert {row["label"] for row in data["rows"]} == {"positive"} and data["total"] == 4
    assert data["item"] == data["rows"][0]["id"]
    data = explorer(open_page(sort="confident"))
    chances = [float(row["probability"].rstrip("%")) for row in data["rows"]]
    assert chances == sorted(chances, reverse=True)
    data = explorer(open_page(search=data["rows"][2]["id"]))
    assert [row["id"] for row in data["rows"]] == [data["item"]]


def test_no_error_matches(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_page(search="no such word")
    data = explorer(app)
    assert (data["total"], data["item"], data["rows"], data["panes"]) == (0, "", [], [])
    assert not [one for one in app.get("expander") if one.label == "More"]


def test_a_large_run_without_causes_is_shown_at_once(
    open_page: OpenPage, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FakeRun().write(runs)
    monkeypatch.setattr(state, "_MOST", 10)
    pane = shown_pane(open_page())
    assert f"`turnover influence --run {folder}`" in pane["why"] and len(pane["teachers"]) == 5
    assert not (folder / "causes").exists()


def test_no_errors_at_all(open_page: OpenPage, runs: Path) -> None:
    FakeRun(errors=False).write(runs)
    assert "The model is right on all 24 validation items" in html_of(open_page())


def test_thousands_of_errors_come_in_pieces(open_page: OpenPage, runs: Path) -> None:
    ids = ids_of(FakeRun(validation=2100, train=12, members=2).write(runs))
    assert len(ids) == 700
    for place in (0, 1, STEP, 333, 699):
        app = open_page(item=ids[place])
        data = explorer(app)
        rows = {data["first"] + number: row["id"] for number, row in enumerate(data["rows"])}
        assert len(rows) <= 3 * STEP and all(ids[number] == id for number, id in rows.items())
        near = range(max(0, place - STEP), min(700, place + STEP))
        assert (data["index"], data["total"]) == (place, 700) and set(near) <= set(rows)
    app = go_to_error(app, ids[STEP])
    assert explorer(app)["item"] == ids[STEP]


def test_another_run_forgets_the_filters(open_page: OpenPage, runs: Path) -> None:
    FakeRun("one").write(runs)
    FakeRun("two", classes=("cat", "dog")).write(runs)
    app = open_page(run="one", true="negative", item="v003")
    app.selectbox(key="run").select("two").run()
    assert not app.exception
    data = explorer(app)
    assert (data["total"], data["place"]["true"], data["lost"]) == (8, "", "")


def test_an_image_run_shows_pictures(open_page: OpenPage, runs: Path) -> None:
    FakeRun(kind="image", classes=tuple("0123456789")).write(runs)
    app = open_page()
    pane = shown_pane(app)
    pictures = [one["content"]["image"] for one in (pane, *pane["teachers"], *pane["opponents"])]
    pictures += [row["image"] for row in explorer(app)["rows"]]
    assert all(picture.startswith("data:image/png;base64,") for picture in pictures)


def test_one_member(open_page: OpenPage, runs: Path) -> None:
    FakeRun(members=1).write(runs)
    pane = shown_pane(open_page())
    assert not any(card["uncertain"] for card in pane["teachers"]) and "nan" not in str(pane)


def test_hostile_texts_and_class_names_are_data_and_nothing_else(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun(
        texts=HOSTILE, classes=("<b>neg</b>", ":red[pos] [x](http://evil.example)")
    ).write(runs)
    for item in ids_of(folder):
        app = open_page(item=item, more="1")
        app.session_state["more"] = True
        app.run()
        assert not app.exception and explorer(app)["item"] == item
        (component,) = app.get("bidi_component")
        code = (component.proto.html_content, component.proto.css_content)
        assert not any("<b>" in part or "evil" in part for part in code)
        assert len(component.proto.json) < 400_000
        shown = html_of(app)
        assert "<script" not in shown and "<img src=x" not in shown and "<b>" not in shown
        said = [
            element.value
            for kind in ("markdown", "caption", "title", "header", "error", "info", "warning")
            for element in app.get(kind)
        ]
        assert said == ["Errors"]


def test_a_visit_without_a_link_finds_the_list_as_it_was(open_page: OpenPage, runs: Path) -> None:
    ids = ids_of(FakeRun().write(runs))
    app = open_page(true="positive")
    app = go_to_error(app, ids[3])
    app.query_params.clear()
    app.query_params["item"] = "t003"
    app.switch_page("app_pages/training_data.py").run()
    app.query_params.clear()
    app.switch_page("app_pages/errors.py").run()
    assert explorer(app)["item"] == ids[3]
    app.switch_page("app_pages/training_data.py").run()
    app.query_params["item"] = ids[5]
    app.switch_page("app_pages/errors.py").run()
    assert explorer(app)["item"] == ids[5], "a link shows what it says"
