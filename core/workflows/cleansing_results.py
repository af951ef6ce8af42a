"""Cleansing scores and results, as a run keeps them; needs no torch.

Scores are the training items' mean influences on the validation items, in nats. For the run's own
validation items they come from its influence; for other sets they are computed by
`turnover.workflows.cleanse` and kept in RUN/cleansing/NAME.npz. The estimate is the run's own
(`turnover.attribution.estimators`), and so is the standard error of a sum: errors of items are
correlated, so they do not add in quadrature.

Results are kept in RUN/cleansing/NAME.json, unfinished ones in NAME.partial. A file holds what
`cleanse --json` prints, and the checksums of the weights and influences that were used. A later
cleansing for the same validation set, with the same shares and number of seeds, replaces it; one
with flags stands beside one without. Earlier versions kept one share a file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import model_validator

from turnover.attribution.estimators.estimator import Estimator
from turnover.errors import TurnoverError
from turnover.runs.ranking import finite, stored_estimator
from turnover.runs.run import Run, made_with, spread, stale_since
from turnover.storage.artifacts import read_arrays, read_each, write_arrays, write_facts
from turnover.storage.schema import Facts, check_array, readable, require
from turnover.workflows.cleansing import CLEANSED, RANDOM, WITH_FLAGS, Retrained, Summary

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
            return self.members.mean(0), spread(self.members)
        values, std_errors = self.estimator.apply(self.members[:, None], self.coefficients)
        return values[0], std_errors[0]

    def total(self, positions: np.ndarray) -> tuple[float, float | None]:
        """Summed scores of some items and the sum's standard error, None for one member.

        This is the predicted change of the mean loss when the items are removed.
        """
        if self.coefficients is None:
            sums = self.members[:, positions].sum(1, keepdims=True)
            return float(sums.mean()), finite(spread(sums)[0])
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
    part, coefficients = run.influence, None
    if "truth_shape.npy" in part.manifest["files"]:
        coefficients = part.array("truth_shape").mean(0, keepdims=True)
    members = np.asarray(part.array("mean_members"))
    return Scores(members, coefficients, stored_estimator(run), len(part.targets))


class _ScoresFacts(Facts):
    made_with: dict[str, str]
    targets: int
    path: str


def keep_scores(run: Run, validation: str, scores: Scores) -> Path:
    """Keep a run's scores for a set that is not its own; returns the file.

    Raises:
        TurnoverError: if the disk is full or the folder cannot be written to.
    """
    coefficients = np.zeros((1, 0)) if scores.coefficients is None else scores.coefficients
    return write_arrays(
        _scores_file(run, validation),
        {"members": scores.members, "shape": coefficients},
        {"made_with": made_with(run), "targets": scores.targets, "path": scores.path},
    )


def has_scores(run: Run, validation: str) -> bool:
    """Whether there are scores for a validation set, usable or not."""
    return validation == OWN or _scores_file(run, validation).is_file()


def _scores_file(run: Run, validation: str) -> Path:
    return run.folder / FOLDER / f"{validation}.npz"


def _kept(run: Run, validation: str) -> Scores:
    if not has_scores(run, validation):
        raise TurnoverError(f"{run.folder}: no influences on {validation} yet")
    path, again = _scores_file(run, validation), "compute them again"
    arrays, facts = read_arrays(path, _ScoresFacts, again)
    if stale := stale_since(run, facts.made_with):
        raise TurnoverError(f"{path}: {stale.replace('measured', 'computed')} So {again}")
    with readable(path, again):
        members, coefficients = arrays["members"], arrays["shape"]
        check_array(members, None, len(run.train))
    return Scores(members, coefficients, stored_estimator(run), facts.targets, facts.path)


# Results

_DONE, _PARTIAL = ".json", ".partial"


@dataclass(frozen=True)
class Cleansed:
    """One cleansing of a run.

    Attributes:
        name: of the file.
        facts: what `cleanse --json` prints, without the conditions and models.
        conditions: in the order of `turnover.workflows.cleansing.summarise`.
        models: that it has so far.
        finished: whether all models are trained.
        stale: what has changed since, in a sentence; "" if nothing has.
    """

    name: str
    facts: Mapping[str, Any]
    conditions: tuple[Summary, ...]
    models: tuple[Retrained, ...]
    finished: bool
    stale: str

    @property
    def seeds(self) -> Counter[tuple[str, float]]:
        """How many models each condition has at each share."""
        return Counter((model.condition, model.share) for model in self.models)


class _Flags(Facts, extra="allow"):
    dropped: int
    relabelled: int


class _Result(Facts, extra="allow"):
    validation: str
    shares: list[float]
    flags: _Flags | None
    removed: list[int]
    repeats: int
    targets: int
    measured_on: int
    removed_ids: list[Any]
    models: tuple[Retrained, ...]
    conditions: tuple[Summary, ...]
    chosen: float | None = None
    data: str = ""
    seconds: float = 0.0
    trained: int = 0

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        named = {row.condition for row in self.conditions} | {one.condition for one in self.models}
        require(named <= {*WITH_FLAGS}, "condition")
        require(0 < len(self.shares) == len(self.removed), "shares")
        return self


class _Stored(Facts):
    made_with: dict[str, str]
    result: _Result


def keep_cleansing(run: Run, result: dict[str, Any], finished: bool = True) -> Path:
    """Keep a result of a run, complete or partial; returns the file.

    Raises:
        TurnoverError: if the disk is full or the folder cannot be written to.
    """
    flags = "-flags" if result["flags"] else ""
    shares = "-".join(f"{share:g}" for share in result["shares"])
    name = f"{result['validation']}-{shares}-{result['repeats']}-seeds{flags}"
    done, partial = (run.folder / FOLDER / f"{name}{suffix}" for suffix in (_DONE, _PARTIAL))
    path = done if finished else partial
    write_facts(path, {"made_with": made_with(run), "result": result})
    if finished:
        partial.unlink(missing_ok=True)
    return path


def read_cleansings(run: Run) -> tuple[list[Cleansed], list[str]]:
    """All cleansings that a run keeps, newest first, and the problems of unreadable files."""
    paths = sorted((run.folder / FOLDER).glob("*"))
    cleansings, problems = read_each(
        (path for path in paths if path.suffix in (_DONE, _PARTIAL)), lambda path: _read(run, path)
    )
    return [cleansed for _, cleansed in sorted(cleansings, key=lambda pair: -pair[0])], problems


def _read(run: Run, path: Path) -> tuple[float, Cleansed]:
    """When one cleansing was kept, and the cleansing."""
    again = "delete it, and retrain again"
    with readable(path, again):
        stored = _Stored.model_validate_json(_with_shares(path.read_text(encoding="utf-8")))
    result, stale = stored.result, stale_since(run, stored.made_with)
    facts, finished = result.model_dump(exclude={"conditions", "models"}), path.suffix == _DONE
    with readable(path, again):
        changed = path.stat().st_mtime
    return changed, Cleansed(path.stem, facts, result.conditions, result.models, finished, stale)


def _with_shares(text: str) -> str:
    """A file of an earlier version, whose result has a `fraction`, as a curve of one share."""
    kept = json.loads(text)
    result = kept["result"]
    if "fraction" not in result:
        return text
    share = result.pop("fraction")
    result |= {"shares": [share], "removed": [result["removed"]], "chosen": share}
    for row in (*result["models"], *result["conditions"]):
        if row["condition"] in (RANDOM, CLEANSED):
            row["share"] = share
    return json.dumps(kept)


def curve_of(run: Run, validation: str, finished: bool = True) -> Cleansed | None:
    """Of the cleansings for a validation set, finished or not, the newest of those with most
    shares; one that is not stale comes first. None if there is none.
    """
    found = [
        cleansed
        for cleansed in read_cleansings(run)[0]
        if cleansed.facts["validation"] == validation and cleansed.finished is finished
    ]
    return max(found, key=lambda one: (not one.stale, len(one.facts["shares"])), default=None)
