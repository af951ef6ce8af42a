"""Footnote 4: against the full network, pair by pair, and what the experiment says with and without data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import core.paper.footnote4 as footnote4_module
from core import Run
from core.cli import main
from core.fidelity.estimators import ESTIMATORS
from core.fidelity.lds import halves_of, lds, placebo
from core.fidelity.methods import evidence_of
from core.fidelity.options import Options
from core.fidelity.subject import Subject
from core.paper.footnote4 import FULL, MASKED, footnote4, full_influence
from core.paper.setup import Setup
from core.pipeline.influence import compute_influence
from core.pipeline.settings import TrainSettings
from core.training import item_losses
from tests.helpers.builders import train_digits
from tests.helpers.token_builders import encoder_in, sst2_in


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """Few items, members, halves and seeds; tiny texts and a tiny encoder."""
    sst2_in(tmp_path / "data" / "sst2", 24, 10)
    encoder = encoder_in(tmp_path / "encoder")

    def settings(data: str, **options: object) -> TrainSettings:
        sizes = {"limit": 20, "encoder": encoder} if data == "sst2" else {"limit": 60, "validation_limit": 12}
        return TrainSettings(data, **{**options, **sizes})  # type: ignore[arg-type]

    monkeypatch.setattr(footnote4_module, "TrainSettings", settings)
    monkeypatch.setattr(footnote4_module, "_MEMBERS", 2)
    monkeypatch.setattr(footnote4_module, "_OPTIONS", Options(halves=4, seeds=1))
    return Setup("small", tmp_path / "data", tmp_path / "runs", "cpu")


def test_the_full_network_stands_where_the_masked_one_stood(tmp_path: Path) -> None:
    run = Run(train_digits(tmp_path / "run", validation_limit=6))
    compute_influence(run)
    subject = Subject.of(Run(run.folder), "cpu", 4)
    evidence, _ = evidence_of(subject)
    made, model, targets = full_influence(evidence), subject.model, subject.targets
    full = item_losses(model, targets)
    for instance in (0, 7, 59):
        under = torch.full((4,), instance)
        masked, flipped = (item_losses(model, targets, under, turned) for turned in (False, True))
        np.testing.assert_allclose(made[:, :, instance], (flipped - full).numpy(), rtol=0, atol=1e-4)
        np.testing.assert_allclose(evidence.values[:, :, instance], (flipped - masked).numpy(), rtol=0, atol=1e-4)
    assert np.abs(made - evidence.values).max() > 1e-2


def test_rows_hold_both_choices_for_every_estimator_and_data_set(small: Setup) -> None:
    rows = list(footnote4(small))
    assert [row.what for row in rows] == [f"LDS of {MASKED}", f"LDS of {FULL}"] * (2 * len(ESTIMATORS))
    for place, (data, size) in enumerate((("digits", 60), ("sst2", 20))):
        own = rows[place * 2 * len(ESTIMATORS) :][: 2 * len(ESTIMATORS)]
        for name, first, second in zip(ESTIMATORS, own[::2], own[1::2], strict=True):
            assert first.setting.startswith(f"{data}, N = {size}, 2 members, {name}") and second.setting.startswith(f"{data}, N = {size}, 2 members, {name}")
        subject = Subject.of(Run(small.runs / f"paper-footnote4-{data}-small"), "cpu")
        evidence, _ = evidence_of(subject)
        inside, losses = halves_of(subject, Options(halves=4, seeds=1))
        for values, measured in ((evidence.values, own[2].measured), (full_influence(evidence), own[3].measured)):
            scores = values.mean(0)
            assert measured == f"{lds(scores, inside, losses)}; placebo {placebo(scores, inside, losses)}"
    assert rows[2].measured != rows[3].measured and all(row.paper == "" for row in rows)


def test_without_a_folder_there_are_digits_and_no_one_is_asked_for_data(small: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper", "footnote4", "--runs", str(small.runs), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "| digits, N = 60, 2 members, one member |" in printed and "sst2" not in printed
    assert main(["paper", "curves", "--runs", str(small.runs), "--device", "cpu"]) == 2
    assert "name the folder that holds sst2/ with --path" in capsys.readouterr().err
