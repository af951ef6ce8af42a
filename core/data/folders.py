"""What lies in a folder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from turnover.data.tables import unreadable
from turnover.errors import TurnoverError


def files_in(folder: Path) -> list[PurePosixPath]:
    """All files below a folder, as paths relative to it.

    Raises:
        TurnoverError: if it cannot be read, or there is a link in it, which a copy would not keep.
    """
    try:
        found = sorted(folder.rglob("*"))
    except OSError as error:
        raise unreadable(folder, error) from None
    for path in found:
        if path.is_symlink():
            raise TurnoverError(f"{path}: a link; put the file itself there")
    return [PurePosixPath(path.relative_to(folder).as_posix()) for path in found if path.is_file()]


def inside(folder: Path, path: str) -> Path:
    """The file that a path in a table leads to, from the table's folder.

    Raises:
        ValueError: if it leads out of the folder or over a link.
    """
    file = Path(folder, path)
    if file.resolve() != folder.resolve() / file.relative_to(folder):
        raise ValueError(path)
    return file
