"""A run that was made of a model trained elsewhere: what nobody measured is unknown on every page,
and nothing breaks.
"""

from __future__ import annotations

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
from turnover.runs.run import RUN_FILES, Run
from turnover.storage.artifacts import read_manifest, write_manifest

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


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens(page: str, runs: Path, open_page: OpenPage) -> None:
    registered(runs)
    app = open_page(page)
    assert not app.error and not app.exception
    assert "nan%" not in html_of(app) and "None" not in html_of(app)


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
