"""File locks: that only one process does some work, and whether a job's processes live.

The system releases a lock when the last process that has the file open ends, however it ends. A
job's processes pass the open file on to their children. A `FileLock` cannot be passed on, since it
unlocks the file for all as its own process lets go; so these locks are taken by descriptor.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout, lock_descriptor

from turnover.errors import TurnoverError
from turnover.storage.atomic import disk_error
from turnover.storage.progress import bar

_PATIENCE, _PAUSE = 0.25, 0.02
"""Seconds for which a lock is tried, and between two attempts: who only checks holds it for an
instant.
"""


@contextmanager
def alone(path: Path, work: str, wait: bool = False) -> Iterator[None]:
    """Do `work` that no other process may do at the same time. Meanwhile a file with this process's
    number is locked.

    Raises:
        TurnoverError: if another process does it and this one does not `wait`; the text has its
            number and start time. Also if the file cannot be created, or the file system does not
            support locks.
    """
    lock = FileLock(path, mode=0o600, fallback_to_soft=False, on_acquired=_sign)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(_PATIENCE, _PAUSE)
        except Timeout:
            holder = _holder(path, work)
            if not wait:
                raise TurnoverError(f"{holder}; wait until it is done, or end it") from None
            with bar(1, f"waiting: {holder}", "turns"):
                lock.acquire()
    except OSError as error:
        raise disk_error(path, error) from None
    try:
        yield
    finally:
        # before it is released: whoever has opened it sees that it is gone, and creates another
        path.unlink(missing_ok=True)
        lock.release()


def _sign(file: int) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)


def _holder(path: Path, work: str) -> str:
    """Which process has it locked, and since when."""
    try:
        number, since = path.read_text("ascii", "replace").strip()[:20], path.stat().st_mtime
    except OSError:  # it has just ended
        number, since = "", time.time()
    return (
        f"process {number or '(number unknown)'} is {work} already, since "
        f"{datetime.fromtimestamp(since):%Y-%m-%d %H:%M}"
    )


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[int | None]:
    """Lock a file that may not exist yet; yields its descriptor, which a process may inherit and so
    keep locked, or None if it is locked already and this one does not `wait`.

    Raises:
        OSError: if the file cannot be opened or locked.
    """
    file, end = os.open(path, os.O_RDWR | os.O_CREAT, 0o600), time.monotonic() + _PATIENCE
    try:
        while not (taken := lock_descriptor(file, blocking=False)):
            if not wait and time.monotonic() > end:
                break
            time.sleep(_PAUSE)
        yield file if taken else None
    finally:
        os.close(file)


def is_locked(path: Path) -> bool:
    """Whether some process has it locked. The check itself locks it for an instant: shared, which
    filelock does not offer, so that two who check do not take each other for its holder.

    Raises:
        TurnoverError: if the file system does not support locks.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise disk_error(path, error) from None
    finally:
        os.close(file)
    return False
