"""Artifacts: what took long to compute, kept in a run's folder; each is whole or absent.

- A *file*: `NAME.json` has facts, `NAME.npz` arrays and facts. A schema
  (`turnover.storage.schema.Facts`) says what the facts must be.
- A *folder* of files and a manifest, which is written last and checked first: facts, a format
  number, and size and checksum of each file. So are a run and its influence.
- `Parts` of a larger work, a file each: a stopped job goes on with them.

Whoever reads one gets its value, or learns that it is absent, stale (made with something else) or
damaged: then one line names the file and the remedy.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from turnover.errors import TurnoverError
from turnover.storage.atomic import disk_error, write_atomic
from turnover.storage.lock import alone
from turnover.storage.schema import Facts, Manifest, readable, require

Schema = TypeVar("Schema", bound=Facts)
Value = TypeVar("Value")
Arrays = Mapping[str, np.ndarray]

_FACTS = "facts"
"""The name in an .npz file under which its facts stand, as JSON."""


def sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(made_with: Mapping[str, Any]) -> str:
    """SHA-256 of all that something was made with: checksums of files, settings."""
    return hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()


# Files


def write_facts(path: Path, facts: Mapping[str, Any]) -> Path:
    """Write facts as JSON, and the folder if it is missing; returns the file.

    Raises:
        TurnoverError: if the disk is full or the folder cannot be written to.
    """
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    return _write(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_arrays(path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> Path:
    """Write arrays and facts as .npz, and the folder if it is missing; returns the file.

    Raises:
        TurnoverError: if the disk is full or the folder cannot be written to.
    """

    def write(beside: Path) -> None:
        with beside.open("wb") as file:
            np.savez(file, **{_FACTS: np.array(json.dumps(facts))}, **arrays)  # type: ignore[arg-type]

    return _write(path, write)


def _write(path: Path, write: Callable[[Path], object]) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(path.parent, error) from None
    write_atomic(path, write)
    return path


def read_facts(path: Path, schema: type[Schema], remedy: str) -> Schema:
    """Facts from a JSON file.

    Raises:
        TurnoverError: if it is missing or damaged; the text ends with `remedy`.
    """
    with readable(path, remedy):
        return schema.model_validate_json(path.read_bytes())


def read_arrays(
    path: Path, schema: type[Schema], remedy: str
) -> tuple[dict[str, np.ndarray], Schema]:
    """Arrays and facts from an .npz file.

    Raises:
        TurnoverError: if it is missing or damaged; the text ends with `remedy`.
    """
    with readable(path, remedy), np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
        return arrays, schema.model_validate_json(str(arrays.pop(_FACTS, "{}")))


def read_each(
    paths: Iterable[Path], read: Callable[[Path], Value]
) -> tuple[list[Value], list[str]]:
    """What `read` makes of each file, and the problems of damaged ones, a line each: these hide no
    other. A file that is deleted meanwhile is left out.
    """
    values, problems = [], []
    for path in paths:
        try:
            values.append(read(path))
        except TurnoverError as error:
            if path.exists():
                problems.append(str(error))
    return values, problems


# Folders with a manifest

FORMAT = 1
MANIFEST = "manifest.json"


def write_manifest(folder: Path, facts: Mapping[str, Any], files: Sequence[str]) -> None:
    """Write a folder's manifest: the facts, the format number, and size and checksum of each
    file.
    """
    listed = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        for name in files
    }
    write_facts(folder / MANIFEST, {"format": FORMAT, **facts, "files": listed})


def read_manifest(folder: Path, remedy: str, schema: type[Manifest] = Manifest) -> dict[str, Any]:
    """A folder's manifest, if it fits its schema and all files are as it says.

    Raises:
        TurnoverError: for a manifest that is missing, foreign or of another format, and for a file
            that is missing, truncated or edited; the text names the file and ends with `remedy`.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise TurnoverError(f"{folder}: no {MANIFEST}, so this is not a run; {remedy}")
    with readable(path, remedy):
        text = path.read_text(encoding="utf-8")
        manifest: dict[str, Any] = json.loads(text)
        if not isinstance(manifest, dict) or not {"format", "files"} <= set(manifest):
            raise TurnoverError(f"{path}: not a Turnover manifest; {remedy}")
        version = manifest["format"]
        if version != FORMAT:
            newer = isinstance(version, int) and version > FORMAT
            raise TurnoverError(
                f"{path}: format {version!s:.20}, this version reads format {FORMAT}; "
                f"{'update Turnover, or ' if newer else ''}{remedy}"
            )
        files = schema.model_validate_json(text).files
    for name, listed in files.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise TurnoverError(f"{file}: missing; {remedy}")
        size = file.stat().st_size
        if size != listed.bytes:
            raise TurnoverError(
                f"{file}: truncated or edited ({size:,} bytes instead of {listed.bytes:,}); "
                f"{remedy}"
            )
        if sha256(file) != listed.sha256:
            raise TurnoverError(f"{file}: its contents were changed after it was written; {remedy}")
    return manifest


# Parts of a larger work

_ANEW = "give the same command again to compute this part anew"


class Parts:
    """The finished parts of a work in its folder, `NAME.npz` each: arrays and facts.

    `made_with` is all that they depend on. Each part carries its fingerprint; one of another
    fingerprint, or a damaged one, is removed and counts as missing.
    """

    def __init__(self, folder: Path, made_with: Mapping[str, Any]) -> None:
        self.folder, self.fingerprint = folder, fingerprint(made_with)

    def __contains__(self, name: str) -> bool:
        path = self.path(name)
        with (
            suppress(TurnoverError),
            readable(path, _ANEW),
            np.load(path, allow_pickle=False) as file,
        ):
            if json.loads(str(file[_FACTS]))["made_with"] == self.fingerprint:
                return True
        path.unlink(missing_ok=True)
        return False

    def load(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and facts of a part.

        Raises:
            TurnoverError: if it is missing, of another fingerprint or damaged; it is then removed.
        """
        path, remedy = self.path(name), f"it is removed; {_ANEW}"
        try:
            with readable(path, remedy):
                arrays, facts = read_arrays(path, _Part, remedy)
                require(facts.made_with == self.fingerprint, "fingerprint")
        except TurnoverError:
            path.unlink(missing_ok=True)
            raise
        return arrays, dict(facts.model_extra or {})

    def save(self, name: str, arrays: Arrays, **facts: Any) -> None:
        """Keep a part.

        Raises:
            TurnoverError: if the disk is full or the folder cannot be written to.
        """
        write_arrays(self.path(name), arrays, {"made_with": self.fingerprint, **facts})

    def path(self, name: str) -> Path:
        """The file of a part, which may be missing."""
        return self.folder / f"{name}.npz"

    @property
    def names(self) -> set[str]:
        """Of all parts that are there, whatever they were made with."""
        return {path.stem for path in self.folder.glob("*.npz")}

    def remove(self) -> None:
        """All of them, with the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def filling(self) -> AbstractContextManager[None]:
        """Exclusive access for computing missing parts. Another process that has it is waited for,
        and its parts are then there.

        Raises:
            TurnoverError: if the folder cannot be written to.
        """
        lock = self.folder.with_name(f".{self.folder.name}.lock")
        return alone(lock, f"filling {self.folder}", wait=True)


class _Part(Facts, extra="allow"):
    made_with: str
