"""Add influences to a run: every training item on every target, target by target, straight into files.

First a pilot of some targets decides which estimator to show (`core.estimators`). Then slices of targets are computed for
all members and training items, on the loss of the true label for all targets and of the predicted label for the errors,
whose forward passes serve both; each slice is estimated and written before the next begins. As long as all member values
fit into `FULL_BYTES` they are kept, with what the estimator asks of each target beside them, so that groups of training
items can be summed later (`core.groups`); past that, only the top of both ends of each target, with standard errors, and
the means over targets.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.atomic import disk_error, replace_folder
from core.device import choose_device
from core.engine.memory import default_budget
from core.errors import TurnoverError
from core.estimators.estimator import Described
from core.estimators.stored import save_estimator
from core.influences import Influence, influence, influences, self_influence
from core.lock import alone
from core.models.members import Members
from core.pipeline.estimate import describe_targets, run_estimator
from core.pipeline.influence_files import InfluenceFiles
from core.pipeline.model import load_model, run_split
from core.progress import bar
from core.runs import INFLUENCE_FILES, Run, write_manifest
from core.training import Split

FULL_BYTES = 2 * 2**30
"""Member values are kept up to this size; a larger run keeps the ends of each ranking."""

_PILOT, _PILOT_BYTES = 96, 512 * 2**20
_COMPARED = 4
_BYTES_A_VALUE = 28
"""What a member's value costs while it is estimated: itself, divided by its noise, sorted, and a share of the estimates."""

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
"""Number types of the large products; None is the model's own."""


@dataclass(frozen=True)
class Resources:
    """What a computation may use: bytes for tiles and slices beside the result, and the number type of its large products."""

    memory: int
    precision: str = "float32"

    @property
    def lowered(self) -> bool:
        """Whether the products are less exact than the model."""
        return PRECISIONS[self.precision] is not None

    @property
    def options(self) -> dict[str, Any]:
        """As keyword arguments of `influence`; half of the memory is for the engine, half for the slices that are estimated."""
        return {"memory": self.memory // 2, "dtype": PRECISIONS[self.precision]}


def compute_influence(
    run: Run,
    targets: str = "validation",
    device_choice: str | None = None,
    full_bytes: int = FULL_BYTES,
    *,
    memory: int | None = None,
    precision: str = "float32",
    most: int | None = None,
) -> dict[str, Any]:
    """Compute a run's influences on `validation` (all items, and the errors' predictions) or on the `errors` alone.

    Of more targets than `most`, 1 or more, that many are drawn at random, the same ones every time.
    Returns what `python -m core influence --json` prints. The folder `RUN/influence` is replaced when all is done.

    Raises:
        TurnoverError: if the run or the device cannot be used, the disk is full, or another process computes influences of this run.
    """
    with alone(run.folder / ".influence.lock", f"computing influences of {run.folder}"):
        return _replace_influence(run, targets, device_choice, full_bytes, memory, precision, most)


def _replace_influence(
    run: Run, targets: str, device_choice: str | None, full_bytes: int, memory: int | None, precision: str, most: int | None
) -> dict[str, Any]:
    begun = time.perf_counter()
    device = choose_device(device_choice)
    model = load_model(run, device)
    resources = Resources(memory or default_budget(device), precision)
    chosen = run.errors if targets == "errors" else [int(position) for position in run.validation.index]
    if not chosen:
        raise TurnoverError(f"{run.folder}: no validation item is misclassified, so there are no errors to explain; use --targets validation")
    if most is not None and most < len(chosen):
        chosen = sorted(np.random.default_rng(0).choice(chosen, most, replace=False).tolist())
    beside = run.folder / ".influence.new"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir()
        facts = _compute(run, model, chosen, beside, device, full_bytes, resources)
        seconds = time.perf_counter() - begun
        facts |= {"run": run.manifest["files"]["weights.safetensors"]["sha256"], "seconds": round(seconds, 2)}
        write_manifest(beside, facts, sorted(path.name for path in beside.glob("*.npy")))
        replace_folder(beside, run.folder / "influence")
    except OSError as error:
        raise disk_error(beside, error) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    pairs = facts["pairs"]
    sizes = {"targets": len(chosen), "train_size": len(run.train), "members": model.members, "pairs": pairs}
    told = {key: facts[key] for key in ("estimator", "path", "precision", "precision_error")}
    return {**sizes, "seconds": round(seconds, 2), "pairs_per_second": round(pairs / seconds), **told}


@dataclass(frozen=True)
class _Targets:
    """What influences are asked on: inputs, features `(T, D)`, and the labels that are meant, `truth` and `prediction`."""

    inputs: torch.Tensor
    features: np.ndarray
    labels: dict[str, torch.Tensor]

    @classmethod
    def of(cls, run: Run, chosen: list[int], device: torch.device) -> _Targets:
        items = run_split(run, "validation", device, chosen)
        predicted = torch.tensor(run.validation["predicted"].loc[chosen].tolist(), device=device)
        return cls(items.inputs, np.asarray(run.features("validation")[chosen]), {"truth": items.labels, "prediction": predicted})

    @property
    def wrong(self) -> np.ndarray:
        """Which are misclassified, `(T,)`."""
        made: np.ndarray = (self.labels["truth"] != self.labels["prediction"]).cpu().numpy()
        return made

    def split(self, rows: np.ndarray, meaning: str = "truth") -> Split:
        return Split(self.inputs[rows], self.labels[meaning][rows])

    def described(self, model: Members, rows: np.ndarray, meaning: str = "truth") -> Described:
        return describe_targets(model, self.split(rows, meaning), self.features[rows])


def _compute(run: Run, model: Members, chosen: list[int], folder: Path, device: torch.device, full_bytes: int, resources: Resources) -> dict[str, Any]:
    targets, train = _Targets.of(run, chosen, device), run_split(run, "train", device)
    wrong, count, members = targets.wrong, len(run.train), model.members
    sizes = {"truth": len(chosen), "prediction": int(wrong.sum())}
    places = {"truth": np.arange(len(chosen)), "prediction": np.cumsum(wrong) - 1}
    layout = "full" if 4 * members * count * sum(sizes.values()) <= full_bytes else "top"
    pilot_rows = np.random.default_rng(0).permutation(len(chosen))[: _pilot_size(members, count, resources)]
    pairs = (sum(sizes.values()) + len(pilot_rows)) * members * count
    with bar(pairs, f"{run.name}: influence", "pairs") as advance:

        def compute(rows: np.ndarray, *meanings: str) -> list[Influence]:
            labels = [targets.labels[meaning][rows] for meaning in meanings]
            return influences(model, targets.inputs[rows], labels, np.arange(count), progress=advance, **resources.options)

        (pilot,) = compute(pilot_rows, "truth")
        difference = _precision_error(model, targets.split(pilot_rows), pilot, resources)
        estimator = run_estimator(run, model, train, pilot.values.numpy(), targets.described(model, pilot_rows))
        files = {meaning: InfluenceFiles(folder, meaning, layout, (members, size, count), estimator.directions) for meaning, size in sizes.items()}
        total = np.zeros((members, count))
        for rows, meanings in _parts(wrong, resources.memory // 2 // (_BYTES_A_VALUE * members * count)):
            made = compute(rows, *meanings)
            for meaning, part in zip(meanings, (one.values.numpy() for one in made), strict=True):
                shape = estimator.shape_of(targets.described(model, rows, meaning))
                files[meaning].put(places[meaning][rows], part, shape, *estimator.apply(part, shape))
            total += made[0].values.sum(1, dtype=torch.float64).numpy()
    own = self_influence(model, train.inputs, train.labels, np.arange(count))
    for name, array in zip(INFLUENCE_FILES, (own.numpy(), total / len(chosen)), strict=True):
        np.save(folder / name, np.asarray(array, np.float32))
    return {
        "targets": chosen,
        "errors": np.asarray(chosen)[wrong].tolist(),
        "layout": layout,
        **save_estimator(estimator, folder),
        "path": pilot.path,
        "precision": resources.precision,
        "precision_error": difference,
        "pairs": pairs,
    }


def _pilot_size(members: int, count: int, resources: Resources) -> int:
    """How many targets the pilot has: one member has no choice of estimator, and only a lower precision wants some to compare."""
    if members == 1:
        return _COMPARED if resources.lowered else 1
    return max(_COMPARED, min(_PILOT, _PILOT_BYTES // (4 * members * count)))


def _precision_error(model: Members, targets: Split, pilot: Influence, resources: Resources) -> float | None:
    """Largest difference in nats that the lower precision makes to the mean influences of a few targets; None at the model's own."""
    if not resources.lowered:
        return None
    exact = influence(model, targets.inputs[:_COMPARED], targets.labels[:_COMPARED], pilot.train_ids, memory=resources.memory // 2)
    return float((exact.mean - pilot.mean[:_COMPARED]).abs().max())


def _parts(mistaken: np.ndarray, step: int) -> Iterator[tuple[np.ndarray, tuple[str, ...]]]:
    """Rows of targets that are computed at once, and the labels that they are computed for: both of a mistake's share its forward passes."""
    for rows, meanings in ((np.flatnonzero(~mistaken), ("truth",)), (np.flatnonzero(mistaken), ("truth", "prediction"))):
        size = max(1, step // len(meanings))
        for first in range(0, len(rows), size):
            yield rows[first : first + size], meanings
