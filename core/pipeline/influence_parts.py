"""Finished parts of a run's influences, kept beside it until all are there: what a stopped job goes on from, and ranks share.

    RUN/.influence.partial/plan.json        what is computed, and how it is cut
                           estimator.json   what the pilot said, with the estimator's arrays beside it
                           NAME.npz         one part, whole or absent, with the fingerprint of what it belongs to

The fingerprint covers the run's files, the targets and all settings. What does not carry the wanted one is stale, and never used.
How the targets are cut is decided once and written down: a job that goes on cuts as it began, so its bits are the same,
whatever memory is free now and however many ranks there are.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from turnover.atomic import write_atomic
from turnover.errors import TurnoverError
from turnover.estimators.estimator import Estimator
from turnover.estimators.stored import load_estimator, save_estimator
from turnover.plausible import UNREADABLE

_FINGERPRINT = "fingerprint"


@dataclass(frozen=True)
class Cut:
    """How the work is cut: bytes of `memory` for each rank, of which `held` are for values that are being estimated; targets and blocks a unit.

    Blocks are of training items; there are several only where units are fewer than ranks.
    """

    memory: int
    held: int
    targets: int
    blocks: int = 1


@dataclass(frozen=True)
class Unit:
    """Some targets, by row, that are computed and kept together, and the labels that they are computed for."""

    number: int
    rows: np.ndarray
    meanings: tuple[str, ...]

    def name(self, block: int | None = None) -> str:
        """Of its part, or of the raw values of one of its blocks."""
        return f"targets-{self.number}" if block is None else f"targets-{self.number}-block-{block}"


def units_of(wrong: np.ndarray, size: int) -> list[Unit]:
    """All targets in units of at most `size` labels; both labels of a misclassified one share its forward passes."""
    units: list[Unit] = []
    for rows, meanings in ((np.flatnonzero(~wrong), ("truth",)), (np.flatnonzero(wrong), ("truth", "prediction"))):
        step = max(1, size // len(meanings))
        units += [Unit(len(units) + place, rows[first : first + step], meanings) for place, first in enumerate(range(0, len(rows), step))]
    return units


class Parts:
    """The folder of parts of one computation, which `identity` names in whole."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def cut(self) -> Cut | None:
        """How this computation was cut when it began; None if it did not begin yet."""
        told = self._read("plan")
        return None if told is None else Cut(**told)

    def begin(self, cut: Cut) -> None:
        """Make the folder anew; parts of any other computation go."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self._write("plan", asdict(cut))

    def save_estimator(self, estimator: Estimator, facts: Mapping[str, Any]) -> None:
        """Keep the estimator, and what else the pilot said."""
        self._write("estimator", {"pilot": dict(facts), "estimator": save_estimator(estimator, self.folder)})

    def estimator(self) -> tuple[Estimator, dict[str, Any]] | None:
        """The estimator, and what a manifest says of it and of the pilot; None before the pilot."""
        told = self._read("estimator")
        return None if told is None else (load_estimator(self.folder, told["estimator"]), {**told["estimator"], **told["pilot"]})

    def has(self, name: str) -> bool:
        """Whether a part is there, whole and of this computation; one that is not is removed."""
        try:
            with np.load(self._place(name), allow_pickle=False) as arrays:
                if str(arrays[_FINGERPRINT]) == self.fingerprint:
                    return True
        except FileNotFoundError:
            return False
        except UNREADABLE:
            pass
        self._place(name).unlink(missing_ok=True)
        return False

    def load(self, name: str) -> dict[str, np.ndarray]:
        """A part that is there.

        Raises:
            TurnoverError: if it was damaged since it was written; it is removed then.
        """
        try:
            with np.load(self._place(name), allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files if key != _FINGERPRINT}
        except UNREADABLE:
            self._place(name).unlink(missing_ok=True)
            raise TurnoverError(f"{self._place(name)}: damaged, and removed; give the same command again to compute this part anew") from None

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a part, whole or not at all.

        Raises:
            TurnoverError: if the disk is full.
        """

        def write(beside: Path) -> None:
            with beside.open("wb") as file:
                np.savez(file, **{_FINGERPRINT: np.array(self.fingerprint)}, **arrays)  # type: ignore[arg-type]

        write_atomic(self._place(name), write)

    @property
    def any_finished(self) -> bool:
        """Whether there is work worth going on from."""
        return any(self.folder.glob("*.npz"))

    def remove(self) -> None:
        """All of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _place(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def _read(self, name: str) -> Any:
        try:
            told = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
            return told["facts"] if told[_FINGERPRINT] == self.fingerprint else None
        except UNREADABLE:
            return None

    def _write(self, name: str, facts: Any) -> None:
        text = json.dumps({_FINGERPRINT: self.fingerprint, "facts": facts})
        write_atomic(self.folder / f"{name}.json", lambda beside: beside.write_text(text, encoding="utf-8"))
