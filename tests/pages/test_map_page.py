"""The Map: places, colours, chosen groups, and the page in every state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.fake_runs import HOSTILE, FakeRun, keep_ends
from tests.pages.app_testing import OpenPage, html_of, links
from turnover.dashboard.shared.choice_view import ANY
from turnover.dashboard.training_data import map_view as view
from turnover.dashboard.training_data.map import SYMBOLS, map_figure
from turnover.dashboard.training_data.map_view import (
    ALL,
    ERROR,
    FEATURES,
    INFLUENCES,
    LABEL,
    LISTED,
    PREDICTED,
    SELF,
    TRAINING,
    build_points,
    choose_group,
    colours,
    losses_of,
    members_of,
    narrowed,
    principal,
    project,
    sums_of,
)
from turnover.errors import TurnoverError
from turnover.explain.explanation import error_items, rounded
from turnover.explain.groups import MeanMistake
from turnover.runs.run import Run

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(FakeRun().write(tmp_path))


# Places


@pytest.mark.parametrize("shape", [(40, 6), (40, 90), (3, 2), (900, 12)])
def test_places_are_those_of_the_singular_value_decomposition(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(1).normal(size=shape) * np.linspace(3, 1, shape[1]) + 5
    found = principal(rows)
    left, sizes, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    assert np.allclose(np.abs(found.places), np.abs(left[:, :2] * sizes[:2]), atol=1e-6)
    assert found.share == pytest.approx((sizes[:2] ** 2).sum() / (sizes**2).sum())
    assert np.array_equal(principal(rows).places, found.places)


@pytest.mark.parametrize("rows", [np.ones((5, 3)), np.ones((1, 3)), np.arange(4.0)[:, None]])
def test_rows_without_two_directions_have_places_too(rows: np.ndarray) -> None:
    found = principal(rows)
    assert (
        found.places.shape == (len(rows), 2)
        and np.isfinite(found.places).all()
        and np.isfinite(found.share)
    )


def test_many_rows_are_placed_by_a_sample_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(2).normal(size=(400, 5)) * [9, 4, 1, 1, 1]
    whole = principal(rows)
    monkeypatch.setattr(view, "_FITTED", 200)
    sampled = principal(rows)
    for one, other in zip(whole.places.T, sampled.places.T, strict=True):
        assert abs(np.corrcoef(one, other)[0, 1]) > 0.99


def test_influences_place_training_items_alone(run: Run) -> None:
    found = project(run, INFLUENCES)
    expected = principal(
        np.stack(
            [run.influence.ranked(target, "truth").values for target in run.influence.targets], 1
        )
    )
    assert np.allclose(found.places, expected.places, atol=1e-5) and len(found.places) == len(
        run.train
    )


def test_kept_ends_make_no_map_of_influences(tmp_path: Path) -> None:
    keep_ends(FakeRun().write(tmp_path), 4)
    with pytest.raises(TurnoverError, match="keeps only the ends"):
        project(Run(tmp_path / "fake"), INFLUENCES)


# Points


def test_points_say_what_they_are(run: Run) -> None:
    points = build_points(run, project(run, FEATURES))
    assert (points.kinds[:30] == TRAINING).all() and {
        int(n) - 30 for n in points.numbers[points.kinds == ERROR]
    } == set(run.misclassified_positions)
    assert points.left_out == 0 and points.hover[0].startswith("training item t000: negative – ")
    assert points.hover[30 + run.misclassified_positions[0]].startswith(
        "error v000: negative, predicted positive"
    )


def test_too_many_points_are_sampled_and_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "MOST", 20)
    projection = project(run, FEATURES)
    points = build_points(run, projection)
    assert len(points.numbers) == 20 == len(points.hover) and points.left_out == 34
    assert (
        np.array_equal(points.places, projection.places[points.numbers])
        and (np.diff(points.numbers) > 0).all()
    )


@pytest.mark.parametrize(("by", "column"), [(LABEL, "label"), (PREDICTED, "predicted")])
def test_colours_are_those_of_classes(run: Run, by: str, column: str) -> None:
    points = build_points(run, project(run, FEATURES))
    found = colours(run, points, by)
    assert found.groups is not None
    assert [found.names[group] for group in found.groups] == [
        run.classes[number] for number in run.items[column]
    ]


def test_of_many_classes_the_commonest_have_colours(tmp_path: Path) -> None:
    run = Run(FakeRun(classes=[f"c{number}" for number in range(13)], train=100).write(tmp_path))
    found = colours(run, build_points(run, project(run, FEATURES)), LABEL)
    assert (
        found.groups is not None
        and len(found.names) == 11
        and found.names[-1] == "other classes"
        and found.groups.max() == 10
    )


def test_self_influence_colours_training_items_alone(run: Run) -> None:
    found = colours(run, build_points(run, project(run, FEATURES)), SELF)
    assert (
        found.values is not None
        and np.array_equal(found.values[:30], run.influence.self_influence)
        and np.isnan(found.values[30:]).all()
    )


def test_the_figure_has_every_point_once_with_its_number_and_shape(run: Run) -> None:
    points = build_points(run, project(run, FEATURES))
    for by in (LABEL, SELF):
        figure = map_figure(points, colours(run, points, by), None)
        drawn = {
            int(number): trace.marker.symbol for trace in figure.data for number in trace.customdata
        }
        assert drawn == {
            int(number): SYMBOLS[kind]
            for number, kind in zip(points.numbers, points.kinds, strict=True)
        }
        assert sum(len(trace.x) for trace in figure.data) == 54
    shown = map_figure(points, colours(run, points, LABEL), narrowed_items(run, "submarine"))
    chosen = {
        int(trace.customdata[place]) for trace in shown.data for place in trace.selectedpoints
    }
    assert chosen == set(np.flatnonzero(narrowed(run, "submarine", ANY)).tolist())


def narrowed_items(run: Run, words: str) -> np.ndarray:
    return np.append(narrowed(run, words, ANY), np.zeros(len(run.validation), bool))


def test_hostile_texts_are_escaped_in_the_figure(tmp_path: Path) -> None:
    run = Run(FakeRun(texts=HOSTILE, classes=("<b>neg</b>", "pos")).write(tmp_path))
    points = build_points(run, project(run, FEATURES))
    figure = map_figure(points, colours(run, points, LABEL), None)
    told = " ".join(
        [
            *(trace.name for trace in figure.data),
            *(text for trace in figure.data for text in trace.hovertext),
        ]
    )
    assert "<" not in told and "&lt;b&gt;neg" in told


# Groups


def test_what_is_chosen_meets_every_condition_that_is_given(run: Run) -> None:
    assert (
        choose_group(run, (), " ", ANY, False) is None
        and choose_group(run, (), "zeppelin", ANY, False) is None
    )
    words, label = narrowed(run, "Submarine", ANY), narrowed(run, "", "positive")
    assert (
        words.sum() == sum("submarine" in text for text in run.train["text"])
        and label.tolist() == (run.train["label"] == 1).tolist()
    )
    drawn = {*range(20), 31, 40}
    both, area = (
        choose_group(run, drawn, "submarine", "positive", False),
        choose_group(run, drawn, "", ANY, False),
    )
    assert (
        both is not None
        and both.group.instances.tolist() == np.flatnonzero((words & label)[:20]).tolist()
    )
    assert (
        area is not None
        and area.group.instances.tolist() == list(range(20))
        and area.validation == 2
    )
    assert choose_group(run, {31, 40}, "", ANY, False) is None


def test_only_what_was_drawn_around_by_influences_has_no_random_group(run: Run) -> None:
    for drawn, by_influence, ranked in (
        ({1, 2}, True, True),
        ({1, 2}, False, False),
        ((), True, False),
    ):
        chosen = choose_group(run, drawn, "", "positive" if not drawn else ANY, by_influence)
        assert chosen is not None and chosen.group.ranked is ranked


def test_sums_and_members_are_those_of_the_chosen_loss(run: Run) -> None:
    error = error_items(run, with_influence=True)[2]
    chosen = choose_group(run, {3, 8, 9}, "", ANY, False)
    assert chosen is not None
    for losses in (losses_of(run, error), MeanMistake(run)):
        row = sums_of(losses, chosen)
        assert (
            row.size == 3
            and row.prediction == losses.sums([chosen.group], "prediction")[0]
            and row.truth == losses.sums([chosen.group], "truth")[0]
        )
        members = members_of(run, chosen, losses)
        sizes = [abs(member.influence or 0) for member in members]
        assert sizes == sorted(sizes, reverse=True) and {member.id for member in members} == {
            "t003",
            "t008",
            "t009",
        }
        assert {member.influence for member in members} == {
            float(losses.items["prediction"][place]) for place in (3, 8, 9)
        }
    assert [member.id for member in members_of(run, chosen, None)] == ["t003", "t008", "t009"]


def test_the_table_of_members_ends_somewhere(tmp_path: Path) -> None:
    run = Run(FakeRun(train=500).write(tmp_path))
    chosen = choose_group(run, set(range(400)), "", ANY, False)
    assert (
        chosen is not None
        and len(chosen.group.instances) == 400
        and len(members_of(run, chosen, None)) == LISTED
    )


# The page


def test_the_page_opens_with_nothing_chosen(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_page("map")
    (chart,) = app.get("plotly_chart")
    assert app.title[
        0
    ].value == "Map" and "Map of 54 items by their features, coloured by label" in str(chart.proto)
    assert "Draw around points on the map" in html_of(app) and not app.dataframe
    assert "these two directions hold" in html_of(app)


def test_a_group_is_chosen_without_a_mouse_and_kept_in_the_url(
    open_page: OpenPage, runs: Path
) -> None:
    run = Run(FakeRun().write(runs))
    app = open_page("map", containing="submarine", **{"of-class": "positive"})
    count = int((narrowed(run, "submarine", "positive")).sum())
    assert (
        count and f"{count} training item" in html_of(app) and len(app.dataframe[0].value) == count
    )
    assert "mean over 8 errors" in html_of(app) and "random:" in html_of(app)
    error = error_items(run, with_influence=True)[1]
    app.selectbox(key="target").select(error.id).run()
    chosen = choose_group(run, (), "submarine", "positive", False)
    assert (
        chosen is not None
        and f"± {rounded(sums_of(losses_of(run, error), chosen).truth.std_error or 0)}"
        in html_of(app)
    )
    assert ("Open error 2", {"run": ["fake"], "item": [error.id]}) in links(app)
    app.text_input(key="containing").set_value("zeppelin").run()
    assert "No training item is chosen" in html_of(app) and not app.dataframe


def test_the_url_holds_places_colours_and_target(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_page("map", places=INFLUENCES, colour=SELF, target="v003")
    assert [app.selectbox(key=key).value for key in ("places", "colour", "target")] == [
        INFLUENCES,
        SELF,
        "v003",
    ]
    (chart,) = app.get("plotly_chart")
    assert "Map of 30 items by their influences, coloured by self-influence" in str(chart.proto)
    assert open_page("map", places="nowhere", target="nobody").selectbox(key="target").value == ALL


def test_without_influence_there_is_a_map_of_features(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun(influence=False).write(runs)
    app = open_page("map", places=INFLUENCES, colour=SELF, containing="submarine")
    assert (
        app.code[0].value == f"turnover influence --run {folder}"
        and "so places are by features and colours by label" in html_of(app)
    )
    assert "Map of 54 items by their features, coloured by label" in str(
        app.get("plotly_chart")[0].proto
    )
    assert "influence" not in app.dataframe[0].value.columns and not [
        box for box in app.selectbox if box.key == "target"
    ]


def test_kept_ends_say_what_to_do_and_show_the_rest(open_page: OpenPage, runs: Path) -> None:
    keep_ends(FakeRun().write(runs), 4)
    app = open_page("map", places=INFLUENCES, containing="submarine")
    assert "Influences make no map here" in html_of(
        app
    ) and "Map of 54 items by their features" in str(app.get("plotly_chart")[0].proto)
    assert "Influences cannot be summed" in html_of(app) and len(app.dataframe[0].value)


def test_a_run_without_errors_or_with_one_member(open_page: OpenPage, runs: Path) -> None:
    FakeRun("right", errors=False).write(runs)
    app = open_page("map", run="right", containing="submarine")
    assert "no error has influences" in html_of(app) and len(app.dataframe[0].value)
    FakeRun("single", members=1).write(runs)
    shown = html_of(open_page("map", run="single", containing="submarine"))
    assert "error not known" in shown and "nan" not in shown


def test_images_are_chosen_by_class(open_page: OpenPage, runs: Path) -> None:
    FakeRun(kind="image", classes=tuple("0123456789")).write(runs)
    app = open_page("map", **{"of-class": "7"})
    assert not [box for box in app.text_input if box.key == "containing"]
    assert set(app.dataframe[0].value["label"]) == {"7"} and app.dataframe[0].value["content"].iloc[
        0
    ].startswith("data:image/png")


def test_another_run_forgets_what_was_chosen(open_page: OpenPage, runs: Path) -> None:
    FakeRun("one").write(runs)
    FakeRun("two", kind="image", classes=("cat", "dog")).write(runs)
    app = open_page(
        "map", run="one", containing="submarine", target="v003", **{"of-class": "positive"}
    )
    app.selectbox(key="run").select("two").run()
    assert (
        not app.exception
        and app.selectbox(key="target").value == ALL
        and app.selectbox(key="of-class").value == ANY
    )
    assert "Draw around points" in html_of(app)


def test_hostile_texts_and_class_names_stay_text(open_page: OpenPage, runs: Path) -> None:
    FakeRun(texts=HOSTILE, classes=("<b>neg</b>", ":red[pos] [x](http://evil.example)")).write(runs)
    app = open_page(
        "map", containing="<script>", **{"of-class": ":red[pos] [x](http://evil.example)"}
    )
    shown = html_of(app)
    assert (
        "<script" not in shown
        and "<img src=x" not in shown
        and "<b>" not in shown
        and len(app.dataframe[0].value)
    )
    said = [
        element.value
        for kind in ("markdown", "caption", "title", "header", "error", "info", "warning")
        for element in app.get(kind)
    ]
    assert said == ["Map"]
