"""Paths that a person names: looked at once, so that what the system will not even look at is told in a line. No torch in here."""

from __future__ import annotations

from pathlib import Path

from turnover.errors import TurnoverError

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
        raise TurnoverError(f"{text[:_SHOWN]}: nobody here has this home folder; write the whole path") from None
    return looked_at(whole)


def looked_at(path: Path) -> Path:
    """The path itself, of which `exists`, `is_dir` and `is_file` can be asked now; nothing need be there.

    Raises:
        TurnoverError: if the system will not look: a name too long, a folder above it that may not be entered, links in a circle.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise TurnoverError(f"{str(path)[:_SHOWN]}: cannot be looked at ({why}); check the path and its permissions") from None
    return path
