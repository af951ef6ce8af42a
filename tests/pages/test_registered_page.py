"""A run that was made of a model trained elsewhere, or of another engine's scores: what nobody
measured is unknown on every page, and nothing breaks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.fake_runs import FakeRun
from tests.pages.app_testing import PAGES, OpenPage, html_of
from turnover.dashboard.runs.curves_view import build_curves
from turnover.dashboard.runs.details import build_details
from turnover.dashboard.shared.runs_view import summarise
from turnover.models.registry import TrainSettings
from turnover.runs.plan import plan_run
from turnover.runs.run import RUN_FILES, Run
from turnover.storage.artifacts import read_manifest, write_manifest
from turnover.workflows.register_scores import register_scores

pytestmark = pytest.mark.usefixtures("fresh")


def registered(runs: Path, name: str = "adopted") -> Path:
    """A made-up run as `turnover.workflows.register` writes it: one epoch, one member, no recipe,
    no plain twin.
    """
    folder = FakeRun(name, members=1).write(runs)
    manifest: dict[str, Any] = read_manifest(folder, "")
    manifest["results"] |= {
        "plain_accuracy": None,
        "plain_loss": None,
        "plain_kept_epoch": None,
        "epochs": 1,
        "kept_epoch": 1,
    }
    manifest |= {
        "recipe": {},
        "adopted": "mine.safetensors",
        "leaks": ["fc.bias"],
        "settings": {"data": "fake", "model": "mine:build", "groups": None, "encoder": "words"},
    }
    pd.read_parquet(folder / "curves.parquet").iloc[-1:].assign(epoch=1).to_parquet(
        folder / "curves.parquet", index=False
    )
    np.save(folder / "item_losses.npy", np.load(folder / "item_losses.npy")[:, -1:])
    write_manifest(
        folder,
        {name: fact for name, fact in manifest.items() if name not in ("format", "files")},
        RUN_FILES,
    )
    return folder


def scored(runs: Path, model: str | None = None) -> Path:
    """A run of another engine's scores on a few digits; its first two predictions are wrong."""
    settings = TrainSettings.of("digits", limit=30, validation_limit=12, model=model)
    labels = plan_run(settings, runs / "scored").data.validation.labels
    rng, folder = np.random.default_rng(0), runs.with_name("given")
    folder.mkdir(exist_ok=True)
    np.save(folder / "scores.npy", rng.normal(size=(12, 30)))
    np.save(folder / "predictions.npy", np.where(np.arange(12) < 2, (labels + 1) % 10, labels))
    scores, predictions = folder / "scores.npy", folder / "predictions.npy"
    register_scores(settings, scores, "helps", "true", predictions, runs / "scored", "cpu")
    return runs / "scored"


VIEWS = {
    **{page: {} for page in PAGES},
    **{f"runs, {view}": {"view": view} for view in ("Trust", "Details", "Before and after")},
    "errors, numbers": {"more": "1", "part": "numbers"},
    "errors, groups": {"more": "1", "part": "groups"},
    "training, item": {"sort": "harm"},
}


@pytest.mark.parametrize("make", [registered, scored, partial(scored, model="mlp")])
@pytest.mark.parametrize("view", VIEWS)
def test_every_page_opens(
    view: str, make: Callable[[Path], Path], runs: Path, open_page: OpenPage
) -> None:
    run = Run(make(runs))
    more = {"item": str(run.train["id"][0])} if view == "training, item" else {}
    app = open_page(view.partition(",")[0], **VIEWS[view], **more)
    shown = html_of(app) + "".join(part.proto.json for part in app.get("bidi_component"))
    assert not app.error and not app.exception
    assert not re.search(r"\bnan\b|NaN|\bNone\b", shown)
    if run.scored and view in PAGES:
        assert "Scores of another engine, scores.npy: no learning curves" in shown
        assert ("no retraining" in shown) is bool(run.untrainable)


def test_what_is_unknown_is_left_out_or_said_to_be(runs: Path, open_page: OpenPage) -> None:
    registered(runs)
    assert "66.7% right on the validation items." in html_of(open_page("runs"))
    text = html_of(open_page("runs", view="Details"))
    assert "66.7% with turn-over dropout, unknown without" in text
    assert "elsewhere, made a run on" in text and "mine:build" in text


def test_the_views_know_what_is_unknown(tmp_path: Path) -> None:
    run = Run(registered(tmp_path))
    curves = build_curves(run)
    assert (curves.epochs, curves.kept) == ((1,), 1)
    assert "Recipe" not in dict(build_details(run).groups)
    assert summarise(run).quality == "1 model, 66.7% right"
