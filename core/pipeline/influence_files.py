"""The files of a run's influences on one kind of label, filled with some targets after the other."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from turnover.estimators.estimator import Estimator
from turnover.estimators.stored import save_estimator
from turnover.pipeline.influence_parts import Parts, Unit
from turnover.runs import INFLUENCE_FILES

TOP = 100
FULL_BYTES = 2 * 2**30
"""Member values are kept up to this size; a larger run keeps the ends of each ranking."""
OWN, TOTAL = "self", "total"
"""Names in parts: of the self-influences, and of the sum over a part's targets on their true labels, `(K, N)`."""


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

    def put(self, rows: np.ndarray, made: Mapping[str, np.ndarray]) -> None:
        """Fill in some targets with what `kept` made of them."""
        if self.members is not None and self.shapes is not None:
            self.members[:, rows], self.shapes[rows] = made["members"], made["shape"]
        if self.instances is not None:
            self.instances[rows] = made["instances"]
        self.estimates[rows], self.errors[rows] = made["estimate"], made["error"]


def kept(layout: str, members: np.ndarray, shape: np.ndarray, estimate: np.ndarray, error: np.ndarray) -> dict[str, np.ndarray]:
    """What a layout keeps of some targets: of member values `(K, t, N)`, what the estimator asked `(t, r)`, estimates and errors `(t, N)`."""
    if layout == "full":
        return {"members": members, "shape": shape, "estimate": estimate, "error": error}
    order = np.argsort(-estimate, axis=1, kind="stable")
    ends = order if order.shape[1] <= 2 * TOP else np.concatenate((order[:, :TOP], order[:, -TOP:]), 1)
    return {"instances": ends, **{name: np.take_along_axis(array, ends, 1) for name, array in (("estimate", estimate), ("error", error))}}


def allocated(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """A new memory-mapped array whose disk space is taken at once: a full disk is an error here, not a crash on writing."""
    array: np.ndarray = open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def join_parts(folder: Path, parts: Parts, units: Sequence[Unit], wrong: np.ndarray, layout: str, shape: tuple[int, int, int], estimator: Estimator) -> None:
    """Write all files of an influence but its manifest into a folder, from the parts of all units.

    `wrong` says which targets are misclassified, `shape` is members, targets and training items.

    Raises:
        TurnoverError: if a part was damaged.
        OSError: if the disk has no room for the files.
    """
    members, targets, count = shape
    places = {"truth": np.arange(targets), "prediction": np.cumsum(wrong) - 1}
    sizes = {"truth": targets, "prediction": int(wrong.sum())}
    files = {meaning: InfluenceFiles(folder, meaning, layout, (members, size, count), estimator.directions) for meaning, size in sizes.items()}
    total = np.zeros((members, count))
    for unit in units:
        part = parts.load(unit.name())
        total += part.pop(TOTAL)
        for meaning in unit.meanings:
            own = {name.removeprefix(f"{meaning}_"): array for name, array in part.items() if name.startswith(f"{meaning}_")}
            files[meaning].put(places[meaning][unit.rows], own)
    for name, array in zip(INFLUENCE_FILES, (parts.load(OWN)[OWN], total / targets), strict=True):
        np.save(folder / name, np.asarray(array, np.float32))
    save_estimator(estimator, folder)
