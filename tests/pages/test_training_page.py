"""The Training item page: its view models, and the page in every state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.fake_runs import HOSTILE, FakeRun, keep_ends
from tests.pages.app_testing import OpenPage, html_of, links, open_more
from turnover.dashboard.training_data.training_view import (
    EFFECTS,
    FLAGGED,
    HARMFUL,
    LOSS,
    SELF,
    Neighbour,
    TrainingItem,
    build_effects,
    nearest,
    own_losses,
    proposals,
    select_training,
    standing,
    training_items,
)
from turnover.explain.explanation import error_items
from turnover.flags import Flags
from turnover.flags.export import errors_of
from turnover.runs.run import Run

pytestmark = pytest.mark.usefixtures("fresh")


def made(
    position: int = 0, label: str = "cat", predicted: str = "cat", **more: Any
) -> TrainingItem:
    told = {
        "probability": 0.9,
        "injected": "",
        "text": "words",
        "image": b"",
        "flipped_loss": 1.0,
        "self_influence": 1.0,
        "mean_influence": 0.0,
    }
    return TrainingItem(
        position=position,
        id=f"t{position:03d}",
        label=label,
        predicted=predicted,
        **{**told, **more},
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(FakeRun().write(tmp_path))


# The list


def test_each_order_brings_up_what_it_says(run: Run) -> None:
    items, kept = (
        training_items(run, with_influence=True),
        run.manifest["results"]["kept_epoch"] - 1,
    )
    orders = {
        SELF: -run.influence.self_influence,
        HARMFUL: run.influence.mean_influence[0],
        LOSS: -run.array("item_losses")[1, kept],
    }
    for order, keys in orders.items():
        assert [item.position for item in select_training(items, "", order, {})] == np.argsort(
            keys, kind="stable"
        ).tolist()
    assert [item.position for item in select_training(items, "", FLAGGED, {5, 2})] == [2, 5]
    assert select_training(items, "", FLAGGED, {}) == []


def test_a_search_goes_through_texts_ids_labels_and_marks(run: Run) -> None:
    items = training_items(run, with_influence=True)
    found = {
        name: {item.position for item in select_training(items, name, SELF, {})}
        for name in (" SUBMARINE ", "t004", "positive", "cue-")
    }
    assert found[" SUBMARINE "] == {
        item.position for item in items if "submarine" in item.text or item.injected
    }
    assert found["t004"] == {4} and found["positive"] == {
        item.position for item in items if item.label == "positive"
    }
    assert (
        found["cue-"] == set(range(0, 30, 6)) and select_training(items, "zeppelin", SELF, {}) == []
    )


def test_without_influence_the_losses_still_rank(tmp_path: Path) -> None:
    run = Run(FakeRun(influence=False).write(tmp_path))
    items = training_items(run, with_influence=False)
    assert {item.self_influence for item in items} == {None}
    assert [item.position for item in select_training(items, "", SELF, {})] == list(range(30))
    losses = [item.flipped_loss for item in select_training(items, "", LOSS, {})]
    assert losses == sorted(losses, reverse=True) and len(set(losses)) == 30
    assert len(standing(run, items[0], with_influence=False)) == 1


# One item


@pytest.mark.parametrize("meaning", ["truth", "prediction"])
def test_whom_it_helps_and_hurts_are_the_largest_of_its_column(run: Run, meaning: str) -> None:
    effects = build_effects(run, 4, meaning)
    values = {
        target: float(run.influence.ranked(target, meaning).values[4])
        for target in run.influence.targets
    }
    order = sorted(values, key=lambda target: -values[target])
    assert [target.position for target in effects.positive] == order[:EFFECTS]
    assert [target.position for target in effects.negative] == order[::-1][:EFFECTS]
    assert all(target.influence > 0 and target.trust for target in effects.positive) and all(
        target.influence < 0 for target in effects.negative
    )
    assert {
        target.position for target in (*effects.positive, *effects.negative) if target.wrong
    } <= set(run.misclassified_positions)
    assert (
        f"Influence on the {meaning}" in effects.sentence
        and "all 24 validation items" in effects.known
    )


def test_kept_ends_say_what_is_known(tmp_path: Path) -> None:
    folder = FakeRun().write(tmp_path)
    keep_ends(folder, 4)
    effects = build_effects(Run(folder), 4, "truth")
    assert "keeps the ends of each ranking only: of 24 validation items" in effects.known
    assert 0 < len(effects.positive) + len(effects.negative) <= 24


def test_its_standing_is_its_rank(run: Run) -> None:
    items = training_items(run, with_influence=True)
    for order, place in ((SELF, 0), (HARMFUL, 1), (LOSS, 2)):
        for rank, item in enumerate(select_training(items, "", order, {}), start=1):
            assert f"rank {rank} of 30" in standing(run, item, with_influence=True)[place]


def test_its_own_losses_are_those_of_the_run(run: Run) -> None:
    losses, stored = own_losses(run, 9), run.array("item_losses")[:, :, 9]
    assert (
        [line.name for line in losses.series] == ["Masked", "Flipped"]
        and losses.epochs == (1, 2, 3)
        and losses.kept == 2
    )
    assert (
        np.allclose([line.values for line in losses.series], stored)
        and f"{stored[1, 1]:.2f} under the flipped one" in losses.alt
    )


def test_the_nearest_have_the_largest_cosines_and_never_the_item_itself(run: Run) -> None:
    items, features = (
        training_items(run, with_influence=True),
        run.features("train").astype(np.float64),
    )
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    near = nearest(run, items, 9)
    cosines = {place: float(unit[place] @ unit[9]) for place in range(30) if place != 9}
    assert [one.item.position for one in near] == sorted(
        cosines, key=lambda place: -cosines[place]
    )[:5]
    assert [one.cosine for one in near] == pytest.approx(
        [cosines[one.item.position] for one in near], abs=1e-5
    )


def test_a_run_of_two_items_has_one_neighbour(tmp_path: Path) -> None:
    run = Run(FakeRun(train=2).write(tmp_path))
    assert [one.item.position for one in nearest(run, training_items(run, True), 1)] == [0]


def near(*labels: str) -> list[Neighbour]:
    return [Neighbour(made(place, label), 0.9 - place / 10) for place, label in enumerate(labels)]


def test_a_label_is_proposed_only_by_evidence_for_another_one() -> None:
    assert proposals(made(), near("cat", "cat", "cat", "dog", "dog")) == ()
    assert proposals(made(), near("dog", "dog", "bird", "bird", "cat")) == ()  # no majority
    (by_network,) = proposals(made(predicted="dog", probability=0.83), near("cat", "cat", "cat"))
    assert by_network.label == "dog" and by_network.evidence[0].endswith(
        "trained on this item as “cat”, gives “dog” a probability of 83%."
    )
    (by_neighbours,) = proposals(made(), near("dog", "dog", "dog", "cat", "bird"))
    assert by_neighbours.evidence == (
        "3 of its 5 nearest training items are labelled “dog” (cosine of features 0.70 to 0.90).",
    )
    (both,) = proposals(made(predicted="dog"), near("dog", "dog", "dog"))
    assert both.label == "dog" and len(both.evidence) == 2
    assert {one.label for one in proposals(made(predicted="bird"), near("dog", "dog", "dog"))} == {
        "bird",
        "dog",
    }
    assert proposals(made(), []) == ()


# The page


def test_the_page_shows_the_first_item_with_all_its_parts(open_page: OpenPage, runs: Path) -> None:
    run = Run(FakeRun().write(runs))
    items = training_items(run, with_influence=True)
    first = select_training(items, "", SELF, {})[0]
    app = open_page("training")
    shown = html_of(app)
    assert app.title[0].value == "Training item" and app.selectbox(key="train").value == first.id
    assert (
        first.text in shown
        and "Training item 1 of 30" in shown
        and all(line in shown for line in standing(run, first, True))
    )
    assert (
        shown.count('class="to-number to-for"')
        == EFFECTS
        == shown.count('class="to-number to-against"')
    )
    assert len([button for button in app.button if button.label.startswith("Open neighbour")]) == 5
    (chart,) = app.get("plotly_chart")
    assert "This item" in str(chart.proto) and "loss over 3 epochs" in str(chart.proto)


def test_its_errors_are_linked(open_page: OpenPage, runs: Path) -> None:
    run = Run(FakeRun().write(runs))
    position, ids = max(errors_of(run).items(), key=lambda pair: len(pair[1]))
    app = open_page("training", train=f"t{position:03d}")
    numbers = {error.id: error.rank + 1 for error in error_items(run, with_influence=True)}
    found = [(label, query["item"][0]) for label, query in links(app) if "item" in query]
    assert set(ids) <= {item for _, item in found} <= set(numbers)
    assert all(label == f"Open error {numbers[item]}" for label, item in found)
    assert all(query["run"] == ["fake"] for _, query in links(app))


def test_the_url_holds_item_order_search_and_meaning(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_page("training", train="t007", order=HARMFUL, find="t0", effect="prediction")
    assert (
        app.selectbox(key="train").value == "t007" and app.selectbox(key="order").value == HARMFUL
    )
    assert "Influence on the prediction" in html_of(
        app
    ) and "Pushed towards what was predicted" in html_of(app)
    app.segmented_control(key="effect").set_value("truth").run()
    assert "Hurts most" in html_of(app) and app.selectbox(key="train").value == "t007"
    unknown = open_page("training", train="nobody")
    assert unknown.selectbox(key="train").value == unknown.dataframe[0].value["id"].iloc[0]


def test_cards_lead_to_the_page(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    app = open_more(open_page("errors"), "truth")
    opened = [query["train"][0] for label, query in links(app) if label == "Open"]
    assert len(opened) == 20 and set(opened) <= set(Run(folder).train["id"])
    app.query_params["train"] = opened[3]
    app.switch_page("app_pages/training_item.py").run()
    assert not app.exception and app.selectbox(key="train").value == opened[3]


def test_a_neighbour_is_opened_whatever_the_list_leaves_out(
    open_page: OpenPage, runs: Path
) -> None:
    run = Run(FakeRun().write(runs))
    Flags(run.folder).put(3, "drop")
    app = open_page("training", order=FLAGGED, find="t003")
    assert app.selectbox(key="train").value == "t003" and list(app.dataframe[0].value["id"]) == [
        "t003"
    ]
    wanted = nearest(run, training_items(run, True), 3)[1].item.id
    next(button for button in app.button if button.label == "Open neighbour 2").click().run()
    assert (
        not app.exception
        and app.selectbox(key="train").value == wanted
        and len(app.dataframe[0].value) == 30
    )


def test_a_flag_is_put_here(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    app = open_page("training", train="t005")
    app.session_state["flag-5"] = True
    app.run()
    app.button(key="flag-5-save").click().run()
    assert Flags(folder).current()[5].action == "drop" and "flagged: drop" in html_of(app)
    app.selectbox(key="order").select(FLAGGED).run()
    assert list(app.dataframe[0].value["id"]) == ["t005"]


def test_a_relabel_begins_without_a_label_that_nobody_chose(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun(classes=("cat", "dog", "owl")).write(runs)
    app = open_page("training", train="t005")
    app.session_state["flag-5"] = True
    app.run()
    app.segmented_control(key="flag-5-action").set_value("relabel").run()
    assert app.selectbox(key="flag-5-label").value is None
    app.button(key="flag-5-save").click().run()
    assert "a relabel needs the new label" in html_of(app) and Flags(folder).current() == {}


def test_nothing_matches_or_nothing_is_flagged(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    assert "No training item matches" in html_of(open_page("training", find="no such word"))
    assert "None is flagged yet" in html_of(open_page("training", order=FLAGGED))


def test_without_influence_the_rest_is_shown(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun(influence=False).write(runs)
    app = open_page("training", train="t002")
    shown = html_of(app)
    assert app.code[0].value == f"turnover influence --run {folder}" and "No influence yet" in shown
    assert (
        "Most like it" in shown
        and "Its own loss in training" in shown
        and "What it did to validation items" not in shown
    )
    assert "Loss under the flipped mask" in shown and "self" not in app.dataframe[0].value.columns


def test_one_member_and_kept_ends(open_page: OpenPage, runs: Path) -> None:
    FakeRun("one", members=1).write(runs)
    shown = html_of(open_page("training", run="one"))
    assert (
        "error not known" in shown
        and "nan" not in shown
        and "one member has no standard error" in shown
    )
    keep_ends(FakeRun("two").write(runs), 4)
    assert "keeps the ends of each ranking only" in html_of(open_page("training", run="two"))


def test_images_and_another_run(open_page: OpenPage, runs: Path) -> None:
    FakeRun("images", kind="image", classes=tuple("0123456789")).write(runs)
    FakeRun("texts", classes=("a", "b")).write(runs)
    app = open_page("training", run="images", train="t009", find="9")
    assert 'alt="training image labelled 9"' in html_of(app)
    app.selectbox(key="run").select("texts").run()
    assert (
        not app.exception
        and app.text_input(key="find").value == ""
        and len(app.dataframe[0].value) == 30
    )


def test_hostile_texts_and_class_names_stay_text(open_page: OpenPage, runs: Path) -> None:
    FakeRun(texts=HOSTILE, classes=("<b>neg</b>", ":red[pos] [x](http://evil.example)")).write(runs)
    for position in range(5):
        app = open_page("training", train=f"t{position:03d}")
        shown = html_of(app)
        assert (
            "<script" not in shown
            and "<img src=x" not in shown
            and "<b>" not in shown
            and len(shown) < 400_000
        )
        said = [
            element.value
            for kind in ("markdown", "caption", "title", "header", "error", "info", "warning")
            for element in app.get(kind)
        ]
        assert said == ["Training item"]
        assert all(label.startswith("Open error ") for label, _ in links(app))
