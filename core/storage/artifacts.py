"""Manifests with checksums, and arrays that took long to compute, kept in the run's folder.

A part's manifest holds facts, a format number, and size and checksum of each file; it is written
last and checked first.

`Artifacts` keeps arrays in RUN/fidelity/NAME-KEY. The key is a hash of the run's weights and of all
settings, so results of another run or setting are never mistaken for these. Only what depends on
these alone is kept: retrained losses, scores of baselines, raw influences. Each array is written as
soon as it is computed, so interrupted work resumes after the last one. Two measures may need the
same arrays at the same time; the second one waits for the first, and computes what is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from turnover.errors import TurnoverError
from turnover.storage.atomic import disk_error, write_atomic
from turnover.storage.lock import alone

# Manifests

FORMAT = 1
MANIFEST = "manifest.json"
_READ = 2**20


def sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ):
            digest.update(piece)
    return digest.hexdigest()


def write_manifest(folder: Path, facts: dict[str, Any], files: Sequence[str]) -> None:
    """Write a part's manifest: the facts, the format number, and size and checksum of each file."""
    listed = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        for name in files
    }
    text = json.dumps({"format": FORMAT, **facts, "files": listed}, indent=1, ensure_ascii=False)
    write_atomic(folder / MANIFEST, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_manifest(folder: Path, remedy: str, needed: Sequence[str] = ()) -> dict[str, Any]:
    """A part's manifest, if it has the `needed` facts and all its files are as it says.

    Raises:
        TurnoverError: for a manifest that is missing, foreign or of another format, and for a file
            that is missing, truncated or edited; the text names the file and ends with `remedy`.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format"]
        listed = dict(manifest["files"]) if version == FORMAT else {}
        files = {
            str(name): (int(facts["bytes"]), str(facts["sha256"])) for name, facts in listed.items()
        }
    except FileNotFoundError:
        raise TurnoverError(f"{folder}: no {MANIFEST}, so this is not a run; {remedy}") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise TurnoverError(f"{path}: not a Turnover manifest; {remedy}") from None
    except OSError as error:
        raise disk_error(path, error) from None
    if version != FORMAT:
        newer = "update Turnover, or " if isinstance(version, int) and version > FORMAT else ""
        raise TurnoverError(
            f"{path}: format {version!s:.20}, this version reads format {FORMAT}; {newer}{remedy}"
        )
    missing = [name for name in needed if name not in manifest]
    if missing:
        raise TurnoverError(f"{path}: says nothing of {missing[0]!r}, so it is not whole; {remedy}")
    for name, (length, checksum) in files.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise TurnoverError(f"{file}: missing; {remedy}")
        size = file.stat().st_size
        if size != length:
            raise TurnoverError(
                f"{file}: truncated or edited ({size:,} bytes instead of {length:,}); {remedy}"
            )
        if sha256(file) != checksum:
            raise TurnoverError(f"{file}: its contents were changed after it was written; {remedy}")
    return dict(manifest)


# Arrays that are kept

FOLDER = "fidelity"
_DIGITS = 16


class Artifacts:
    """Arrays by name, each with facts, in a run's folder; `weights` is the hash of the weights that
    they were computed with.

    Raises:
        TurnoverError: if an array was changed after it was written.
    """

    def __init__(self, folder: Path, weights: str, name: str, settings: dict[str, Any]) -> None:
        self._made_with = {"run": weights, **settings}
        key = hashlib.sha256(json.dumps(self._made_with, sort_keys=True).encode()).hexdigest()[
            :_DIGITS
        ]
        self.folder = folder / FOLDER / f"{name}-{key}"
        self._facts = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        if not (self.folder / MANIFEST).exists():
            return {}
        known: dict[str, dict[str, Any]] = read_manifest(
            self.folder, f"delete {self.folder}, and it is computed again", ("facts",)
        )["facts"]
        return known

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Exclusive access for computing and keeping missing arrays. Another process that has it is
        waited for, and its arrays are then available.

        Raises:
            TurnoverError: if the folder cannot be written to, or an array was changed after it was
                written.
        """
        with alone(
            self.folder.with_name(f".{self.folder.name}.lock"), f"filling {self.folder}", wait=True
        ):
            self._facts = self._read()
            yield

    def __contains__(self, name: str) -> bool:
        return name in self._facts

    def load(self, name: str) -> tuple[np.ndarray, dict[str, Any]]:
        """A kept array and its facts."""
        array: np.ndarray = np.load(self.folder / f"{name}.npy", allow_pickle=False)
        return array, self._facts[name]

    def keep(self, name: str, array: np.ndarray, **facts: Any) -> None:
        """Keep an array and facts.

        Raises:
            TurnoverError: if the disk is full or the folder cannot be written to.
        """

        def write(beside: Path) -> None:
            with beside.open("wb") as file:
                np.save(file, array, allow_pickle=False)

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(self.folder, error) from None
        write_atomic(self.folder / f"{name}.npy", write)
        self._facts[name] = facts
        write_manifest(
            self.folder,
            {"made_with": self._made_with, "facts": self._facts},
            sorted(f"{array_name}.npy" for array_name in self._facts),
        )
