"""Files and folders that are whole or absent: written beside their place, then renamed into it.

Paths that a person names: looked at once, so that what the system will not even look at is told in
a line. No torch in here.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from turnover.errors import TurnoverError


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, make it durable, and rename it into place; nothing is
    left on failure.

    Raises:
        TurnoverError: if the disk is full or the folder cannot be written to.
    """
    # of this call alone, also where containers share a folder
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
    """Delete what processes that were killed left of `write_atomic` in a folder in which nobody
    else writes.
    """
    for scrap in folder.glob(".*.new"):
        scrap.unlink(missing_ok=True)


def replace_folder(beside: Path, path: Path) -> None:
    """Rename the finished folder `beside` to `path`; an older `path` goes only when the new one is
    in place.
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


def disk_error(path: Path, error: OSError) -> TurnoverError:
    """What a failed write means for the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TurnoverError(
            f"{path}: the disk is full; free some space and run the same command again"
        )
    return TurnoverError(
        f"{path}: cannot be written ({error.strerror or error}); check the folder and its "
        "permissions"
    )


_SHOWN = 300
"""Characters of a path that an error shows: one that is too long is told, not repeated."""


def user_path(text: str) -> Path:
    """The whole path that a person means, `~` and `~name` unfolded; nothing need be there.

    Raises:
        TurnoverError: if it names a home that nobody has, or cannot be looked at.
    """
    try:
        whole = Path(text).expanduser().absolute()
    except RuntimeError:
        raise TurnoverError(
            f"{text[:_SHOWN]}: nobody here has this home folder; write the whole path"
        ) from None
    return looked_at(whole)


def looked_at(path: Path) -> Path:
    """The path itself, of which `exists`, `is_dir` and `is_file` can be asked now; nothing need be
    there.

    Raises:
        TurnoverError: if the system will not look: a name too long, a folder above it that may not
            be entered, links in a circle.
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
