"""A deep model's run with influences on a few of its errors, as the paper's experiments leave one,
opened on the pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st

from tests.helpers.token_builders import encoder_in, sst2_in
from tests.pages.app_testing import OpenPage, explorer, go_to_error, html_of, shown_pane
from turnover.dashboard import engine
from turnover.models.families.adapters import Adapters
from turnover.models.registry import TrainSettings
from turnover.runs.run import Run
from turnover.workflows.influence import compute_influence
from turnover.workflows.train import train_run


@pytest.fixture
def deep_run(
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    worker_command: Callable[[str], list[str]],
) -> Iterator[Run]:
    """Adapters in a tiny encoder, wrong on most of what they are validated on, with influences on
    two errors.
    """
    data, encoder = Path(sst2_in(tmp_path / "sst2")), encoder_in(tmp_path / "encoder")
    development = pd.read_csv(data / "dev.csv")
    development.assign(label=1 - development["label"]).to_csv(data / "dev.csv", index=False)
    monkeypatch.setattr(Adapters, "recipe", replace(Adapters.recipe, epochs=1, batch=12))
    monkeypatch.setattr(engine, "worker_command", lambda: worker_command("answers"))
    train_run(
        TrainSettings.of("sst2", path=str(data), model="adapters", encoder=encoder, limit=20),
        runs / "deep",
        "cpu",
    )
    compute_influence(Run(runs / "deep"), "errors", "cpu", most=2)
    st.cache_resource.clear()
    yield Run(runs / "deep")
    st.cache_resource.clear()


def test_explained_errors_come_first_and_the_others_say_what_is_missing(
    deep_run: Run, open_page: OpenPage
) -> None:
    app = open_page(run="deep")
    ids = [
        deep_run.item("validation", position)["id"] for position in deep_run.influence.misclassified
    ]
    assert explorer(app)["item"] in ids and shown_pane(app)["teachers"]
    assert explorer(app)["total"] == len(deep_run.misclassified_positions) > 2
    other = next(
        position
        for position in deep_run.misclassified_positions
        if position not in deep_run.influence.misclassified
    )
    app = go_to_error(app, deep_run.item("validation", other)["id"])
    assert not app.exception
    assert "--targets validation" in shown_pane(app)["why"] and not shown_pane(app)["teachers"]


@pytest.mark.parametrize("page", ["runs", "training"])
def test_the_other_pages_open_too(deep_run: Run, open_page: OpenPage, page: str) -> None:
    app = open_page(page, run="deep")
    assert not app.exception
    assert "cannot be" not in html_of(app)
