"""A file, a folder and a run are whole or absent at whatever moment their writer is killed."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.builders import (
    ONE_THREAD,
    ROOT,
    checksums,
    names,
    run_killed,
    train_digits,
)
from turnover import Run
from turnover.runs.run import find_runs
from turnover.storage.atomic import sweep

WRITE_FILE = """
from turnover.storage.atomic import write_atomic
write_atomic(Path(sys.argv[1]) / "a.txt", lambda beside: beside.write_text("new" * 1000))
"""
REPLACE_FOLDER = """
from turnover.storage.atomic import replace_folder
replace_folder(Path(sys.argv[1]) / "beside", Path(sys.argv[1]) / "part")
"""


def test_a_file_is_whole_at_whatever_moment_its_writer_is_killed(tmp_path: Path) -> None:
    """And what the killed one left is swept."""
    path, kills, seen, most = tmp_path / "a.txt", 0, set(), 0
    path.write_text("old")
    while run_killed(WRITE_FILE, tmp_path, "a.txt", kills + 1) is None:
        kills += 1
        seen.add(path.read_text())
        most = max(most, len(names(tmp_path)))
    assert kills >= 3 and most > 1 and seen == {"old", "new" * 1000}
    sweep(tmp_path)
    assert path.read_text() == "new" * 1000 and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_whole_or_absent_at_whatever_moment_its_writer_is_killed(
    there: bool, tmp_path: Path
) -> None:
    kills, done = 0, False
    while not done:
        place = tmp_path / str(kills)
        for name, content in (("beside", "new"), ("part", "old")):
            if there or name == "beside":
                (place / name).mkdir(parents=True)
                for file in ("file", "another"):
                    (place / name / file).write_text(content)
        done = run_killed(REPLACE_FOLDER, place, "part", kills + 1) is not None
        part = place / "part"
        if part.exists():
            found = {(part / name).read_text() for name in ("file", "another")}
            assert found in ({"new"}, {"old"})
        kills += 1
    assert kills >= 2 and names(tmp_path / str(kills - 1)) == ["part"]


KILLED_RUN = """
import json
from turnover.models.registry import TrainSettings
from turnover.workflows.train import train_run
settings = TrainSettings.of(**json.loads(sys.argv[5]))
print(json.dumps(train_run(settings, Path(sys.argv[1]) / "run", "cpu")))
"""


def run_until_killed(
    folder: Path, start: str = "settings.json", count: int = 0, seconds: float = 0.0
) -> dict[str, Any] | None:
    """Train `folder`/run in a process that is killed at its count-th file operation or after some
    seconds; None if it was, else its results without the time they took and where they went."""
    settings = json.dumps({"data": "digits", "limit": 40, "members": 1, "seed": 1})
    printed = run_killed(KILLED_RUN, folder, start, count, seconds, settings)
    if printed is None:
        return None
    told = json.loads(printed).items()
    return {name: value for name, value in told if name not in ("run", "seconds")}


def test_a_run_killed_again_and_again_is_whole_or_absent_and_ends_with_the_same_bits(
    tmp_path: Path,
) -> None:
    chance, folder, whole = random.Random(7), tmp_path / "killed", tmp_path / "whole"
    folder.mkdir()
    whole.mkdir()
    expected = run_until_killed(whole)
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
            assert Run(run).misclassified_positions
        assert set(names(folder)) < {".run.lock", "run", "run.partial"}
        if (folder / "run").exists():
            shutil.rmtree(folder / "run")
    assert expected is not None and run_until_killed(folder) == expected
    assert checksums(folder / "run") == checksums(whole / "run") and names(folder) == ["run"]
    weights, others = (load_file(path / "run" / "weights.safetensors") for path in (folder, whole))
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


LIMITED_RUN = """
import resource, sys
from pathlib import Path
from turnover.errors import TurnoverError
from turnover.models.registry import TrainSettings
from turnover.workflows.train import train_run
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    train_run(TrainSettings("digits", limit=20, members=1), Path(sys.argv[1]), "cpu")
except TurnoverError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [60, 100_000])
def test_a_file_that_the_system_will_not_write_is_one_clear_line(size: int, tmp_path: Path) -> None:
    """First the settings do not fit, then the checkpoint does not."""
    command = [sys.executable, "-c", LIMITED_RUN, str(tmp_path / "run"), str(size)]
    done = subprocess.run(
        command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1 and "run.partial" in done.stdout
    assert "cannot be written (File too large)" in done.stdout
    assert not (tmp_path / "run").exists() and list(tmp_path.rglob("*.new")) == []
    run = train_digits(tmp_path / "run", limit=20, members=1, groups=None, seed=0)
    assert len(Run(run).train) == 20
