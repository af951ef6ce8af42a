"""All errors of a run judged at once, as a page judges them one by one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import core.report.certainty as certainty_module
from core.estimators.trust import STRONG, WEAK
from core.ranking import ranking_trust, trust_counts
from core.report.certainty import run_certainty
from core.runs import MANIFEST, Run, write_manifest
from tests.helpers.fake_runs import FakeRun


def make(folder: Path, change: dict[str, object] | None = None, keep: int | None = None, **changes: int) -> Run:
    """A run whose influences are told from noise more or less, error by error; `keep` leaves so many of each ranking."""
    path = FakeRun(**changes).write(folder)
    part = path / "influence"
    facts = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
    errors = np.load(part / "prediction_error.npy")
    np.save(part / "prediction_error.npy", errors * np.geomspace(0.05, 3, len(errors))[:, None].astype(np.float32))
    files = set(facts["files"])
    if keep:
        for meaning in ("truth", "prediction"):
            order = np.argsort(-np.abs(np.load(part / f"{meaning}_estimate.npy")), 1)[:, :keep]
            for name in ("estimate", "error"):
                np.save(part / f"{meaning}_{name}.npy", np.take_along_axis(np.load(part / f"{meaning}_{name}.npy"), order, 1))
            np.save(part / f"{meaning}_instances.npy", order)
            files |= {f"{meaning}_instances.npy"}
        change = {"layout": "top"}
    write_manifest(part, {key: fact for key, fact in facts.items() if key not in ("format", "files")} | (change or {}), sorted(files))
    return Run(path)


@pytest.mark.parametrize("estimator", ["best", "median"])
@pytest.mark.parametrize("values", [2**20, 40])
@pytest.mark.parametrize("keep", [None, 7])
def test_counts_are_those_of_each_error(estimator: str, values: int, keep: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certainty_module, "_VALUES", values)
    run = make(tmp_path, {"estimator": estimator}, keep)
    found = run_certainty(run)
    counts = {error: trust_counts(ranking_trust(run, run.influence.ranked(error, "prediction"))) for error in run.influence.errors}
    assert found.strong == {error: count[STRONG] for error, count in counts.items() if count}
    assert found.weak == {error: count[WEAK] for error, count in counts.items() if count}
    assert found.share == np.mean([count > 0 for count in found.strong.values()]) and 0 < found.share < 1
    assert found.usual == np.median(list(found.strong.values())) and found.usual_share == found.usual / 30
    assert (found.errors, found.train_size, found.members, found.partly) == (8, 30, 4, keep is not None)


def test_the_agreement_is_that_of_the_estimator_shown(tmp_path: Path) -> None:
    assert run_certainty(make(tmp_path / "a")).agreement == 0.2
    assert run_certainty(make(tmp_path / "b", {"estimator": "median"})).agreement == 0.1
    assert run_certainty(make(tmp_path / "c", {"agreement": {}})).agreement is None


def test_one_member_and_no_errors_are_known_for_nothing(tmp_path: Path) -> None:
    for run, errors in ((Run(FakeRun("one", members=1).write(tmp_path)), 8), (Run(FakeRun("right", errors=False).write(tmp_path)), 0)):
        found = run_certainty(run)
        assert not found.known and found.errors == errors
        assert (found.share, found.usual, found.strong) == (0.0, 0.0, {})
