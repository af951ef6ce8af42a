"""Training data: which items are shown and in which order, decisions on many, one item in detail,
and the map.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.fake_jobs import at_work, fake_job
from tests.helpers.fake_runs import HOSTILE, FakeRun, keep_ends
from tests.helpers.kept_things import a_proof
from tests.pages.app_testing import OpenPage, explorer, html_of
from turnover.dashboard.shared.component import Tab
from turnover.dashboard.training_data.browse_view import (
    DATA,
    DOUBT,
    HARM,
    LEAST,
    SORTS,
    STEP,
    UNUSUAL,
    Place,
    Training,
    chunks,
    place_of,
    select,
)
from turnover.dashboard.training_data.browser import Browser, hear
from turnover.dashboard.training_data.map_view import build_points, principal
from turnover.dashboard.training_data.message_view import Act, Message, read_message
from turnover.dashboard.training_data.panel_view import panel
from turnover.explain.doubt import Doubt
from turnover.explain.explanation import error_items
from turnover.flags import Flags
from turnover.flags.export import errors_of
from turnover.runs.proofs import keep_proof
from turnover.runs.run import Run

pytestmark = pytest.mark.usefixtures("fresh")
SUSPECTS = {4: Doubt("positive", 0.9), 7: Doubt("negative", 0.55), 20: Doubt("positive", 0.97)}


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training.of(Run(FakeRun().write(tmp_path)), SUSPECTS, with_influence=True)


# The list


def test_doubtful_labels_come_first_the_surest_before_others_and_then_what_is_unusual(
    training: Training,
) -> None:
    order = select(training, Place(sort=DOUBT), {}).tolist()
    assert order[:3] == [20, 4, 7] and sorted(order) == list(range(30))
    rest = training.run.influence.self_influence[order[3:]]
    assert (np.diff(rest) <= 0).all()


def test_the_other_orders_are_by_what_they_say(training: Training) -> None:
    influence = training.run.influence
    for sort, values in (
        (UNUSUAL, -influence.self_influence),
        (HARM, influence.mean_influence[0]),
        (DATA, np.arange(30)),
    ):
        assert (np.diff(values[select(training, Place(sort=sort), {})]) >= 0).all()
    none = Training.of(training.run, {}, with_influence=False)
    assert {len(select(none, Place(sort=sort), {})) for sort in SORTS} == {30}


def test_filters_narrow_by_class_word_id_and_flag(training: Training, tmp_path: Path) -> None:
    flags = Flags(training.run.folder)
    flags.put(3, "drop")
    flags.put(5, "keep")
    known, frame = flags.current(), training.run.train
    labels, word = frame["label"].to_numpy(), str(frame["text"].iloc[9]).lower()
    wanted = {
        Place(label="positive"): labels == training.run.classes.index("positive"),
        Place(flagged="any"): np.isin(range(30), [3, 5]),
        Place(flagged="none"): ~np.isin(range(30), [3, 5]),
        Place(flagged="drop"): np.isin(range(30), [3]),
        Place(search=f" {word.upper()} "): frame["text"].str.lower().str.contains(word).to_numpy(),
        Place(search=str(frame["id"].iloc[8])): np.arange(30) == 8,
    }
    for place, mask in wanted.items():
        assert (
            mask.any() and sorted(select(training, place, known)) == np.flatnonzero(mask).tolist()
        )


def test_an_address_says_what_it_can_and_the_rest_is_usual() -> None:
    said = {
        "view": "list",
        "sort": "harm",
        "label": "b",
        "least": "70",
        "search": "x",
        "item": "t1",
    }
    place = place_of(said, ["a", "b"])
    assert {name: getattr(place, name) for name in said} == said
    wrong = dict.fromkeys(said, "nonsense") | {"least": "7", "item": "t1"}
    assert place_of(wrong, ["a"]) == Place(search="nonsense", item="t1")
    assert place_of({"train": "t2", "view": 3}, []) == Place(item="t2")
    assert 50 <= int(LEAST) <= 100


def test_a_window_of_rows_is_sent(open_page: OpenPage, runs: Path) -> None:
    FakeRun(train=5000, validation=12, members=2).write(runs)
    data = explorer(open_page("training", item="t2500", sort="data"))
    assert (len(data["order"]), data["index"], data["item"]) == (5000, 2500, "t2500")
    assert (
        sorted(map(int, data["chunks"])) == sorted(chunks(2500, 5000)) and len(data["chunks"]) == 3
    )
    rows = [row for chunk in data["chunks"].values() for row in chunk]
    assert len(rows) == 3 * STEP and {"t2499", "t2500"} <= {row["id"] for row in rows}
    assert data["panels"][0]["id"] == "t2500" and len(data["panels"]) == 3


# Decisions


def message(browser: Browser, acts: list[dict[str, Any]], **said: Any) -> Message:
    raw = {"client": "tab", "stamp": "s", "place": vars(browser.place), "index": 0, "rows": ""}
    raw |= {"chunks": [], "panels": [], "selected": [], "map": "", "peek": -1, "acts": acts}
    read = read_message({**raw, **said}, ["negative", "positive"], 30, 54)
    assert read
    return read


def hear_all(training: Training, browser: Browser, *acts: dict[str, Any]) -> dict[int, Any]:
    numbered = [{"number": number, **act} for number, act in enumerate(acts, start=1)]
    hear(browser, message(browser, numbered), training, lambda item: f"no proof of {item}")
    flags = Flags(training.run.folder).current()
    return {position: flag.verdict for position, flag in flags.items()}


def test_many_are_decided_on_in_one_step_and_taken_back_in_one(training: Training) -> None:
    browser = Browser("fake")
    drop = {"kind": "drop", "positions": [1, 2, 3]}
    accept = {"kind": "accept", "positions": [3, 4, 7, 9]}
    assert hear_all(training, browser, drop) == dict.fromkeys((1, 2, 3), ("drop", ""))
    proposed = {4: ("relabel", "positive"), 7: ("relabel", "negative")}
    stored = hear_all(training, browser, drop, accept)
    assert stored == dict.fromkeys((1, 2, 3), ("drop", "")) | proposed, "9 has no proposal"
    assert len(browser.steps) == 2
    undo = {"kind": "undo"}
    assert hear_all(training, browser, drop, accept, undo) == dict.fromkeys((1, 2, 3), ("drop", ""))
    assert hear_all(training, browser, drop, accept, undo, undo) == {}
    hear_all(training, browser, drop, accept, undo, undo, undo)
    assert "nothing to undo" in browser.problem


def test_only_flagged_items_are_cleared_and_a_relabel_has_its_class(training: Training) -> None:
    browser = Browser("fake")
    relabel = {"kind": "relabel", "positions": [5], "label": 1}
    assert hear_all(training, browser, relabel) == {5: ("relabel", "positive")}
    clear = {"kind": "clear", "positions": [5, 6]}
    assert hear_all(training, browser, relabel, clear) == {}
    assert not Flags(training.run.folder).history(6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"acts": [{"number": 1, "kind": "drop", "positions": [30]}]},
        {"acts": [{"number": 1, "kind": "drop", "positions": [-1]}]},
        {"acts": [{"number": 1, "kind": "explode", "positions": [1]}]},
        {"acts": [{"number": 1, "kind": "relabel", "positions": [1], "label": 2}]},
        {"selected": [30]},
        {"peek": 54},
        {"place": {"view": 3}},
        {"chunks": "all"},
    ],
)
def test_a_message_that_is_none_is_not_heard(wrong: dict[str, Any]) -> None:
    browser = Browser("fake")
    good = {**message(browser, []).model_dump(), "acts": []}
    assert read_message(good, ["a", "b"], 30, 54)
    assert read_message({**good, **wrong}, ["a", "b"], 30, 54) is None
    assert read_message(None, ["a", "b"], 30, 54) is None


def test_a_tab_that_begins_anew_counts_from_one() -> None:
    tab, heard = Tab("run"), []
    for client, number in (("a", 1), ("a", 1), ("a", 2), ("b", 1)):
        act = Act(number=number, kind="keep", positions=[])
        tab.take(client, [act], lambda one: heard.append(one.number) or "")
    assert heard == [1, 2, 1]


# One item


def test_a_panel_shows_whom_it_helps_and_hurts_its_curve_neighbours_and_proposal(
    training: Training,
) -> None:
    run = training.run
    taught = errors_of(run)
    position = max(taught, key=lambda at: len(taught[at]))
    training = replace(training, suspects={position: Doubt("positive", 0.9)})
    errors = [one for one in error_items(run, with_influence=True) if one.id in taught[position]]
    shown = panel(training, position, errors, with_influence=True)
    assert shown["position"] == position and shown["doubt"]["chance"] == "90%"
    assert "Proposed: “positive”" in shown["evidence"]
    assert all(one["hover"].startswith("+") for one in shown["helps"])
    assert all(one["hover"].startswith("-") for one in shown["hurts"])
    assert [one["id"] for one in shown["taught"]] == [one.id for one in errors][:6]
    losses = run.array("item_losses")[:, :, position]
    assert shown["curve"]["learned"] == pytest.approx(losses[0], abs=1e-4)
    assert shown["curve"]["not"] == pytest.approx(losses[1], abs=1e-4)
    assert len(shown["neighbours"]) == 5
    assert position not in {one["position"] for one in shown["neighbours"]}


def test_a_panel_tells_who_decided_what_and_what_retraining_showed(
    open_page: OpenPage, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Undone decisions, too; a proof of others beside it is none of this item alone."""
    run = Run(FakeRun().write(runs))
    position, (error, *_) = next(iter(errors_of(run).items()))
    flags = Flags(run.folder, by="<b>Ann")
    flags.put(position, "drop", note="why <i>")
    flags.undo()
    flags.put(position, "keep")
    at = run.validation["id"].tolist().index(error)
    keep_proof(run, replace(a_proof(), error=at, items=(position,)))
    keep_proof(run, replace(a_proof(), error=at + 1))
    item = str(run.item("train", position)["id"])
    data = explorer(open_page("training", item=item))
    said, taught = data["told"], [error["id"] for error in data["panels"][0]["taught"]]
    assert re.fullmatch("keep: <b>Ann, 20[0-9: -]+ UTC", said["history"][0])
    assert re.fullmatch("drop: <b>Ann, 20[0-9: -]+ UTC, undone · why <i>", said["history"][1])
    assert list(said["proofs"]) == [error] and not said["proving"]
    assert said["proofs"][error]["verdict"] == "confirmed"
    assert "interval" in said["proofs"][error]["hover"]
    step = ["prove", "--run", str(run.folder)]
    step += [word for one in taught for word in ("--error", one)]
    with at_work(fake_job(runs, [[*step, "--items", item]], begun=True)):
        app = open_page("training", item=item)
        assert explorer(app)["told"]["proving"]
        assert "Cancel" in [button.label for button in app.button]


def test_a_proof_is_begun_of_the_item_that_is_named(training: Training) -> None:
    browser = Browser("fake")
    assert hear_all(training, browser, {"kind": "prove", "positions": [5]}) == {}
    assert browser.problem == "no proof of 5"


def test_ranks_are_in_words(training: Training) -> None:
    run = training.run
    first = int(run.influence.self_influence.argmax())
    worst = int(run.influence.mean_influence[0].argmin())
    said = panel(training, first, [], True)["facts"]
    assert said[0][0] == "Most unusual of 30." and "nats" in said[0][1]
    assert panel(training, worst, [], True)["facts"][1][0] == "On the whole it hurts: most harmful."


def test_a_run_without_influence_shows_what_it_knows(open_page: OpenPage, runs: Path) -> None:
    FakeRun(influence=False).write(runs)
    app = open_page("training", item="t003")
    (first, *_) = explorer(app)["panels"]
    assert first["helps"] == first["hurts"] == first["taught"] == [] and first["curve"]["alt"]
    assert "No influence yet" in html_of(app)


def test_kept_ends_say_how_many_are_known(tmp_path: Path) -> None:
    folder = FakeRun().write(tmp_path)
    keep_ends(folder, 4)
    run = Run(folder)
    shown = panel(Training.of(run, {}, True), 0, [], True)
    assert shown["known"].startswith("Known for ") and "of 24" in shown["known"]


# The page


def test_the_address_names_run_item_and_filters(open_page: OpenPage, runs: Path) -> None:
    FakeRun("one").write(runs)
    FakeRun("two", kind="image", classes=("cat", "dog")).write(runs)
    data = explorer(open_page("training", run="two", label="dog", item="t003"))
    assert data["run"] == "two" and data["panels"][0]["id"] == "t003"
    shown = {row["label"] for chunk in data["chunks"].values() for row in chunk}
    assert shown == {"dog"} and data["place"]["label"] == "dog"
    lost = explorer(open_page("training", run="two", item="<b>nothing"))
    assert "“<b>nothing” is not among the training items" in lost["lost"] and not lost["panels"]


def test_nothing_matches(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    data = explorer(open_page("training", search="no such word"))
    assert data["order"] == [] and data["chunks"] == {}


def test_hostile_texts_and_class_names_are_data_and_nothing_else(
    open_page: OpenPage, runs: Path
) -> None:
    FakeRun(texts=HOSTILE, classes=("<b>neg</b>", ":red[pos] [x](http://evil.example)")).write(runs)
    for query in ({"view": "map"}, {"item": "t003"}):
        app = open_page("training", **query)
        (component,) = app.get("bidi_component")
        code = (component.proto.html_content, component.proto.css_content)
        assert not any("<b>" in part or "evil" in part for part in code)
        assert "<script" not in html_of(app) and "<b>" not in html_of(app)


def test_selected_items_are_summed_beside_a_random_group(open_page: OpenPage, runs: Path) -> None:
    run = Run(FakeRun().write(runs))
    app = open_page("training")
    browser = app.session_state["browsed"]
    browser.heard = message(browser, [], selected=[1, 2, 3])
    app.session_state["together"] = True
    app.run()
    assert not app.exception and "Selected" in html_of(app) and "random group" in html_of(app)
    assert f"mean over {len(run.influence.misclassified)} errors" in html_of(app)


# The map


def test_components_are_those_of_the_covariance_and_fixed_in_sign() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 5)) * [5, 3, 1, 1, 1]
    found = principal(rows)
    _, _, axes = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    axes *= np.sign(axes[range(5), np.abs(axes).argmax(1)])[:, None]
    assert np.allclose(found.places, (rows - rows.mean(0)) @ axes[:2].T)
    assert found.share == pytest.approx(
        np.sort(np.linalg.eigvalsh(np.cov(rows.T)))[-2:].sum() / np.trace(np.cov(rows.T))
    )


def test_the_map_holds_training_items_and_errors_within_its_bounds(training: Training) -> None:
    run, rng = training.run, np.random.default_rng(0)
    errors = run.misclassified_positions
    points = build_points(training, principal(rng.normal(size=(54, 4))), "name")
    assert points["items"] == [*range(30), *[-1] * len(errors)] and points["first"] == 30
    assert points["errors"] == [str(run.item("validation", error)["id"]) for error in errors]
    for axis in ("x", "y"):
        assert min(points[axis]) == 0 and max(points[axis]) == 1000
    own = build_points(training, principal(rng.normal(size=(30, 4))), "name")
    assert own["items"] == list(range(30)) and own["errors"] == []
