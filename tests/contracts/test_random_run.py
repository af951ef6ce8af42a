"""Runs of random numbers are runs like others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.bench import random_run
from core.bench.random_run import RandomRun
from core.report.errors import error_items
from core.runs import Run, find_runs


@pytest.mark.parametrize(("full_bytes", "layout", "known"), [(2**31, "full", 300), (0, "top", 200)])
def test_it_opens_and_explains_its_errors(full_bytes: int, layout: str, known: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_run, "FULL_BYTES", full_bytes)
    run = Run(RandomRun(300, 40).write(tmp_path))
    assert find_runs(tmp_path) == [run.folder]
    assert run.influence.manifest["layout"] == layout
    errors = error_items(run, with_influence=True)
    assert len(errors) == len(run.errors) == 14
    ranked = run.influence.ranked(run.errors[3], "prediction")
    assert len(ranked.values) == known and np.isfinite(ranked.errors).all()
    assert ranked.values.max() > 0 > ranked.values.min()


def test_it_is_written_once(tmp_path: Path) -> None:
    first = RandomRun(50, 9).write(tmp_path)
    before = (first / "manifest.json").stat().st_mtime_ns
    assert RandomRun(50, 9).write(tmp_path) == first
    assert (first / "manifest.json").stat().st_mtime_ns == before
