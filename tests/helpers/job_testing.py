"""Jobs for tests: quick ones, and ones that are hard to end."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from turnover.jobs import Job, read_job
from turnover.jobs.job import LOCK
from turnover.storage.lock import is_locked

QUICK = ["runs", "--folder", "nowhere"]
HANGING = ["export", "--run", "nowhere"]
"""What `hang` keeps from ever ending."""

_HANG = """
    import os, signal, subprocess, sys, time
    if sys.orig_argv[3:4] == ["export"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "1000"])
        with open(os.environ["TEST_CHILDREN"], "a") as file:
            print(os.getpid(), child.pid, file=file, flush=True)
        while True:
            time.sleep(1)
"""


def hang(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """From now on the command `export` has a child, ends neither by itself nor by SIGTERM, and
    notes both process numbers in the file returned.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(textwrap.dedent(_HANG))
    patch.setenv("PYTHONPATH", str(folder))
    patch.setenv("TEST_CHILDREN", str(folder / "children"))
    return folder / "children"


def wait(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so; fails if it never is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def ended(job: Job) -> Job:
    """The job when none of its processes lives any more."""
    wait(lambda: not read_job(job.folder).state.active and not is_locked(job.folder / LOCK))
    return read_job(job.folder)


def lives(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
