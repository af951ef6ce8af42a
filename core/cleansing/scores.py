"""The scores that a cleansing goes by: each training item's mean influence on the validation items, in nats, and sums of them.

For the run's own validation items they come from its influence; for other sets, whose influences `turnover.pipeline.cleanse`
computes, they are kept in RUN/cleansing/NAME.npz. The estimate is the run's own (`turnover.estimators`), and so is the error
of a sum: errors of items go together, so they do not add up like the sides of a right angle.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from turnover.atomic import disk_error, write_atomic
from turnover.errors import TurnoverError
from turnover.estimators.estimator import Estimator
from turnover.estimators.stored import stored_estimator
from turnover.plausible import UNREADABLE
from turnover.ranking import finite
from turnover.runs import Run
from turnover.stale import made_with, stale_since

FOLDER = "cleansing"
OWN, ELEC = "validation", "elec"
VALIDATION_SETS = (OWN, ELEC)


@dataclass(frozen=True)
class Scores:
    """Mean influences of N training items on some targets.

    Attributes:
        members: each member's raw mean influences, `(K, N)`.
        shape: mean of what the estimator asks of a target, `(1, r)`; None where the run did not keep it: then the mean over
            members is shown, and the error is their spread.
        estimator: the run's.
        targets: how many items the means are over.
        path: the folder that the targets were read from, "" for the run's own.
    """

    members: np.ndarray
    shape: np.ndarray | None
    estimator: Estimator
    targets: int
    path: str = ""

    @cached_property
    def estimates(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores and their standard errors, each `(N,)`; errors are NaN for one member."""
        if self.shape is None:
            return self.members.mean(0), _spread(self.members)
        values, errors = self.estimator.apply(self.members[:, None], self.shape)
        return values[0], errors[0]

    def total(self, positions: np.ndarray) -> tuple[float, float | None]:
        """Summed scores of some items and the sum's standard error, None for one member.

        Positive influence helps, so when the items go, this is what the mean loss is predicted to change by.
        """
        if self.shape is None:
            sums = self.members[:, positions].sum(1, keepdims=True)
            return float(sums.mean()), finite(_spread(sums)[0])
        inside = np.zeros((1, self.members.shape[1]), bool)
        inside[0, positions] = True
        value, error = self.estimator.group(self.members[:, None], self.shape, inside)
        return float(value[0, 0]), finite(error[0, 0])


def run_scores(run: Run, validation: str = OWN) -> Scores:
    """The scores of a run for one of `VALIDATION_SETS`.

    Raises:
        TurnoverError: if the run has no usable influence, or no scores for this set, or stale or damaged ones.
    """
    if validation != OWN:
        return _kept(run, validation)
    part, estimator = run.influence, stored_estimator(run)
    shape = np.asarray(part.array("truth_shape")).mean(0, keepdims=True) if "truth_shape.npy" in part.manifest["files"] else None
    return Scores(np.asarray(part.array("mean_members")), shape, estimator, len(part.targets))


def keep_scores(run: Run, validation: str, scores: Scores) -> Path:
    """Keep a run's scores for a set that is not its own; returns the file.

    Raises:
        TurnoverError: if the disk is full or the folder cannot be written to.
    """
    path = cleansing_folder(run) / f"{validation}.npz"
    facts = json.dumps({"made_with": made_with(run), "targets": scores.targets, "path": scores.path})

    def write(beside: Path) -> None:
        with beside.open("wb") as file:
            np.savez(file, members=scores.members, shape=scores.shape if scores.shape is not None else np.zeros((1, 0)), facts=np.array(facts))

    write_atomic(path, write)
    return path


def cleansing_folder(run: Run) -> Path:
    """Where a run keeps what belongs to cleansings; made if it is not there.

    Raises:
        TurnoverError: if it cannot be made.
    """
    folder = run.folder / FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from None
    return folder


def has_scores(run: Run, validation: str) -> bool:
    """Whether there are scores for a validation set, usable or not."""
    return validation == OWN or (run.folder / FOLDER / f"{validation}.npz").is_file()


def _kept(run: Run, validation: str) -> Scores:
    path, again = run.folder / FOLDER / f"{validation}.npz", "compute them again"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            members, shape, facts = arrays["members"], arrays["shape"], json.loads(str(arrays["facts"]))
        made, targets, source = dict(facts["made_with"]), int(facts["targets"]), str(facts["path"])
    except FileNotFoundError:
        raise TurnoverError(f"{run.folder}: no influences on {validation} yet") from None
    except UNREADABLE:
        raise TurnoverError(f"{path}: not readable as scores; {again}") from None
    if stale := stale_since(run, made):
        raise TurnoverError(f"{path}: {stale.replace('measured', 'computed')} So {again}")
    if members.ndim != 2 or members.shape[1] != len(run.train):
        raise TurnoverError(f"{path}: holds other numbers than one for each training item; {again}")
    return Scores(members, shape, stored_estimator(run), targets, source)


def _spread(members: np.ndarray) -> np.ndarray:
    """Standard error of the mean over members `(K, …)`; NaN for one member."""
    return members.std(0, ddof=1) / len(members) ** 0.5 if len(members) > 1 else np.full(members.shape[1:], np.nan)
