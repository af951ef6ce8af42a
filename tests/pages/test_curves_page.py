"""The curves of a run, of a training that goes on, and what tells of a leak."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from tests.helpers.fake_runs import EPOCHS, FakeRun
from tests.pages.app_testing import OpenPage, html_of
from turnover.dashboard.runs.curves import losses_figure
from turnover.dashboard.runs.curves_view import (
    build_curves,
    build_partial,
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
    shown = html_of(open_page("runs"))
    assert "Training items leak into halves that should not know them" in shown
    assert f"At {EPOCHS} epochs, most at epoch 1, items that were not learned are" in shown
    assert "easier than new ones, by a loss of 0.7" in shown
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
    assert "leak into" not in html_of(open_page("runs"))


# The figure


def test_the_figure_says_learned_and_not_learned_and_shades_what_is_between(run: Run) -> None:
    curves = build_curves(run)
    figure = losses_figure(curves.epochs, curves.series, curves.kept)
    names = [trace.name for trace in figure.data]
    assert names == ["Learned", "Not learned", "New items", "Validation"]
    assert [trace.name for trace in figure.data if trace.fill == "tonexty"] == ["Not learned"]
    assert "masked" in figure.data[0].hovertemplate and "flipped" in figure.data[1].hovertemplate
    assert [shape.x0 for shape in figure.layout.shapes] == [2]
    assert not losses_figure(curves.epochs, curves.series, None).layout.shapes


def test_a_run_shows_its_curves_first(open_page: OpenPage, runs: Path) -> None:
    FakeRun(influence=False).write(runs)
    app = open_page("runs")
    (chart,) = app.get("plotly_chart")
    assert "kept epoch 2" in str(chart.proto)
    assert "66.7% right on the validation items; ordinary training: 70.0%." in html_of(app)


# A training that goes on


def test_a_training_is_shown_as_far_as_it_has_come(open_page: OpenPage, runs: Path) -> None:
    FakeRun("whole").write(runs)
    write_partial(runs)
    app = open_page("runs")
    assert list(app.selectbox(key="training").options) == ["The chosen run", "young"]
    assert "3 epochs" in str(app.get("plotly_chart")[0].proto)
    assert list(app.dataframe[0].value["Now"]) == ["stopped", ""]
    app.selectbox(key="training").select("young").run()
    assert "Epoch 2 of at most 30" in html_of(app) and "25.0% right" in html_of(app)
    assert "2 epochs; at the last epoch so far" in str(app.get("plotly_chart")[0].proto)
    write_partial(runs, epochs=3)
    app.run()
    assert "Epoch 3 of at most 30" in html_of(app)
    write_partial(runs, epochs=4, checkpoint="plain")
    app.run()
    assert "Trained; ordinary training, to compare with, is at epoch 4" in html_of(app)
    assert open_page("runs", training="young").selectbox(key="training").value == "young"
    unknown = open_page("runs", training="nowhere").selectbox(key="training")
    assert unknown.value == "The chosen run"


def test_a_training_without_any_run_beside_it(open_page: OpenPage, runs: Path) -> None:
    folder = write_partial(runs, epochs=0)
    app = open_page("runs")
    assert "the curves appear here after the first epoch" in html_of(app).casefold()
    assert "No runs yet" not in html_of(app)
    write_partial(runs, unowned=1.5)
    app.run()
    assert "leak into halves" in html_of(app) and "Epoch 2 of at most 30" in html_of(app)
    (folder / "masked.checkpoint").write_bytes(b"nonsense")
    app.run()
    assert "delete it to train from the" in html_of(app) and 'role="alert"' in html_of(app)


def test_a_finished_training_becomes_the_chosen_run(open_page: OpenPage, runs: Path) -> None:
    FakeRun("another").write(runs)
    folder = write_partial(runs)
    app = open_page("runs", training="young")
    assert "Epoch 2" in html_of(app)
    FakeRun("young").write(runs)
    with_run = app.run()
    shutil.rmtree(folder)
    assert not with_run.exception and app.run().selectbox(key="run").value == "young"
    assert not [box for box in app.selectbox if box.key == "training"]


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
    assert curves and curves.kept is None and "ordinary" not in curves.accuracy
    assert [line.values for line in curves.series] == [
        (0.5, 0.5),
        (0.9, 0.9),
        (0.9, 0.9),
        (0.4, 0.4),
    ]
    assert build_partial(replace(partial, curves=partial.curves.iloc[:0])) is None
