"""The lock that says whether a job's processes live; kept by the open file, which child processes inherit."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PAUSES = (0, 0.01, 0.05, 0.2)
"""Seconds before each try to lock: somebody who only looks has it for an instant."""


@contextmanager
def locked(path: Path) -> Iterator[int | None]:
    """Lock a file that may not exist yet: its open file, which a process may inherit and so keep locked; None if it is locked already.

    Raises:
        OSError: if the file cannot be opened.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield file if any(_take(file, fcntl.LOCK_EX, pause) for pause in _PAUSES) else None
    finally:
        os.close(file)


def is_locked(path: Path) -> bool:
    """Whether some process has it locked; looking does not keep anybody from locking it, but for an instant."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _take(file, fcntl.LOCK_SH, 0)
    finally:
        os.close(file)


def wait_for(path: Path) -> int:
    """Lock a file, however long it takes; it stays locked while it is open.

    Raises:
        OSError: if the file cannot be opened.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _take(file: int, how: int, pause: float) -> bool:
    time.sleep(pause)
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
