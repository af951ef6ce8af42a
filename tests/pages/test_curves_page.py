"""The curves: of a training that goes on, item by item at an epoch, and what tells of a leak."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from tests.helpers.fake_runs import EPOCHS, HOSTILE, FakeRun
from tests.pages.app_testing import OpenPage, html_of
from turnover.dashboard.runs.curves import _CHART, curves_figure
from turnover.dashboard.runs.curves_view import (
    MOST,
    build_curves,
    build_partial,
    largest_gaps,
    leak_sentence,
    leaks,
    training_sentence,
)
from turnover.runs.partial import Partial, read_partial
from turnover.runs.run import Run
from turnover.storage.artifacts import MANIFEST, write_manifest

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(FakeRun().write(tmp_path / "made"))


def write_partial(
    runs: Path,
    name: str = "young",
    epochs: int = 2,
    checkpoint: str = "masked",
    unowned: float = 0.9,
) -> Path:
    """A run that is being trained, as far as its checkpoint tells."""
    folder = runs / f"{name}.partial"
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text("{}")
    if epochs:
        curves = {
            "masked": [0.5] * epochs,
            "flipped": [0.9] * epochs,
            "validation": [0.4] * epochs,
            "unowned": [unowned] * epochs,
        }
        facts = {
            "made_with": {"recipe": {"epochs": 30}},
            "curves": curves,
            "accuracy": [0.25] * epochs,
        }
        flipped = np.tile(np.linspace(0.8, 1, 50, dtype=np.float32), (epochs, 1))
        tensors = {
            "flipped_items": flipped,
            "masked_items": flipped,
            "validation_items": np.zeros((epochs, 20), np.float32),
        }
        save_file(tensors, folder / f"{checkpoint}.checkpoint", {"facts": json.dumps(facts)})
    return folder


# Gaps


@pytest.mark.parametrize("epoch", range(1, EPOCHS + 1))
def test_the_largest_gaps_at_an_epoch_come_first(run: Run, epoch: int) -> None:
    masked, flipped = run.array("item_losses")[:, epoch - 1]
    shown = largest_gaps(run, epoch)
    assert [gap.value for gap in shown] == pytest.approx(
        sorted(flipped - masked, reverse=True)[:MOST], abs=1e-6
    )
    for gap in shown:
        position = int(gap.id.removeprefix("t"))
        assert (gap.masked, gap.flipped) == pytest.approx((masked[position], flipped[position]))
        assert (
            gap.text == run.item("train", position)["text"]
            and gap.injected == run.item("train", position)["planted"]
        )


# Leaks


def test_a_flipped_loss_at_the_level_of_unowned_is_no_leak_and_one_below_is(run: Run) -> None:
    """Over many draws of what no leak looks like, two standard errors are passed in one of
    forty.
    """
    rng, train, validation = np.random.default_rng(0), 400, 300
    draws = 1000
    level = [float(rng.exponential(size=validation).mean()) for _ in range(draws)]
    curves = SimpleNamespace(
        epochs=range(draws), series=[SimpleNamespace(column="unowned", values=level)]
    )
    honest = rng.exponential(size=(draws, train))
    assert 0.01 < len(leaks(curves, honest, validation)) / draws < 0.04  # type: ignore[arg-type]
    leaky = leaks(curves, honest - 0.4, validation)  # type: ignore[arg-type]
    assert len(leaky) > 0.97 * draws
    assert np.mean([leak.below for leak in leaky]) == pytest.approx(0.4, abs=0.02)
    assert np.mean([leak.error for leak in leaky]) == pytest.approx(
        (1 / train + 1 / validation) ** 0.5, rel=0.1
    )


def test_a_run_without_masks_of_its_own_has_no_leak(run: Run) -> None:
    curves = build_curves(run)
    nowhere = replace(
        curves,
        series=tuple(replace(line, values=(float("nan"),) * EPOCHS) for line in curves.series),
    )
    assert leaks(nowhere, np.full((EPOCHS, 30), np.nan), 24) == ()
    assert leak_sentence((), ["the output bias"]) == ""


def test_a_leak_is_named_with_its_size_and_what_is_shared(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    np.save(
        folder / "item_losses.npy",
        np.random.default_rng(0).normal(0.3, 0.01, (2, EPOCHS, 30)).astype(np.float32),
    )
    facts = json.loads((folder / MANIFEST).read_text()) | {
        "leaks": ["the output bias", "<b>batch norm</b>"]
    }
    write_manifest(
        folder,
        {name: fact for name, fact in facts.items() if name not in ("format", "files")},
        sorted(facts["files"]),
    )
    shown = html_of(open_page("curves"))
    assert "Training items leak into halves that should not know them" in shown
    assert (
        f"At {EPOCHS} epochs, most at epoch 1, the flipped loss lies below the unowned loss by 0.7"
        in shown
    )
    assert (
        "in this run: the output bias, &lt;b&gt;batch norm&lt;/b&gt;." in shown
        and "<b>batch" not in shown
    )


def test_without_a_leak_nothing_is_said(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    np.save(
        folder / "item_losses.npy",
        np.random.default_rng(0).normal(0.95, 0.1, (2, EPOCHS, 30)).astype(np.float32),
    )
    facts = json.loads((folder / MANIFEST).read_text())
    write_manifest(
        folder,
        {name: fact for name, fact in facts.items() if name not in ("format", "files")},
        sorted(facts["files"]),
    )
    assert "leak into" not in html_of(open_page("curves"))


# The figure and the epoch


def test_the_gap_is_shaded_and_the_epochs_are_marked(run: Run) -> None:
    curves = build_curves(run)
    figure = curves_figure(curves, 3)
    assert [trace.name for trace in figure.data if trace.fill == "tonexty"] == ["Flipped"]
    assert [trace.name for trace in figure.data][:2] == [
        "Masked",
        "Flipped",
    ], "the shade reaches to the line before"
    assert [shape.x0 for shape in figure.layout.shapes] == [2, 3]
    assert [shape.x0 for shape in curves_figure(curves, 2).layout.shapes] == [2]
    assert not curves_figure(replace(curves, kept=None)).layout.shapes


def test_an_epoch_is_chosen_by_link_by_box_and_by_click(open_page: OpenPage, runs: Path) -> None:
    run = Run(FakeRun(texts=HOSTILE).write(runs))
    app = open_page("curves")
    assert app.selectbox(key="epoch").value == "2", "the kept one"

    def gap() -> str:
        return html_of(app).split("<td><strong>")[1].split("</strong>")[0]

    for epoch in (1, 3):
        app.selectbox(key="epoch").select(str(epoch)).run()
        assert gap() == f"{largest_gaps(run, epoch)[0].value:.3f}"
    assert "<script" not in html_of(app) and "<img src=x" not in html_of(app)
    assert open_page("curves", epoch="3").selectbox(key="epoch").value == "3"
    assert open_page("curves", epoch="99").selectbox(key="epoch").value == "2"
    assert open_page("curves", epoch="<b>").selectbox(key="epoch").value == "2"


@pytest.mark.parametrize(("points", "chosen"), [([{"x": 3, "y": 0.5}], "3"), ([], "1")])
def test_a_click_on_a_point_chooses_its_epoch(
    points: list[dict[str, float]], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from turnover.dashboard.runs import curves as gaps

    state = {"epoch": "1", _CHART: {"selection": {"points": points}}}
    monkeypatch.setattr(gaps.st, "session_state", state)
    gaps._picked()
    assert state["epoch"] == chosen


def test_images_are_shown_with_their_labels(open_page: OpenPage, runs: Path) -> None:
    FakeRun(kind="image", classes=tuple("0123456789")).write(runs)
    assert html_of(open_page("curves")).count('src="data:image/png;base64,') == MOST


# A training that goes on


def test_a_training_is_shown_as_far_as_it_has_come(open_page: OpenPage, runs: Path) -> None:
    FakeRun("whole").write(runs)
    write_partial(runs)
    app = open_page("curves")
    assert list(app.selectbox(key="training").options) == [
        "The run in the sidebar",
        "young",
    ] and "3 epochs" in str(app.get("plotly_chart")[0].proto)
    app.selectbox(key="training").select("young").run()
    assert "Epoch 2 of at most 30" in html_of(app) and "2 epochs; at the last epoch so far" in str(
        app.get("plotly_chart")[0].proto
    )
    assert [metric.value for metric in app.metric] == ["25.0%", "not yet", "0.900", "0.900"]
    assert "largest gap" not in html_of(app), "the items are not there yet"
    write_partial(runs, epochs=3)
    app.run()
    assert "Epoch 3 of at most 30" in html_of(app)
    write_partial(runs, epochs=4, checkpoint="plain")
    app.run()
    assert "Trained; its plain twin is at epoch 4" in html_of(app)
    assert open_page("curves", training="young").selectbox(key="training").value == "young"
    assert (
        open_page("curves", training="nowhere").selectbox(key="training").value
        == "The run in the sidebar"
    )


def test_a_training_without_any_run_beside_it(open_page: OpenPage, runs: Path) -> None:
    folder = write_partial(runs, epochs=0)
    app = open_page("curves")
    assert "the curves appear here after the first epoch" in html_of(
        app
    ) and "No runs yet" not in html_of(app)
    write_partial(runs, unowned=1.5)
    app.run()
    assert "leak into halves" in html_of(app) and "Epoch 2 of at most 30" in html_of(app)
    (folder / "masked.checkpoint").write_bytes(b"nonsense")
    app.run()
    assert "delete it to train from the" in html_of(app) and 'role="alert"' in html_of(app)


def test_a_finished_training_becomes_the_run(open_page: OpenPage, runs: Path) -> None:
    folder = write_partial(runs)
    app = open_page("curves", training="young")
    assert "Epoch 2" in html_of(app)
    FakeRun("young").write(runs)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    app.run()
    assert not app.exception and not [box for box in app.selectbox if box.key == "training"]
    assert "Items with the largest gap" in html_of(app)


def _at(changed: float, twin: int = 0) -> Partial:
    return Partial("x", pd.DataFrame({"epoch": [1, 2]}), 30, twin, changed, np.empty((2, 0)), 0)


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "5 s ago"), (300, "5 min ago"), (7300, "2 h ago"), (-3, "0 s ago")]
)
def test_how_long_ago_the_last_epoch_ended_is_said(seconds: float, words: str) -> None:
    now = time.time()
    assert f"Epoch 2 of at most 30; it ended {words}" in training_sentence(_at(now - seconds), now)


def test_a_training_reads_like_the_run_that_it_becomes(runs: Path) -> None:
    write_partial(runs)
    partial = read_partial(runs, "young")
    curves = build_partial(partial)
    assert (
        curves
        and curves.kept is None
        and curves.plain_accuracy is None
        and "Kept" not in curves.table
    )
    assert [line.values for line in curves.series] == [
        (0.5, 0.5),
        (0.9, 0.9),
        (0.9, 0.9),
        (0.4, 0.4),
    ]
    assert build_partial(replace(partial, curves=partial.curves.iloc[:0])) is None
