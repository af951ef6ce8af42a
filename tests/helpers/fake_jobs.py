"""Job folders as `turnover.jobs` keeps them, written without starting anything."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from turnover.jobs.job import BEGUN, CANCELLED, FACTS, FOLDER, LOCK, LOG, OUTCOME, PROGRESS


def fake_job(
    runs: Path,
    steps: Sequence[Sequence[str]],
    label: str = "a job",
    name: str = "20260101-000000",
    **notes: Any,
) -> Path:
    """A job that is over or lost; `outcome`, `log`, `cancelled`, `begun` and `progress` are what
    was noted of it.
    """
    folder = runs / FOLDER / name
    folder.mkdir(parents=True)
    (folder / FACTS).write_text(
        json.dumps(
            {
                "label": label,
                "created": "2026-01-01T00:00:00+00:00",
                "steps": [list(step) for step in steps],
            }
        )
    )
    for file in (
        mark for mark, told in ((CANCELLED, "cancelled"), (BEGUN, "begun")) if notes.get(told)
    ):
        (folder / file).touch()
    for file, told in ((OUTCOME, "outcome"), (PROGRESS, "progress")):
        if told in notes:
            (folder / file).write_text(json.dumps(notes[told]))
    (folder / LOG).write_text(notes.get("log", ""))
    (folder / LOCK).touch()
    return folder


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Hold a job's lock, as its processes do while they live."""
    with (folder / LOCK).open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
