"""Progress: one bar a stage on stderr, with the time left; or, where nobody watches a terminal, in
a small file.

A job (`turnover.jobs`) runs with nobody at its stderr. It names a file in the environment variable
`TURNOVER_PROGRESS`, and each stage writes there how far it is, a few times a second, over what the
stage before it wrote.

Which of how many processes this one is: what `torchrun` says of it in the environment. Needs no
torch.
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

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class World:
    """Process `rank` of `size`, of which `local_size` run on this machine, this one as number
    `local_rank` among them.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0


def world() -> World:
    """What torchrun has set; one process alone where it has not."""
    told = [os.environ.get(name, "") for name in _VARIABLES]
    return World(*map(int, told)) if all(number.isdigit() for number in told) else World()


Advance = Callable[[int], object]
"""What a stage calls with the number of units it has just finished."""

VARIABLE = "TURNOVER_PROGRESS"
_SECONDS = 0.3


@dataclass(frozen=True)
class Progress:
    """How far a stage is: `done` of `total` units; `seconds_left` at the stage's speed so far, None
    before its first unit.
    """

    stage: str
    done: int
    total: int
    unit: str
    seconds_left: float | None

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0


@contextmanager
def bar(total: int, label: str, unit: str) -> Iterator[Advance]:
    """Progress over `total` units; of several ranks the first one tells its own."""
    if not world().is_first:
        yield lambda _: None
        return
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
    """What a stage wrote last; None where nothing is written or nothing of it can be read."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        left = told["seconds_left"]
        found = Progress(
            str(told["stage"]),
            int(told["done"]),
            int(told["total"]),
            str(told["unit"]),
            None if left is None else float(left),
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return (
        found
        if found.done >= 0 and (found.seconds_left is None or 0 <= found.seconds_left < math.inf)
        else None
    )


class _Stage:
    """A stage that writes its progress to a file; one that cannot be written stops no work."""

    def __init__(self, path: Path, total: int, label: str, unit: str) -> None:
        self._path, self._total, self._label, self._unit = path, total, label, unit
        self._done, self._begun, self._written = 0, time.monotonic(), 0.0
        self._write()

    def advance(self, count: int) -> None:
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
            asdict(Progress(self._label, self._done, self._total, self._unit, left)),
            ensure_ascii=False,
        )
        beside = self._path.with_name(f".{self._path.name}.new")
        with contextlib.suppress(OSError):
            beside.write_text(text, encoding="utf-8")
            beside.replace(self._path)
