"""Folders of images as tables, with one folder a class; and copies of them, cleansed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from turnover.data.base import Origin
from turnover.data.images import IMAGE_ENDINGS
from turnover.data.tables.checks import unreadable
from turnover.data.tables.table import Table
from turnover.errors import TurnoverError
from turnover.storage.atomic import disk_error, replace_folder

_SYSTEM = re.compile(
    r"__macosx|(eh)?thumbs\.db|desktop\.ini|icon\r|lost\+found|@eadir|#recycle|\$recycle\.bin|"
    r"system volume information|\..*|~\$.*",
    re.IGNORECASE | re.DOTALL,
)
"""Names of hidden files and folders, and of those that operating systems and programs make."""
_UNREAD = f"no image that can be read (files that end with {', '.join(IMAGE_ENDINGS)})"
_SPLITS = frozenset(("train", "training", "val", "valid", "validation", "dev", "test", "testing"))


def files_in(folder: Path, hidden: bool = True) -> list[PurePosixPath]:
    """All files below a folder, or those that are not hidden, as paths relative to it.

    Raises:
        TurnoverError: if it cannot be read, or contains a link, which a copy would not keep.
    """
    try:
        paths = [
            path
            for path in sorted(folder.rglob("*"))
            if hidden or not _is_hidden(path.relative_to(folder))
        ]
    except OSError as error:
        raise unreadable(folder, error) from None
    for path in paths:
        if path.is_symlink():
            raise TurnoverError(f"{path}: a link; put the file itself there")
    return [PurePosixPath(path.relative_to(folder).as_posix()) for path in paths if path.is_file()]


def inside(folder: Path, path: str) -> Path:
    """The file that a path in a table names, relative to the table's folder.

    Raises:
        ValueError: if it leads out of the folder or over a link.
    """
    file = Path(folder, path)
    if file.resolve() != folder.resolve() / file.relative_to(folder):
        raise ValueError(path)
    return file


def folder_table(folder: Path) -> Table:
    """Images in folders; an id is a file's path, which `turnover apply` uses."""
    paths = files_in(folder, hidden=False)
    inner = [path for path in paths if len(path.parts) > 1]
    images = [path for path in inner if path.suffix.lower() in IMAGE_ENDINGS]
    classes, known = [path.parts[0] for path in images], {*images}
    _check_classes(folder, inner, {*classes})
    names, stray = [*map(str, images)], [path for path in paths if path not in known]
    return Table(
        str(folder),
        folder.name,
        {"image": names, "label": classes, "id": names},
        _Files(folder, images),
        "",
        Origin(str(folder.absolute())),
        folder=folder,
        places=names,
        stray=[*map(str, stray)],
        unread=[
            str(path)
            for path in stray
            if len(path.parts) > 1 or path.suffix.lower() in IMAGE_ENDINGS
        ],
    )


def _check_classes(folder: Path, inner: Sequence[PurePosixPath], classes: set[str]) -> None:
    """Check that there are folders of classes, and that others are hidden.

    Raises:
        TurnoverError: if there are none or others.
    """
    if not classes:
        raise TurnoverError(
            f"{folder}/{inner[0]}: {_UNREAD}; convert the images"
            if inner
            else f"{folder}: no folders with images in it; name the folder that holds one folder "
            "of images a class"
        )
    if len(classes) > 1 and {name.lower() for name in classes} <= _SPLITS:
        names = " and ".join(sorted(classes)[:3])
        raise TurnoverError(
            f"{folder}: its folders {names} are splits, not classes; name them with --train and "
            "--validation"
        )
    for path in sorted(filter(Path.is_dir, folder.iterdir())):
        if path.name not in classes and not _is_hidden(PurePath(path.name)):
            raise TurnoverError(
                f"{path}: a class's folder with {_UNREAD}; convert its images, or move the "
                "folder elsewhere"
            )


def _is_hidden(path: PurePath) -> bool:
    """Whether a file or a folder above it is hidden, or made by an operating system."""
    return any(map(_SYSTEM.fullmatch, path.parts))


@dataclass(frozen=True)
class _Files:
    """The images of a folder, which is copied with all else that is in it."""

    folder: Path
    images: Sequence[PurePosixPath]

    def write(
        self, out: Path, dropped: Collection[int], labels: Mapping[int, Any], column: str
    ) -> None:
        """Write a copy; see `turnover.data.tables.table.Form`. An image with another label is moved
        to the folder of that.
        """
        if self.folder.resolve() in out.resolve().parents:
            raise TurnoverError(
                f"{out} is in {self.folder}, which is not changed; choose another --out"
            )
        gone, places = {self.images[row] for row in dropped}, self._moved(labels)
        beside = out.with_name(f".{out.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        try:
            for path in (self.folder, *filter(Path.is_dir, self.folder.rglob("*"))):
                (beside / path.relative_to(self.folder)).mkdir(parents=True, exist_ok=True)
            for file in files_in(self.folder):
                if file not in gone:
                    place = beside / places.get(file, file)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(self.folder / file, place)
            replace_folder(beside, out)
        except OSError as error:
            raise disk_error(out, error) from None
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _moved(self, labels: Mapping[int, str]) -> dict[PurePosixPath, PurePosixPath]:
        """The new places of images, each in its new class's folder under a name that is free."""
        taken, moved = {*files_in(self.folder)}, dict[PurePosixPath, PurePosixPath]()
        for row, label in labels.items():
            path = self.images[row]
            moved[path] = _free(PurePosixPath(label, *path.parts[1:]), path.parts[0], taken)
            taken.add(moved[path])
        return moved


def _free(path: PurePosixPath, origin: str, taken: set[PurePosixPath]) -> PurePosixPath:
    """The path itself or, if taken, one that names the folder of origin."""
    number, free = 1, path
    while free in taken:
        free = path.with_name(
            f"{path.stem}-from-{origin}{'' if number == 1 else f'-{number}'}{path.suffix}"
        )
        number += 1
    return free
