"""Progress on stderr: one bar a stage, with the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Advance = Callable[[int], object]
"""What a stage calls with the number of units it has just finished."""


@contextmanager
def bar(total: int, label: str, unit: str) -> Iterator[Advance]:
    """A progress bar over `total` units; silent where stderr is not read by a person and nothing takes long."""
    with tqdm(total=total, desc=label, unit=f" {unit}", file=sys.stderr, mininterval=0.3, dynamic_ncols=True) as line:
        yield line.update
