"""File locks: whether a job's processes live, and that only one process does some work.

The system keeps a lock for the open file, which child processes inherit, and releases it when the
last of them ends, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from turnover.errors import TurnoverError
from turnover.storage.atomic import disk_error
from turnover.storage.progress import bar

_PAUSES = (0, 0.01, 0.05, 0.2)
"""Seconds before each attempt to lock: a process that only checks holds it for an instant."""
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""Errors of flock on file systems without locks, such as some shared ones."""


@contextmanager
def locked(path: Path) -> Iterator[int | None]:
    """Lock a file that may not exist yet; yields its descriptor, which a process may inherit and so
    keep locked, or None if it is locked already.

    Raises:
        OSError: if the file cannot be opened.
        TurnoverError: if the file system does not support locks.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield file if any(_take(file, path, fcntl.LOCK_EX, pause) for pause in _PAUSES) else None
    finally:
        os.close(file)


@contextmanager
def alone(path: Path, work: str, wait: bool = False) -> Iterator[None]:
    """Do `work` that no other process may do at the same time. Meanwhile a file with this process's
    number is locked.

    Raises:
        TurnoverError: if another process does it and this one does not `wait`; the text has its
            number and start time. Also if the file cannot be created, or the file system does not
            support locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _alone(path, work, wait)
    except OSError as error:
        raise disk_error(path, error) from None
    try:
        yield
    finally:
        # before it is closed: whoever has opened it sees that it is gone, and creates another
        path.unlink(missing_ok=True)
        os.close(file)


def is_locked(path: Path) -> bool:
    """Whether some process has it locked; the check itself locks it for an instant.

    Raises:
        TurnoverError: if the file system does not support locks.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _take(file, path, fcntl.LOCK_SH, 0)
    finally:
        os.close(file)


def wait_for(path: Path) -> int:
    """Lock a file, however long it takes; it stays locked while it is open.

    Raises:
        OSError: if the file cannot be opened.
        TurnoverError: if the file system does not support locks.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    _lock(file, path, fcntl.LOCK_EX)
    return file


def _alone(path: Path, work: str, wait: bool) -> int:
    """The locked file that is now at `path`, with this process's number in it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            if not any(_take(file, path, fcntl.LOCK_EX, pause) for pause in _PAUSES):
                if not wait:
                    raise TurnoverError(f"{_holder(file, work)}; wait until it is done, or end it")
                with bar(1, f"waiting: {_holder(file, work)}", "turns"):
                    _lock(file, path, fcntl.LOCK_EX)
            if _is_at(file, path):
                os.ftruncate(file, 0)
                os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _holder(file: int, work: str) -> str:
    """Which process has it locked, and since when."""
    number = os.pread(file, 20, 0).decode("ascii", "replace").strip()
    return (
        f"process {number or '(number unknown)'} is {work} already, since "
        f"{datetime.fromtimestamp(os.fstat(file).st_mtime):%Y-%m-%d %H:%M}"
    )


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _take(file: int, path: Path, how: int, pause: float) -> bool:
    time.sleep(pause)
    try:
        _lock(file, path, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(file: int, path: Path, how: int) -> None:
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise TurnoverError(
                f"{path}: its file system has no locks ({error.strerror}); choose a folder on a "
                "local disk"
            ) from None
        raise
