"""What took long to compute, kept in the run's folder: RUN/fidelity/NAME-KEY.

The key is a hash of the run's weights and of all settings, so another run's or setting's results are never taken for these.
Only what is a function of these alone is kept: retrained losses, scores of rivals, raw influences. Each array is written as
soon as it is there, so work that was stopped goes on after the last one. The manifest lists the arrays with checksums. Two
measures may need the same arrays at the same time; the second one waits for the first, and computes what is still missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from turnover.atomic import disk_error, write_atomic
from turnover.lock import alone
from turnover.runs import MANIFEST, Run, read_manifest, write_manifest

FOLDER = "fidelity"
_DIGITS = 16


class Store:
    """Arrays by name, each with facts.

    Raises:
        TurnoverError: if an array was changed after it was written.
    """

    def __init__(self, run: Run, name: str, settings: dict[str, Any]) -> None:
        self._made_with = {"run": run.manifest["files"]["weights.safetensors"]["sha256"], **settings}
        key = hashlib.sha256(json.dumps(self._made_with, sort_keys=True).encode()).hexdigest()[:_DIGITS]
        self.folder = run.folder / FOLDER / f"{name}-{key}"
        self._facts = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        if not (self.folder / MANIFEST).exists():
            return {}
        known: dict[str, dict[str, Any]] = read_manifest(self.folder, f"delete {self.folder}, and it is computed again", ("facts",))["facts"]
        return known

    @contextmanager
    def filling(self) -> Iterator[None]:
        """To look what is missing and keep it while no other process does: one that does is waited for, and what it kept is there then.

        Raises:
            TurnoverError: if the folder cannot be written to, or an array was changed after it was written.
        """
        with alone(self.folder.with_name(f".{self.folder.name}.lock"), f"filling {self.folder}", wait=True):
            self._facts = self._read()
            yield

    def __contains__(self, name: str) -> bool:
        return name in self._facts

    def load(self, name: str) -> tuple[np.ndarray, dict[str, Any]]:
        """An array that was kept, and its facts."""
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
        write_manifest(self.folder, {"made_with": self._made_with, "facts": self._facts}, sorted(f"{own}.npy" for own in self._facts))
