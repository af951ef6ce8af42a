"""Progress of stages, on stderr or in a file. Needs no torch.

Each stage shows one bar on stderr, with the time left. A job (`turnover.jobs`) has no terminal: it
names a file in the environment variable `TURNOVER_PROGRESS`, which each stage overwrites with its
progress a few times a second.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

Advance = Callable[[float], object]
"""Called by a stage with the number of units that it has just finished."""


def silent(_: float) -> None:
    """No progress display."""


VARIABLE = "TURNOVER_PROGRESS"
_SECONDS = 0.3


@dataclass(frozen=True)
class Progress:
    """Progress of a stage: `done` of `total` units; `seconds_left` at the stage's speed so far,
    None before its first unit.
    """

    stage: str
    done: int
    total: int
    unit: str
    seconds_left: float | None

    @property
    def share(self) -> float:
        """Share of the units that are done, from 0 to 1."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0


@contextmanager
def bar(total: int, label: str, unit: str) -> Iterator[Advance]:
    """Progress over `total` units."""
    file = os.environ.get(VARIABLE)
    if file:
        yield _Stage(Path(file), total, label, unit).advance
        return
    with tqdm(
        total=total,
        desc=label,
        unit=f" {unit}",
        file=sys.stderr,
        mininterval=_SECONDS,
        dynamic_ncols=True,
    ) as line:
        yield line.update


def read_progress(path: Path) -> Progress | None:
    """The progress that a stage wrote last; None if there is none or it cannot be read."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        left = facts["seconds_left"]
        progress = Progress(
            str(facts["stage"]),
            int(facts["done"]),
            int(facts["total"]),
            str(facts["unit"]),
            None if left is None else float(left),
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return (
        progress
        if progress.done >= 0
        and (progress.seconds_left is None or 0 <= progress.seconds_left < math.inf)
        else None
    )


class _Stage:
    """A stage that writes its progress to a file; a failed write does not stop the work."""

    def __init__(self, path: Path, total: int, label: str, unit: str) -> None:
        self._path, self._total, self._label, self._unit = path, total, label, unit
        self._done, self._begun, self._written = 0.0, time.monotonic(), 0.0
        self._write()

    def advance(self, count: float) -> None:
        self._done += count
        if self._done >= self._total or time.monotonic() - self._written >= _SECONDS:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        left = (
            (self._written - self._begun) * max(0, self._total - self._done) / self._done
            if self._done
            else None
        )
        text = json.dumps(
            asdict(Progress(self._label, round(self._done), self._total, self._unit, left)),
            ensure_ascii=False,
        )
        beside = self._path.with_name(f".{self._path.name}.new")
        with contextlib.suppress(OSError):
            beside.write_text(text, encoding="utf-8")
            beside.replace(self._path)
