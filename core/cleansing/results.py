"""What cleansings of a run came to, kept in RUN/cleansing/NAME.json; one that is still being measured in NAME.partial.

A file holds what `cleanse --json` prints, and the checksums of the weights and influences that were measured. A later
cleansing for the same validation set, of the same share and number of seeds, takes its place; one with the flags stands
beside one without. Nothing here needs torch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnover.atomic import write_atomic
from turnover.cleansing.choose import WITH_FLAGS
from turnover.cleansing.scores import FOLDER, cleansing_folder
from turnover.cleansing.summary import Comparison, Summary
from turnover.errors import TurnoverError
from turnover.plausible import finite_number
from turnover.runs import Run
from turnover.stale import made_with, stale_since

_DONE, _PARTIAL = ".json", ".partial"


@dataclass(frozen=True)
class Cleansed:
    """One cleansing of a run.

    Attributes:
        name: of the file.
        facts: what `cleanse --json` prints, beside the conditions.
        conditions: in the order of `WITH_FLAGS`.
        seeds: by condition, how many models it has so far.
        finished: whether all models are trained.
        stale: what has changed since, in words; "" if nothing has.
    """

    name: str
    facts: Mapping[str, Any]
    conditions: tuple[Summary, ...]
    seeds: Counter[str]
    finished: bool
    stale: str


def keep_cleansing(run: Run, result: dict[str, Any], finished: bool = True) -> Path:
    """Keep a result of a run, whole or as far as it is known; returns the file.

    Raises:
        TurnoverError: if the disk is full or the folder cannot be written to.
    """
    name = f"{result['validation']}-{result['fraction']:g}-{result['repeats']}-seeds{'-flags' if result['flags'] else ''}"
    folder = cleansing_folder(run)
    path = folder / f"{name}{_DONE if finished else _PARTIAL}"
    text = json.dumps({"made_with": made_with(run), "result": result}, indent=1, ensure_ascii=False)
    write_atomic(path, lambda beside: beside.write_text(text, encoding="utf-8"))
    if finished:
        (folder / f"{name}{_PARTIAL}").unlink(missing_ok=True)
    return path


def read_cleansings(run: Run) -> tuple[list[Cleansed], list[str]]:
    """All cleansings that a run keeps, newest first, and what is wrong with files that cannot be read."""
    found: list[tuple[float, Cleansed]] = []
    problems = []
    for path in sorted((run.folder / FOLDER).glob("*")):
        if path.suffix in (_DONE, _PARTIAL):
            try:
                found.append((path.stat().st_mtime, _read(run, path)))
            except FileNotFoundError:
                continue
            except TurnoverError as error:
                problems.append(str(error))
    return [one for _, one in sorted(found, key=lambda pair: -pair[0])], problems


def _read(run: Run, path: Path) -> Cleansed:
    """One cleansing.

    Raises:
        TurnoverError: for a file that is none, or says of a number what is none.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        result, made = dict(kept["result"]), dict(kept["made_with"])
        seeds = Counter(str(one["condition"]) for one in result["models"])
        conditions = tuple(_summary(one) for one in result.pop("conditions"))
        _check(result)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        raise TurnoverError(f"{path}: not readable as a cleansing; delete it, and retrain again") from None
    return Cleansed(path.stem, result, conditions, seeds, path.suffix == _DONE, stale_since(run, made))


def _check(result: dict[str, Any]) -> None:
    flags = result["flags"]
    counts = [result[name] for name in ("removed", "repeats", "targets", "measured_on")]
    counts += [] if flags is None else [flags[name] for name in ("dropped", "relabelled")]
    finite_number(result["fraction"])
    if not all(isinstance(count, int) for count in counts) or not isinstance(result["validation"], str) or not isinstance(result["removed_ids"], list):
        raise TypeError(result)


def _summary(one: dict[str, Any]) -> Summary:
    name = str(one["condition"])
    if name not in WITH_FLAGS:
        raise ValueError(name)
    accuracy, accuracy_sd, loss, loss_sd, validation_loss = (
        finite_number(one[key]) for key in ("accuracy", "accuracy_sd", "loss", "loss_sd", "validation_loss")
    )
    return Summary(name, accuracy, accuracy_sd, loss, loss_sd, validation_loss, tuple(_comparison(other) for other in one["against"]))


def _comparison(other: dict[str, Any]) -> Comparison:
    return Comparison(str(other["other"]), *_difference(other, "accuracy"), *_difference(other, "loss"))


def _difference(other: dict[str, Any], what: str) -> tuple[float, float | None, tuple[float, float] | None]:
    """A mean difference, its p-value and its interval."""
    p, interval = other[f"{what}_p"], other[f"{what}_interval"]
    bounds = None if interval is None else (finite_number(interval[0]), finite_number(interval[1]))
    return finite_number(other[what]), None if p is None else finite_number(p), bounds
