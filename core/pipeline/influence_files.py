"""The files of a run's influences on one kind of label, filled target by target."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

TOP = 100
FULL_BYTES = 2 * 2**30
"""Member values are kept up to this size; a larger run keeps the ends of each ranking."""


class InfluenceFiles:
    """`MEANING_estimate.npy`, `MEANING_error.npy` and what else the layout keeps, memory-mapped.

    In the layout `full` these are all training items' estimates and errors, with the members' values and what the estimator
    asked of each target; in `top` those of both ends of each target's ranking, with the items' positions.

    Args:
        folder: where they are made.
        meaning: whose loss is meant, `truth` or `prediction`.
        layout: `full` or `top`.
        shape: members, targets and training items.
        directions: columns of what the estimator asks of a target.

    Raises:
        OSError: if the disk has no room for them.
    """

    def __init__(self, folder: Path, meaning: str, layout: str, shape: tuple[int, int, int], directions: int) -> None:
        members, targets, count = shape
        full, width = layout == "full", count if layout == "full" else min(count, 2 * TOP)

        def create(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
            path = folder / f"{meaning}_{name}.npy"
            if not all(shape):
                np.save(path, np.empty(shape, dtype))
                return np.empty(shape, dtype)
            return allocated(path, shape, dtype)

        self.estimates, self.errors = (create(name, (targets, width), np.float32) for name in ("estimate", "error"))
        self.members = create("members", (members, targets, count), np.float32) if full else None
        self.shapes = create("shape", (targets, directions), np.float32) if full else None
        self.instances = None if full else create("instances", (targets, width), np.int64)

    def put(self, rows: np.ndarray, members: np.ndarray, shape: np.ndarray, estimate: np.ndarray, error: np.ndarray) -> None:
        """Fill in some targets: member values `(K, t, N)`, what the estimator asked `(t, r)`, estimates and errors `(t, N)`."""
        if self.members is not None and self.shapes is not None:
            self.members[:, rows], self.shapes[rows] = members, shape
        if self.instances is not None:
            order = np.argsort(-estimate, axis=1, kind="stable")
            ends = order if order.shape[1] <= 2 * TOP else np.concatenate((order[:, :TOP], order[:, -TOP:]), 1)
            self.instances[rows] = ends
            estimate, error = (np.take_along_axis(array, ends, 1) for array in (estimate, error))
        self.estimates[rows], self.errors[rows] = estimate, error


def allocated(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """A new memory-mapped array whose disk space is taken at once: a full disk is an error here, not a crash on writing."""
    array: np.ndarray = open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
