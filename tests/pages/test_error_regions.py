"""Regions of an error's image: what its proponents' influence falls by without each patch, and the
Errors page in every state.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from streamlit.testing.v1 import AppTest
from test_try_page import settle

from tests.helpers.fake_runs import FakeRun
from tests.pages.app_testing import OpenPage, explorer, go_to_error, html_of, open_more
from turnover.dashboard import engine, state
from turnover.dashboard.engine import Phase
from turnover.dashboard.errors.answer_view import Question
from turnover.dashboard.errors.edits_view import InputPart
from turnover.dashboard.errors.regions import ask_each, patches_html
from turnover.dashboard.errors.regions_view import (
    Regions,
    build_regions,
    patches_of,
    regions_request,
)
from turnover.data.images import png_pixels
from turnover.errors import TurnoverError
from turnover.explain.explanation import Explanation, error_items, explain_error
from turnover.explain.parts import GRID
from turnover.runs.run import PREDICTION, TRUTH, Run
from turnover.storage.artifacts import MANIFEST, write_manifest

pytestmark = pytest.mark.usefixtures("fresh")
CELLS = GRID * GRID
IMAGES = FakeRun(kind="image", classes=("one", "two"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(IMAGES.write(tmp_path_factory.mktemp("made")))


def asked_of(
    run: Run, meaning: str = PREDICTION
) -> tuple[Question, tuple[InputPart, ...], Explanation]:
    error = error_items(run, with_influence=True)[1]
    explanation = explain_error(run, error, meaning, 2)
    return *patches_of(run, error.id, explanation.target), explanation


def regions_of(run: Run, influences: np.ndarray) -> Regions:
    return build_regions(
        *asked_of(run), 4, {"influences": influences.tolist(), "estimator": "best"}
    )


# What is asked and shown


@pytest.mark.parametrize("meaning", [PREDICTION, TRUTH])
def test_the_engine_is_asked_about_the_image_and_each_edit(run: Run, meaning: str) -> None:
    question, parts, explanation = asked_of(run, meaning)
    positions = [card.position for card in explanation.proponents]
    request = regions_request(question, parts, explanation.target, positions)
    assert request["label"] == explanation.target and request["instances"] == positions
    first, *edits = [png_pixels(base64.b64decode(image)) for image in request["images"]]
    assert first.tolist() == png_pixels(error_items(run, with_influence=True)[1].image).tolist()
    assert len(edits) == CELLS and (np.sum([edit != first for edit in edits], 0) <= 1).all()
    assert [((edit == 0) | (edit == first)).all() for edit in edits] == [True] * CELLS


@settings(deadline=None)
@given(influences=arrays(float, (1 + CELLS, 2), elements=st.floats(-50, 50)))
def test_a_fall_is_the_influence_on_the_image_less_that_on_the_edit(
    run: Run, influences: np.ndarray
) -> None:
    regions = regions_of(run, influences)
    one, other = regions.by_item.values()
    for place in range(CELLS):
        assert one.falls[place].value == influences[0, 0] - influences[1 + place, 0]
        assert other.falls[place].value == influences[0, 1] - influences[1 + place, 1]
        assert regions.together.falls[place].value == pytest.approx(
            one.falls[place].value + other.falls[place].value, abs=1e-9
        )
    assert one.whole == influences[0, 0] and [abs(fall.value) for fall in one.largest] == sorted(
        (abs(f.value) for f in one.falls if f.value), reverse=True
    )


@pytest.mark.parametrize(
    ("seconds", "asked"), [(0.0, [[0], [1, 2, 3, 4]]), (9.0, [[0], [1], [2], [3], [4]])]
)
def test_proponents_are_asked_about_one_by_one_where_one_takes_long(
    run: Run, monkeypatch: pytest.MonkeyPatch, seconds: float, asked: list[list[int]]
) -> None:
    explanation = explain_error(run, error_items(run, with_influence=True)[1], PREDICTION, 5)
    question, parts = patches_of(
        run, error_items(run, with_influence=True)[1].id, explanation.target
    )
    order = [card.position for card in explanation.proponents]
    clock = [0.0]
    monkeypatch.setattr("turnover.dashboard.errors.regions.time.monotonic", lambda: clock[0])
    about: list[list[int]] = []

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        clock[0] += seconds
        about.append([order.index(one) for one in request["instances"]])
        return {
            "influences": [
                [place + one / 100 for one in request["instances"]] for place in range(1 + CELLS)
            ],
            "estimator": "best",
        }

    reply = ask_each(question, parts, explanation, ask)
    assert about == asked and reply["influences"] == [
        [place + one / 100 for one in order] for place in range(1 + CELLS)
    ]
    assert list(build_regions(question, parts, explanation, 4, reply).by_item) == order


@pytest.mark.parametrize("reply", [{}, {"influences": 3}, {"influences": [["x"]] * (1 + CELLS)}])
def test_replies_that_cannot_be_put_together_are_said(run: Run, reply: dict[str, object]) -> None:
    with pytest.raises(TurnoverError, match="the engine's answer cannot be read"):
        ask_each(*asked_of(run), lambda _: reply)
    with pytest.raises(TurnoverError, match="as it was said"):
        ask_each(*asked_of(run), refusing)


def refusing(request: dict[str, Any]) -> dict[str, Any]:
    raise TurnoverError("as it was said")


def test_words_say_what_colours_do(run: Run) -> None:
    influences = np.ones((1 + CELLS, 2))
    influences[1 + 6, 0], influences[1 + 0, 0] = 0.59, 1.2
    one, other = regions_of(run, influences).by_item.values()
    assert (
        one.told == "row 2, column 3 (−0.410 nats); row 1, column 1 (+0.200 nats)"
        and one.rests == "rests most on row 2, column 3 (−0.410 nats)"
    )
    assert other.told == "none, no patch changes it" and other.rests == "rests on no single patch"
    drawn = patches_html("", 96, [fall.value for fall in one.falls])
    assert (
        drawn.count("<i ") == CELLS
        and drawn.count('class="to-for" style="opacity:0.75"') == 1
        and 'class="to-against" style="opacity:0.37"' in drawn
    )
    assert "opacity:0.75" not in patches_html("", 96, [fall.value for fall in other.falls])


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"influences": [[1, 2]], "estimator": "best"},
        {"influences": [[1, 2]] * CELLS + [[1, float("nan")]], "estimator": "best"},
        {"influences": [[1, 2]] * CELLS + [["x", 1]], "estimator": "best"},
        {"influences": [[1, 2]] * (1 + CELLS)},
    ],
)
def test_a_reply_that_cannot_be_is_said(run: Run, reply: dict[str, object]) -> None:
    with pytest.raises(TurnoverError, match="the engine's answer cannot be read"):
        build_regions(*asked_of(run), 4, reply)


# The page


def mark(app: AppTest) -> AppTest:
    app.button(key="mark-regions").click().run()
    assert not app.exception
    return settle(app)


def test_regions_are_marked_on_demand_and_belong_to_one_error(
    open_page: OpenPage, runs: Path
) -> None:
    folder = IMAGES.write(runs)
    app = open_more(open_page("errors"), "Regions")
    assert (
        "to-map" not in html_of(app).split("<style")[0]
        and state.worker_of(Run(folder)).phase is Phase.STOPPED
    )
    shown = html_of(mark(app))
    assert (
        shown.count('<div class="to-map"') == 6
        and shown.count("rests most on row 1, column 1 (−") == 5
    )
    # the made-up worker counts in each request from 1
    assert "Together +5.000 nats" in shown and "<li>row 1, column 1 (−11.000 nats)</li>" in shown
    assert (
        "largest changes of this influence without a patch: row 1, column 1 (−2.000 nats); row 1, "
        "column 2 (−1.000 nats);" in shown
    )
    assert "the median over 4 members" in shown and "no standard error is known" in shown
    app = go_to_error(app, explorer(app)["rows"][1]["id"])
    assert (
        "Together" not in html_of(app)
        and app.button(key="mark-regions").label == "Mark the regions"
    )


def test_regions_of_influences_that_were_computed_again_are_marked_anew(
    open_page: OpenPage, runs: Path
) -> None:
    folder = IMAGES.write(runs)
    app = open_more(open_page("errors"), "Regions")
    assert "Together +5.000 nats" in html_of(mark(app))
    compute_again(folder)
    app.run()
    assert (
        not app.exception
        and "Together" not in html_of(app)
        and app.button(key="mark-regions").label == "Mark the regions"
    )


def compute_again(run: Path) -> None:
    """Other influences that rank the same proponents: each is twice what it was."""
    part = run / "influence"
    facts = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
    for path in part.glob("*_estimate.npy"):
        np.save(path, 2 * np.load(path))
    told = {name: fact for name, fact in facts.items() if name not in ("format", "files")}
    write_manifest(part, told, sorted(path.name for path in part.glob("*.npy")))


def test_a_text_run_has_no_regions(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_more(open_page("errors"), "Groups")
    assert "Regions" not in app.segmented_control(key="more-choice").options


def test_the_page_is_usable_while_the_model_loads(
    open_page: OpenPage,
    runs: Path,
    worker_command: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    IMAGES.write(runs)
    monkeypatch.setattr(engine, "worker_command", lambda: worker_command("slow start"))
    app = open_more(open_page("errors"), "Regions")
    app.button(key="mark-regions").click().run()
    assert "The model is warming up" in html_of(
        app
    ) and "The regions are marked as soon as it is ready." in html_of(app)
    app = go_to_error(app, explorer(app)["rows"][1]["id"])
    assert app.button(
        key="mark-regions"
    ).label == "Mark the regions" and "warming up" not in html_of(app)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("fails", "the encoder is not there; install it"),
        ("dies", "the engine stopped while it was answering"),
        ("refuses", "no &lt;b&gt;such"),
    ],
)
def test_what_goes_wrong_is_said_with_a_button_to_try_again(
    open_page: OpenPage,
    runs: Path,
    worker_command: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    message: str,
) -> None:
    FakeRun(
        kind="image", classes=("bad", "bad two") if mode == "refuses" else ("one", "two")
    ).write(runs)
    monkeypatch.setattr(
        engine, "worker_command", lambda: worker_command("answers" if mode == "refuses" else mode)
    )
    app = (
        open_page("errors", true="bad two", predicted="bad")
        if mode == "refuses"
        else open_page("errors")
    )
    shown = html_of(mark(open_more(app, "Regions")))
    again = "Start it again" if mode == "fails" else "Try again"
    assert (
        message in shown
        and 'role="alert"' in shown
        and [button for button in app.button if button.label == again]
    )
