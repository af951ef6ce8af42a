"""Kills and fuzzing in small; `python -m tests.nightly.soak` does the same for minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def soak(*options: str) -> dict[str, int]:
    """What a process of its own says that it did: works are forked from it, and a hang ends it."""
    command = [sys.executable, "-m", "tests.nightly.soak", *options]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_nothing_is_lost_by_kills_at_any_moment() -> None:
    done = soak("--rounds", "20", "--examples", "0")
    assert (
        done["kills"] == 20
        and min(done[name] for name in ("train", "influence", "cleanse", "export", "apply", "flag"))
        >= 3
    )


def test_whatever_is_read_a_user_sees_one_line_or_a_result() -> None:
    done = soak("--rounds", "0", "--examples", "400", "--seed", "1")
    assert (
        done["examples"] >= 400
        and min(done[name] for name in ("pages", "manifests", "tables", "arrays", "images")) >= 20
    )
