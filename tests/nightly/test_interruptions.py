"""A run is whole or absent, and the same bits after any interruption or full disk."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import core.pipeline.influence as influence_pipeline
import core.pipeline.influence_files as influence_files
import core.pipeline.train as train_pipeline
from core import Run, TurnoverError
from core.pipeline.influence import compute_influence
from core.pipeline.influence_files import InfluenceFiles
from core.runs import find_runs
from core.training import History
from tests.helpers.builders import ONE_THREAD, ROOT, checksums, failing_after, names, run_killed, train_digits


class Interruption(Exception):
    """What a test throws into the middle of the work."""


def settled(results: dict[str, Any]) -> dict[str, Any]:
    """Results without the time they took and the place they went to."""
    return {name: value for name, value in results.items() if name not in ("run", "seconds")}


# Interruptions


def interrupt_after(epochs: int, patch: pytest.MonkeyPatch) -> None:
    """Let the next training stop once, after so many epochs of masked and plain training together."""
    real, finished = train_pipeline.fit, [0]

    def fit(*arguments: Any, **options: Any) -> Any:
        told = arguments[-1]

        def progress(history: History) -> None:
            told(history)
            finished[0] += 1
            if finished[0] == epochs:
                raise KeyboardInterrupt

        return real(*arguments[:-1], progress, **options)

    patch.setattr(train_pipeline, "fit", fit)


@pytest.mark.parametrize("epochs", [2, 9])
def test_a_run_stopped_by_ctrl_c_goes_on_to_the_same_bits(epochs: int, small_run: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(epochs, patch)
        with pytest.raises(KeyboardInterrupt):
            train_digits(tmp_path / "run")
    assert names(tmp_path) == ["run.partial"]
    assert find_runs(tmp_path) == []
    with pytest.raises(TurnoverError, match=r"run\.partial was begun with other settings or data; give the same again to resume, or delete it"):
        train_digits(tmp_path / "run", members=3)
    assert checksums(train_digits(tmp_path / "run")) == checksums(small_run)
    assert names(tmp_path) == ["run"]


def test_a_stop_in_the_last_moment_loses_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is trained and written; only the rename is missing."""
    settings = {"limit": 20, "members": 1}

    def stop(*_: Path) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.pipeline.written.replace_folder", stop)
        with pytest.raises(KeyboardInterrupt):
            train_digits(tmp_path / "run", **settings)
    trained: list[int] = []
    real = train_pipeline.fit

    def counting(*arguments: Any, **options: Any) -> Any:
        *others, told = arguments
        return real(*others, lambda history: (trained.append(1), told(history)), **options)

    monkeypatch.setattr(train_pipeline, "fit", counting)
    Run(train_digits(tmp_path / "run", **settings))
    assert len(trained) <= 1


_KILLED_RUN = """
import json
from core.pipeline.settings import TrainSettings
from core.pipeline.train import train_run
print(json.dumps(train_run(TrainSettings(**json.loads(sys.argv[5])), Path(sys.argv[1]) / "run", "cpu")))
"""


def run_until_killed(folder: Path, start: str = "settings.json", count: int = 0, seconds: float = 0.0) -> dict[str, Any] | None:
    """Train `folder`/run in another process that is killed at its count-th file operation or after some seconds; None if it was."""
    settings = json.dumps({"data": "digits", "limit": 40, "members": 1, "seed": 1})
    printed = run_killed(_KILLED_RUN, folder, start, count, seconds, settings)
    return None if printed is None else dict(json.loads(printed))


def test_a_run_killed_again_and_again_is_whole_or_absent_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    chance = random.Random(7)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    expected, folder = run_until_killed(tmp_path / "whole"), tmp_path / "killed"
    assert expected is not None
    kills: list[dict[str, Any]] = [
        {"count": chance.randint(1, 4)},
        {"start": "masked.checkpoint", "count": chance.randint(3, 12)},
        {"seconds": chance.uniform(0.05, 0.4)},
        {"start": "plain.checkpoint", "count": chance.randint(3, 9)},
        {"start": "manifest.json", "count": chance.randint(1, 8)},
    ]
    for kill in kills:
        assert run_until_killed(folder, **kill) is None, f"not killed: {kill}"
        for run in find_runs(folder):
            assert Run(run).errors
        assert set(names(folder)) < {".run.lock", "run", "run.partial"}
        if (folder / "run").exists():
            shutil.rmtree(folder / "run")
    results = run_until_killed(folder)
    assert results is not None
    assert settled(results) == settled(expected)
    assert checksums(folder / "run") == checksums(tmp_path / "whole" / "run")
    assert names(folder) == ["run"]
    weights, others = (load_file(path / "run" / "weights.safetensors") for path in (folder, tmp_path / "whole"))
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


# A full disk

_LIMITED_RUN = """
import json, resource, sys
from pathlib import Path
from core.errors import TurnoverError
from core.pipeline.settings import TrainSettings
from core.pipeline.train import train_run
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    train_run(TrainSettings("digits", limit=20, members=1), Path(sys.argv[1]), "cpu")
except TurnoverError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [60, 100_000])
def test_a_file_that_the_system_will_not_write_is_one_clear_line(size: int, tmp_path: Path) -> None:
    """First the settings do not fit, then the checkpoint does not."""
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED_RUN, str(tmp_path / "run"), str(size)],
        cwd=ROOT,
        env=ONE_THREAD,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "run.partial" in done.stdout
    assert "cannot be written (File too large)" in done.stdout
    assert not (tmp_path / "run").exists()
    assert list(tmp_path.rglob("*.new")) == []
    assert len(Run(train_digits(tmp_path / "run", limit=20, members=1, groups=None, seed=0)).train) == 20


@pytest.mark.parametrize(("place", "calls"), [("save", 2), ("to_parquet", 1)])
def test_a_disk_that_fills_up_at_the_end_costs_no_training(place: str, calls: int, tmp_path: Path, small_run: Path) -> None:
    full = OSError(28, "No space left on device")
    with pytest.MonkeyPatch.context() as patch:
        owner = np if place == "save" else pd.DataFrame
        patch.setattr(owner, place, failing_after(calls, getattr(owner, place), full))
        with pytest.raises(TurnoverError, match=r"run\.partial: the disk is full; free some space and run the same command again"):
            train_digits(tmp_path / "run")
    assert names(tmp_path) == ["run.partial"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.training._train_epoch", failing_after(1, print, Interruption()))
        assert checksums(train_digits(tmp_path / "run")) == checksums(small_run)


def test_space_for_influences_is_taken_before_they_are_joined(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file that is mapped into memory would crash the process, without a word, when the disk fills up."""
    sparse: list[str] = []
    seen: list[str] = []
    real = InfluenceFiles.put

    def looking(*arguments: Any) -> None:
        for path in (run_copy / ".influence.new").glob("*.npy"):
            facts = path.stat()
            seen.append(path.name)
            if facts.st_blocks * 512 < facts.st_size:
                sparse.append(path.name)
        real(*arguments)

    monkeypatch.setattr(InfluenceFiles, "put", looking)
    compute_influence(Run(run_copy), device_choice="cpu")
    assert {"truth_members.npy", "prediction_estimate.npy"} <= set(seen)
    assert sparse == []


def test_a_disk_that_is_full_when_influences_are_joined_costs_no_computation(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = checksums(run_copy / "influence")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(influence_files, "allocated", failing_after(2, influence_files.allocated, OSError(28, "No space left on device")))
        with pytest.raises(TurnoverError, match=r"the disk is full; free some space and run the same command again"):
            compute_influence(Run(run_copy), device_choice="cpu")
    assert checksums(run_copy / "influence") == before
    monkeypatch.setattr(influence_pipeline, "influences", None)
    assert compute_influence(Run(run_copy), device_choice="cpu")["kept_pairs"] > 0
    assert checksums(run_copy / "influence") == before
