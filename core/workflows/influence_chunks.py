"""Files of a run's influences: finished chunks in the work directory, and the joined arrays.

A stopped job resumes from the chunks:

    RUN/.influence.partial/plan.json        what is computed, and how it is cut
                           estimator.json   the pilot's result; the estimator's arrays are beside it
                           NAME.npz         one chunk, whole or absent, with the fingerprint of the
                                            computation it belongs to

The fingerprint covers the run's files, the targets and all settings. A file with another
fingerprint is stale and never used. The cut is decided once and written down, so a resumed job cuts
as it began and its bits are the same, whatever memory is free now.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from turnover.attribution.estimators.estimator import Estimator
from turnover.errors import TurnoverError
from turnover.runs.ranking import load_estimator, save_estimator
from turnover.runs.run import INFLUENCE_FILES
from turnover.storage.atomic import write_atomic
from turnover.storage.schema import UNREADABLE

_FINGERPRINT = "fingerprint"


@dataclass(frozen=True)
class Chunking:
    """How the work is cut: bytes of `memory`, of which `held` are for values being estimated;
    targets per chunk.
    """

    memory: int
    held: int
    targets: int


@dataclass(frozen=True)
class Chunk:
    """Some targets, by row, computed and kept together, and the meanings they are computed for."""

    number: int
    rows: np.ndarray
    meanings: tuple[str, ...]

    @property
    def name(self) -> str:
        """File name of the chunk."""
        return f"targets-{self.number}"


def chunks_of(wrong: np.ndarray, size: int) -> list[Chunk]:
    """All targets in chunks of at most `size` labels; both labels of a misclassified one share its
    forward passes.
    """
    chunks: list[Chunk] = []
    for rows, meanings in (
        (np.flatnonzero(~wrong), ("truth",)),
        (np.flatnonzero(wrong), ("truth", "prediction")),
    ):
        step = max(1, size // len(meanings))
        chunks += [
            Chunk(len(chunks) + index, rows[first : first + step], meanings)
            for index, first in enumerate(range(0, len(rows), step))
        ]
    return chunks


class ChunkFiles:
    """The work directory of one computation, which `identity` identifies."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def chunking(self) -> Chunking | None:
        """How this computation was cut; None before it has begun."""
        facts = self._read("plan")
        if facts is None:
            return None
        return Chunking(facts["memory"], facts["held"], facts["targets"])

    def begin(self, chunking: Chunking) -> None:
        """Create the folder anew, without files of other computations."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self._write("plan", asdict(chunking))

    def save_estimator(self, estimator: Estimator, facts: Mapping[str, Any]) -> None:
        """Keep the estimator and the pilot's facts."""
        self._write(
            "estimator", {"pilot": dict(facts), "estimator": save_estimator(estimator, self.folder)}
        )

    def estimator(self) -> tuple[Estimator, dict[str, Any]] | None:
        """The estimator, and the manifest's facts on it and the pilot; None before the pilot."""
        facts = self._read("estimator")
        return (
            None
            if facts is None
            else (
                load_estimator(self.folder, facts["estimator"]),
                {**facts["estimator"], **facts["pilot"]},
            )
        )

    def has(self, name: str) -> bool:
        """Whether a chunk exists, readable and of this computation; any other is removed."""
        try:
            with np.load(self._path(name), allow_pickle=False) as arrays:
                if str(arrays[_FINGERPRINT]) == self.fingerprint:
                    return True
        except FileNotFoundError:
            return False
        except UNREADABLE:
            pass
        self._path(name).unlink(missing_ok=True)
        return False

    def load(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a chunk.

        Raises:
            TurnoverError: if it is damaged; it is then removed.
        """
        try:
            with np.load(self._path(name), allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files if key != _FINGERPRINT}
        except UNREADABLE:
            self._path(name).unlink(missing_ok=True)
            raise TurnoverError(
                f"{self._path(name)}: damaged, and removed; give the same command again to compute"
                " this part anew"
            ) from None

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a chunk, whole or not at all.

        Raises:
            TurnoverError: if the disk is full.
        """

        def write(beside: Path) -> None:
            with beside.open("wb") as file:
                np.savez(file, **{_FINGERPRINT: np.array(self.fingerprint)}, **arrays)  # type: ignore[arg-type]

        write_atomic(self._path(name), write)

    @property
    def any_finished(self) -> bool:
        """Whether there are files worth resuming from."""
        return any(self.folder.glob("*.npz"))

    def remove(self) -> None:
        """All of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def _read(self, name: str) -> Any:
        try:
            stored = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
            return stored["facts"] if stored[_FINGERPRINT] == self.fingerprint else None
        except UNREADABLE:
            return None

    def _write(self, name: str, facts: Any) -> None:
        text = json.dumps({_FINGERPRINT: self.fingerprint, "facts": facts})
        write_atomic(
            self.folder / f"{name}.json", lambda beside: beside.write_text(text, encoding="utf-8")
        )


# Joined files

TOP = 100
FULL_BYTES = 2 * 2**30
"""Member values are kept up to this size; a larger run keeps the ends of each ranking."""
OWN, TOTAL = "self", "total"
"""Array names in chunk files: of the self-influences, and of the sum over a chunk's targets on
their true labels, `(K, N)`.
"""


class InfluenceFiles:
    """`MEANING_estimate.npy`, `MEANING_error.npy` and what else the layout keeps, memory-mapped.

    In the layout `full` these are all training items' estimates and standard errors, with the
    members' values and each target's coefficients; in `top` those of both ends of each target's
    ranking, with the items' positions.

    Args:
        folder: where they are made.
        meaning: whose loss is meant, `truth` or `prediction`.
        layout: `full` or `top`.
        shape: members, targets and training items.
        directions: number of coefficients of a target.

    Raises:
        OSError: if the disk has no room for them.
    """

    def __init__(
        self, folder: Path, meaning: str, layout: str, shape: tuple[int, int, int], directions: int
    ) -> None:
        members, targets, count = shape
        full, width = layout == "full", count if layout == "full" else min(count, 2 * TOP)

        def create(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
            path = folder / f"{meaning}_{name}.npy"
            if not all(shape):
                np.save(path, np.empty(shape, dtype))
                return np.empty(shape, dtype)
            return allocated(path, shape, dtype)

        self.estimates, self.std_errors = (
            create(name, (targets, width), np.float32) for name in ("estimate", "error")
        )
        self.members = create("members", (members, targets, count), np.float32) if full else None
        self.shapes = create("shape", (targets, directions), np.float32) if full else None
        self.instances = None if full else create("instances", (targets, width), np.int64)

    def put(self, rows: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """Fill in some targets with the arrays from `kept`."""
        if self.members is not None and self.shapes is not None:
            self.members[:, rows], self.shapes[rows] = arrays["members"], arrays["shape"]
        if self.instances is not None:
            self.instances[rows] = arrays["instances"]
        self.estimates[rows], self.std_errors[rows] = arrays["estimate"], arrays["error"]


def kept(
    layout: str,
    members: np.ndarray,
    coefficients: np.ndarray,
    estimate: np.ndarray,
    error: np.ndarray,
) -> dict[str, np.ndarray]:
    """What a layout keeps of some targets: member values `(K, t, N)`, coefficients `(t, r)`,
    estimates and errors `(t, N)`.
    """
    if layout == "full":
        return {"members": members, "shape": coefficients, "estimate": estimate, "error": error}
    order = np.argsort(-estimate, axis=1, kind="stable")
    ends = (
        order if order.shape[1] <= 2 * TOP else np.concatenate((order[:, :TOP], order[:, -TOP:]), 1)
    )
    return {
        "instances": ends,
        **{
            name: np.take_along_axis(array, ends, 1)
            for name, array in (("estimate", estimate), ("error", error))
        },
    }


def allocated(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """A new memory-mapped array with its disk space allocated at once: a full disk is an error
    here, not a crash on writing.
    """
    array: np.ndarray = open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def join_chunks(
    folder: Path,
    finished: ChunkFiles,
    chunks: Sequence[Chunk],
    wrong: np.ndarray,
    layout: str,
    shape: tuple[int, int, int],
    estimator: Estimator,
) -> None:
    """Join all chunks into the files of an influence, without its manifest.

    `wrong` says which targets are misclassified, `shape` is members, targets and training items.

    Raises:
        TurnoverError: if a chunk is damaged.
        OSError: if the disk has no room for the files.
    """
    members, targets, count = shape
    rows = {"truth": np.arange(targets), "prediction": np.cumsum(wrong) - 1}
    sizes = {"truth": targets, "prediction": int(wrong.sum())}
    written = {
        meaning: InfluenceFiles(
            folder, meaning, layout, (members, size, count), estimator.directions
        )
        for meaning, size in sizes.items()
    }
    total = np.zeros((members, count))
    for chunk in chunks:
        part = finished.load(chunk.name)
        total += part.pop(TOTAL)
        for meaning in chunk.meanings:
            arrays = {
                name.removeprefix(f"{meaning}_"): array
                for name, array in part.items()
                if name.startswith(f"{meaning}_")
            }
            written[meaning].put(rows[meaning][chunk.rows], arrays)
    for name, array in zip(
        INFLUENCE_FILES, (finished.load(OWN)[OWN], total / targets), strict=True
    ):
        np.save(folder / name, np.asarray(array, np.float32))
    save_estimator(estimator, folder)
