"""Files and folders that are whole or absent, and paths that a user names. Needs no torch.

A file is written beside its final path, then renamed. A user's path is checked once, so that a path
that the system cannot access gives a one-line error.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from turnover.errors import TurnoverError

# Whole or absent


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, make it durable, and rename it into place; nothing is
    left on failure.

    Raises:
        TurnoverError: if the disk is full or the folder cannot be written to.
    """
    # unique to this call, also where containers share a folder
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise disk_error(path, error) from None
    finally:
        beside.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete the temporary files that killed processes left in a folder; nobody else may be writing
    in it.
    """
    for scrap in folder.glob(".*.new"):
        scrap.unlink(missing_ok=True)


def replace_folder(beside: Path, path: Path) -> None:
    """Rename the finished folder `beside` to `path`; an older `path` is deleted only once the new
    one is in place.
    """
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    try:
        if path.exists():
            path.rename(old)
        beside.rename(path)
    except OSError as error:
        raise disk_error(path, error) from None
    shutil.rmtree(old, ignore_errors=True)


def identity(path: Path) -> tuple[int, ...]:
    """What differs for a replacement of a file even where a clock was set back or a copy preserved
    its time; () if there is no file.
    """
    try:
        facts = path.stat()
    except OSError:
        return ()
    return facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_size


def disk_error(path: Path, error: OSError) -> TurnoverError:
    """The error for a failed write or lock."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TurnoverError(
            f"{path}: the disk is full; free some space and run the same command again"
        )
    if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
        return TurnoverError(
            f"{path}: its file system has no locks ({error.strerror}); choose a folder on a local "
            "disk"
        )
    return TurnoverError(
        f"{path}: cannot be written ({error.strerror or error}); check the folder and its "
        "permissions"
    )


# Paths that a user names

_SHOWN = 300
"""Characters of a path that an error shows."""


def user_path(text: str) -> Path:
    """The absolute path that a user means, with `~` and `~name` expanded; it need not exist.

    Raises:
        TurnoverError: if it names a home of no user, or cannot be accessed.
    """
    try:
        whole = Path(text).expanduser().absolute()
    except RuntimeError:
        raise TurnoverError(
            f"{text[:_SHOWN]}: nobody here has this home folder; write the whole path"
        ) from None
    return looked_at(whole)


def check_free(path: Path, again: str) -> None:
    """Check that nothing is at a path that will be written.

    Raises:
        TurnoverError: if something is; the text says to choose `again`.
    """
    if looked_at(path).exists():
        raise TurnoverError(f"{path} exists; choose {again}, or delete it first")


def looked_at(path: Path) -> Path:
    """The path itself, so that `exists`, `is_dir` and `is_file` do not fail; it need not exist.

    Raises:
        TurnoverError: if the system cannot access it: a name too long, a parent folder without
            permission, circular links.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise TurnoverError(
            f"{str(path)[:_SHOWN]}: cannot be looked at ({why}); check the path and its permissions"
        ) from None
    return path
