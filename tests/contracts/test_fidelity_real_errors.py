"""Confirmed label errors: the same areas as for planted ones, of another mark."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest

import core.fidelity.planted as planted_module
from core import Run, TurnoverError
from core.cli import main
from core.data.base import CONFIRMED_ERROR, WRONG_LABEL
from core.fidelity.methods import Scored
from core.fidelity.options import Options
from core.fidelity.real_errors import measure
from core.fidelity.subject import Subject
from core.pipeline.influence import compute_influence
from core.pipeline.settings import TrainSettings
from core.pipeline.train import train_run
from tests.contracts.test_data_imdb_checks import reviews
from tests.helpers.token_builders import encoder_in


def a_subject(marks: list[str]) -> Subject:
    run = SimpleNamespace(folder=Path("a-run"), train=pd.DataFrame({"planted": marks}))
    return cast(Subject, SimpleNamespace(run=run))


def test_the_confirmed_errors_are_found_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = [CONFIRMED_ERROR] * 5 + [WRONG_LABEL] * 5 + [""] * 90
    oracle = np.array([[mark == CONFIRMED_ERROR for mark in marks]], float)
    ways = [Scored("oracle", oracle, 1.0, 2.0), Scored("contrary", -oracle, 0, 0), Scored("none", np.empty(0), 0, 0, "refused: too deep")]
    monkeypatch.setattr(planted_module, "suspicions", lambda subject, options: iter(ways))
    made = measure(a_subject(marks), Options())
    assert (made["confirmed_errors"], made["instances"]) == (5, 100)
    first, second, refused = made["rows"]
    assert (first.figures["AUC"].value, first.figures["precision@5"].value, first.train_seconds, first.estimate_seconds) == (1, 1, 1, 2)
    assert second.figures["AUC"].value == 0
    assert (refused.figures, refused.note) == ({}, "refused: too deep")


def test_a_run_of_other_data_is_one_line() -> None:
    with pytest.raises(TurnoverError, match=r"^a-run: no confirmed label errors; train with --data imdb-checks$"):
        measure(a_subject([WRONG_LABEL, ""]), Options())


def test_from_the_file_to_the_areas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = TrainSettings("imdb-checks", path=str(reviews(tmp_path)), encoder=encoder_in(tmp_path / "encoder"), members=2)
    train_run(settings, tmp_path / "run", "cpu")
    compute_influence(Run(tmp_path / "run"))
    capsys.readouterr()
    assert main(["evaluate", "--run", str(tmp_path / "run"), "--measure", "real-errors", "--rivals", "similarity", "--device", "cpu", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["measure"], result["confirmed_errors"], result["instances"], result["targets"]) == ("real-errors", 10, 48, 12)
    methods = [row["method"] for row in result["rows"] if row["figures"]]
    for start in ("self-influence: ", "flipped loss: ", "mean influence: turn-over, as shown", "mean influence: signed cosine", "cross-validated doubt"):
        assert any(method.startswith(start) for method in methods), start
    assert all(0 <= row["figures"]["AUC"]["value"] <= 1 for row in result["rows"])
