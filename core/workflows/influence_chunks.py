"""Files of a run's influences: finished chunks in the work directory, and the joined arrays.

A stopped job resumes from the chunks, as `Parts` (`turnover.storage.artifacts`) in
RUN/.influence.partial:

    plan.npz        how the work is cut
    estimator.npz   the pilot's result
    NAME.npz        one chunk

They are made with the run's files, the targets and all settings. The cut is decided once and
written down, so a resumed job cuts as it began and its bits are the same, whatever memory is free
now.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from turnover.attribution.estimators.estimator import Estimator
from turnover.runs.ranking import estimator_of, estimator_parts
from turnover.runs.run import INFLUENCE_FILES
from turnover.storage.artifacts import Parts


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


PLAN, ESTIMATOR = "plan", "estimator"
"""Parts beside the chunks: how the work is cut, and the estimator that the pilot chose."""


def chunking_of(parts: Parts) -> Chunking | None:
    """How a computation was cut; None before it has begun."""
    return Chunking(**parts.load(PLAN)[1]) if PLAN in parts else None


def save_estimator(parts: Parts, estimator: Estimator, pilot: Mapping[str, Any]) -> None:
    """Keep the estimator and the pilot's facts."""
    arrays, facts = estimator_parts(estimator)
    parts.save(ESTIMATOR, arrays, **facts, **pilot)


def load_estimator(parts: Parts) -> tuple[Estimator, dict[str, Any]] | None:
    """The estimator, and the manifest's facts on it and the pilot; None before the pilot."""
    if ESTIMATOR not in parts:
        return None
    arrays, facts = parts.load(ESTIMATOR)
    return estimator_of(arrays, facts), facts


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
    ranking, with the items' positions. Members' values by mask are small, so either layout keeps
    them.

    Args:
        folder: where they are made.
        meaning: whose loss is meant, `truth` or `prediction`.
        layout: `full` or `top`.
        shape: members, targets and training items.
        directions: number of coefficients of a target.
        masks: how many masks the training items share; None: each has its own.

    Raises:
        OSError: if the disk has no room for them.
    """

    def __init__(
        self,
        folder: Path,
        meaning: str,
        layout: str,
        shape: tuple[int, int, int],
        directions: int,
        masks: int | None = None,
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
        self.members = self.shapes = None
        if full or masks:
            self.members = create("members", (members, targets, masks or count), np.float32)
            self.shapes = create("shape", (targets, directions), np.float32)
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
    masks: int | None = None,
) -> dict[str, np.ndarray]:
    """What a layout keeps of some targets: member values `(K, t, N)`, or `(K, t, masks)` where the
    training items share masks, coefficients `(t, r)`, estimates and errors `(t, N)`.
    """
    values = {"members": members, "shape": coefficients}
    if layout == "full":
        return {**values, "estimate": estimate, "error": error}
    order = np.argsort(-estimate, axis=1, kind="stable")
    ends = (
        order if order.shape[1] <= 2 * TOP else np.concatenate((order[:, :TOP], order[:, -TOP:]), 1)
    )
    return {
        **(values if masks else {}),
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
    finished: Parts,
    chunks: Sequence[Chunk],
    wrong: np.ndarray,
    layout: str,
    shape: tuple[int, int, int],
    estimator: Estimator,
    masks: int | None,
) -> None:
    """Join all chunks into the files of an influence, without its manifest.

    `wrong` says which targets are misclassified, `shape` is members, targets and training items,
    `masks` how many masks these share.

    Raises:
        TurnoverError: if a chunk is damaged.
        OSError: if the disk has no room for the files.
    """
    members, targets, count = shape
    rows = {"truth": np.arange(targets), "prediction": np.cumsum(wrong) - 1}
    sizes = {"truth": targets, "prediction": int(wrong.sum())}
    written = {
        meaning: InfluenceFiles(
            folder, meaning, layout, (members, size, count), estimator.directions, masks
        )
        for meaning, size in sizes.items()
    }
    total = np.zeros((members, count))
    for chunk in chunks:
        part = finished.load(chunk.name)[0]
        total += part.pop(TOTAL)
        for meaning in chunk.meanings:
            arrays = {
                name.removeprefix(f"{meaning}_"): array
                for name, array in part.items()
                if name.startswith(f"{meaning}_")
            }
            written[meaning].put(rows[meaning][chunk.rows], arrays)
    own = finished.load(OWN)[0][OWN]
    for name, array in zip(INFLUENCE_FILES, (own, total / targets), strict=True):
        np.save(folder / name, np.asarray(array, np.float32))
    for name, array in estimator_parts(estimator)[0].items():
        np.save(folder / f"{name}.npy", array)
