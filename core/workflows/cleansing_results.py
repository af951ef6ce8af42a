"""Cleansing scores and results, as a run keeps them; needs no torch.

Scores are the training items' mean influences on the validation items, in nats. For the run's own
validation items they come from its influence; for other sets they are computed by
`turnover.workflows.cleanse` and kept in RUN/cleansing/NAME.npz. The estimate is the run's own
(`turnover.attribution.estimators`), and so is the standard error of a sum: errors of items are
correlated, so they do not add in quadrature.

Results are kept in RUN/cleansing/NAME.json, unfinished ones in NAME.partial. A file holds what
`cleanse --json` prints, and the checksums of the weights and influences that were used. A later
cleansing for the same validation set, with the same fraction and number of seeds, replaces it; one
with flags stands beside one without.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from turnover.attribution.estimators.estimator import Estimator
from turnover.errors import TurnoverError
from turnover.runs.ranking import finite, stored_estimator
from turnover.runs.run import Run, made_with, stale_since
from turnover.storage.atomic import disk_error, write_atomic
from turnover.storage.schema import UNREADABLE, finite_number
from turnover.workflows.cleansing import WITH_FLAGS, Comparison, Summary

FOLDER = "cleansing"
OWN, ELEC = "validation", "elec"
VALIDATION_SETS = (OWN, ELEC)


# Scores


@dataclass(frozen=True)
class Scores:
    """Mean influences of N training items on some targets.

    Attributes:
        members: each member's raw mean influences, `(K, N)`.
        coefficients: mean coefficients of the targets, `(1, r)`; None where the run did not keep
            them: then the mean over members is shown, with the standard error from their spread.
        estimator: the run's.
        targets: how many items the means are over.
        path: folder of the targets' files, "" for the run's own.
    """

    members: np.ndarray
    coefficients: np.ndarray | None
    estimator: Estimator
    targets: int
    path: str = ""

    @cached_property
    def estimates(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores and their standard errors, each `(N,)`; errors are NaN for one member."""
        if self.coefficients is None:
            return self.members.mean(0), _spread(self.members)
        values, std_errors = self.estimator.apply(self.members[:, None], self.coefficients)
        return values[0], std_errors[0]

    def total(self, positions: np.ndarray) -> tuple[float, float | None]:
        """Summed scores of some items and the sum's standard error, None for one member.

        This is the predicted change of the mean loss when the items are removed.
        """
        if self.coefficients is None:
            sums = self.members[:, positions].sum(1, keepdims=True)
            return float(sums.mean()), finite(_spread(sums)[0])
        inside = np.zeros((1, self.members.shape[1]), bool)
        inside[0, positions] = True
        value, error = self.estimator.group(self.members[:, None], self.coefficients, inside)
        return float(value[0, 0]), finite(error[0, 0])


def run_scores(run: Run, validation: str = OWN) -> Scores:
    """The scores of a run for one of `VALIDATION_SETS`.

    Raises:
        TurnoverError: if the run has no usable influence, or no scores for this set, or stale or
            damaged ones.
    """
    if validation != OWN:
        return _kept(run, validation)
    part, estimator = run.influence, stored_estimator(run)
    coefficients = (
        np.asarray(part.array("truth_shape")).mean(0, keepdims=True)
        if "truth_shape.npy" in part.manifest["files"]
        else None
    )
    return Scores(
        np.asarray(part.array("mean_members")), coefficients, estimator, len(part.targets)
    )


def keep_scores(run: Run, validation: str, scores: Scores) -> Path:
    """Keep a run's scores for a set that is not its own; returns the file.

    Raises:
        TurnoverError: if the disk is full or the folder cannot be written to.
    """
    path = cleansing_folder(run) / f"{validation}.npz"
    facts = json.dumps(
        {"made_with": made_with(run), "targets": scores.targets, "path": scores.path}
    )

    def write(beside: Path) -> None:
        with beside.open("wb") as file:
            np.savez(
                file,
                members=scores.members,
                shape=scores.coefficients if scores.coefficients is not None else np.zeros((1, 0)),
                facts=np.array(facts),
            )

    write_atomic(path, write)
    return path


def cleansing_folder(run: Run) -> Path:
    """The folder of a run's cleansings; created if missing.

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
            members, coefficients, facts = (
                arrays["members"],
                arrays["shape"],
                json.loads(str(arrays["facts"])),
            )
        checksums, targets, source = (
            dict(facts["made_with"]),
            int(facts["targets"]),
            str(facts["path"]),
        )
    except FileNotFoundError:
        raise TurnoverError(f"{run.folder}: no influences on {validation} yet") from None
    except UNREADABLE:
        raise TurnoverError(f"{path}: not readable as scores; {again}") from None
    if stale := stale_since(run, checksums):
        raise TurnoverError(f"{path}: {stale.replace('measured', 'computed')} So {again}")
    if members.ndim != 2 or members.shape[1] != len(run.train):
        raise TurnoverError(f"{path}: holds other numbers than one for each training item; {again}")
    return Scores(members, coefficients, stored_estimator(run), targets, source)


def _spread(members: np.ndarray) -> np.ndarray:
    """Standard error of the mean over members `(K, …)`; NaN for one member."""
    return (
        members.std(0, ddof=1) / len(members) ** 0.5
        if len(members) > 1
        else np.full(members.shape[1:], np.nan)
    )


# Results

_DONE, _PARTIAL = ".json", ".partial"


@dataclass(frozen=True)
class Cleansed:
    """One cleansing of a run.

    Attributes:
        name: of the file.
        facts: what `cleanse --json` prints, without the conditions.
        conditions: in the order of `WITH_FLAGS`.
        seeds: by condition, how many models it has so far.
        finished: whether all models are trained.
        stale: what has changed since, in a sentence; "" if nothing has.
    """

    name: str
    facts: Mapping[str, Any]
    conditions: tuple[Summary, ...]
    seeds: Counter[str]
    finished: bool
    stale: str


def keep_cleansing(run: Run, result: dict[str, Any], finished: bool = True) -> Path:
    """Keep a result of a run, complete or partial; returns the file.

    Raises:
        TurnoverError: if the disk is full or the folder cannot be written to.
    """
    name = (
        f"{result['validation']}-{result['fraction']:g}-{result['repeats']}-seeds"
        f"{'-flags' if result['flags'] else ''}"
    )
    folder = cleansing_folder(run)
    path = folder / f"{name}{_DONE if finished else _PARTIAL}"
    text = json.dumps({"made_with": made_with(run), "result": result}, indent=1, ensure_ascii=False)
    write_atomic(path, lambda beside: beside.write_text(text, encoding="utf-8"))
    if finished:
        (folder / f"{name}{_PARTIAL}").unlink(missing_ok=True)
    return path


def read_cleansings(run: Run) -> tuple[list[Cleansed], list[str]]:
    """All cleansings that a run keeps, newest first, and the problems of unreadable files."""
    cleansings: list[tuple[float, Cleansed]] = []
    problems = []
    for path in sorted((run.folder / FOLDER).glob("*")):
        if path.suffix in (_DONE, _PARTIAL):
            try:
                cleansings.append((path.stat().st_mtime, _read(run, path)))
            except FileNotFoundError:
                continue
            except TurnoverError as error:
                problems.append(str(error))
    return [cleansed for _, cleansed in sorted(cleansings, key=lambda pair: -pair[0])], problems


def _read(run: Run, path: Path) -> Cleansed:
    """One cleansing.

    Raises:
        TurnoverError: if the file is malformed.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        result, checksums = dict(stored["result"]), dict(stored["made_with"])
        seeds = Counter(str(model["condition"]) for model in result["models"])
        conditions = tuple(_summary(row) for row in result.pop("conditions"))
        _check(result)
    except FileNotFoundError:
        raise
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ):
        raise TurnoverError(
            f"{path}: not readable as a cleansing; delete it, and retrain again"
        ) from None
    return Cleansed(
        path.stem, result, conditions, seeds, path.suffix == _DONE, stale_since(run, checksums)
    )


def _check(result: dict[str, Any]) -> None:
    flags = result["flags"]
    counts = [result[name] for name in ("removed", "repeats", "targets", "measured_on")]
    counts += [] if flags is None else [flags[name] for name in ("dropped", "relabelled")]
    finite_number(result["fraction"])
    if (
        not all(isinstance(count, int) for count in counts)
        or not isinstance(result["validation"], str)
        or not isinstance(result["removed_ids"], list)
    ):
        raise TypeError(result)


def _summary(row: dict[str, Any]) -> Summary:
    name = str(row["condition"])
    if name not in WITH_FLAGS:
        raise ValueError(name)
    accuracy, accuracy_sd, loss, loss_sd, validation_loss = (
        finite_number(row[key])
        for key in ("accuracy", "accuracy_sd", "loss", "loss_sd", "validation_loss")
    )
    return Summary(
        name,
        accuracy,
        accuracy_sd,
        loss,
        loss_sd,
        validation_loss,
        tuple(_comparison(comparison) for comparison in row["against"]),
    )


def _comparison(comparison: dict[str, Any]) -> Comparison:
    return Comparison(
        str(comparison["other"]),
        *_difference(comparison, "accuracy"),
        *_difference(comparison, "loss"),
    )


def _difference(
    comparison: dict[str, Any], what: str
) -> tuple[float, float | None, tuple[float, float] | None]:
    """A mean difference, its p-value and its interval."""
    p, interval = comparison[f"{what}_p"], comparison[f"{what}_interval"]
    bounds = None if interval is None else (finite_number(interval[0]), finite_number(interval[1]))
    return finite_number(comparison[what]), None if p is None else finite_number(p), bounds
