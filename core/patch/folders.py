"""A folder of images, one folder a class: cleansed into a copy, and restored from what the undo file says."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from turnover.atomic import disk_error, replace_folder
from turnover.data.folders import files_in
from turnover.data.images import MAX_BYTES
from turnover.errors import TurnoverError
from turnover.patch.content import file_hash
from turnover.patch.plan import Plan
from turnover.runs import sha256

LABEL = "label"
"""The column of `ImageFolder` that holds the names of the folders."""


class ImageFolder:
    """The files in the folders of a folder; see `turnover.patch.plan.Source`. An id may be a file's path, its name, or its name without the end.

    Raises:
        TurnoverError: if the folder has no folders with files, has links in it, or cannot be read.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self.name, self._folder, self._shape = str(folder), folder, shape
        self.paths = [path for path in files_in(folder) if len(path.parts) > 1]
        if not self.paths:
            raise TurnoverError(f"{folder}: no folders with images in it; name the folder that holds one folder a class")
        names = {"path": [str(path) for path in self.paths], "name": [path.name for path in self.paths], "stem": [path.stem for path in self.paths]}
        self.columns: dict[str, Sequence[Any]] = {**names, LABEL: [path.parts[0] for path in self.paths]}
        self._known: dict[int, str] = {}

    def place(self, row: int) -> str:
        """The path of a file in the folder."""
        return str(self.paths[row])

    def digest(self, row: int) -> str:
        """The hash of an image as a model sees it."""
        if row not in self._known:
            path = self._folder / self.paths[row]
            large = path.stat().st_size > MAX_BYTES
            self._known[row] = "" if large else file_hash(str(path), path.read_bytes(), self._shape)
        return self._known[row]

    def moves(self, plan: Plan) -> dict[PurePosixPath, PurePosixPath | None]:
        """Where each changed file goes: into the folder of its new class, or nowhere (None) if it is dropped."""
        taken = {*self.paths}
        where: dict[PurePosixPath, PurePosixPath | None] = {self.paths[row]: None for row in plan.dropped}
        for row, label in plan.relabelled.items():
            path = self.paths[row]
            place = _free(PurePosixPath(label, *path.parts[1:]), path.parts[0], taken)
            taken.add(place)
            where[path] = place
        return where


def folders_in(folder: Path) -> list[PurePosixPath]:
    """All folders below a folder, as paths relative to it."""
    return [PurePosixPath(path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*")) if path.is_dir()]


def folder_hash(folder: Path) -> str:
    """SHA-256 over all folders below a folder, and the paths and contents of all files."""
    digest = hashlib.sha256("".join(f"{path}/\n" for path in folders_in(folder)).encode("utf-8", "surrogateescape"))
    for path in files_in(folder):
        digest.update(f"{path}\0{sha256(folder / path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def changes_of(folder: Path, moves: dict[PurePosixPath, PurePosixPath | None]) -> list[dict[str, Any]]:
    """What a cleansing does: which folders it makes, and of each file that it changes, where it was, and where it is now, or what was in it."""
    there = {*folders_in(folder)}
    made = {parent for now in moves.values() if now for parent in now.parents if parent.parts and parent not in there}
    return [{"made": str(path)} for path in sorted(made)] + [
        {"was": str(path), "now": str(now)} if now else {"was": str(path), "content": base64.b64encode((folder / path).read_bytes()).decode("ascii")}
        for path, now in sorted(moves.items())
    ]


def copy_cleansed(folder: Path, out: Path, moves: dict[PurePosixPath, PurePosixPath | None], finish: Callable[[Path], None]) -> None:
    """Write a copy of a folder with files moved and left out; whole or not at all. `finish` sees it before it is in its place."""
    _copy(folder, out, folders_in(folder), lambda path: moves.get(path, path), finish)


def copy_restored(folder: Path, out: Path, changes: Iterable[bytes], expected: str) -> None:
    """Write a copy of a cleansed folder as it was before; `changes` are lines of JSON, `expected` the hash of what was before.

    Raises:
        TurnoverError: if the changes do not go with the folder, or the copy cannot be written.
    """
    kept, back = folders_in(folder), dict[PurePosixPath, PurePosixPath]()
    dropped: list[tuple[PurePosixPath, bytes]] = []
    try:
        for line in changes:
            change = json.loads(line)
            if "made" in change:
                kept.remove(_inside(change["made"]))
            elif "content" in change:
                dropped.append((_inside(change["was"]), base64.b64decode(change["content"], validate=True)))
            else:
                back[_inside(change["now"])] = _inside(change["was"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _foreign(folder) from None

    def add(beside: Path) -> None:
        for path, content in dropped:
            (beside / path).parent.mkdir(parents=True, exist_ok=True)
            (beside / path).write_bytes(content)
        if folder_hash(beside) != expected:
            raise _foreign(folder)

    _copy(folder, out, kept, lambda path: back.get(path, path), add)


def _copy(
    folder: Path, out: Path, folders: Iterable[PurePosixPath], place: Callable[[PurePosixPath], PurePosixPath | None], finish: Callable[[Path], None]
) -> None:
    """Copy these folders, and each file to its `place` or not at all, to a folder beside `out`; when `finish` is done with it, it is renamed."""
    beside = out.with_name(f".{out.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        for inner in folders:
            (beside / inner).mkdir(parents=True, exist_ok=True)
        for path in files_in(folder):
            to = place(path)
            if to is not None:
                (beside / to).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(folder / path, beside / to)
        finish(beside)
        replace_folder(beside, out)
    except OSError as error:
        raise disk_error(out, error) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _free(path: PurePosixPath, origin: str, taken: set[PurePosixPath]) -> PurePosixPath:
    """The path itself or, if a file is there, one that says where the file came from."""
    number, free = 1, path
    while free in taken:
        free = path.with_name(f"{path.stem}-from-{origin}{'' if number == 1 else f'-{number}'}{path.suffix}")
        number += 1
    return free


def _foreign(folder: Path) -> TurnoverError:
    return TurnoverError(f"{folder}: the undo file does not go with it, or is damaged; give what was written beside it")


def _inside(text: str) -> PurePosixPath:
    """A path that stays in its folder.

    Raises:
        ValueError: if it does not.
    """
    path = PurePosixPath(text)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in text:
        raise ValueError(text)
    return path
