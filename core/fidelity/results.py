"""What `evaluate` measured, kept in the run so that a page can show it: RUN/fidelity/results/NAME.json.

A file holds what `evaluate --json` prints, facts and rows, and two checksums: of the weights and of the influences that were
measured. When either has changed since, the result is *stale*: it is told of numbers that nobody sees any more, and whoever
shows it says so. A later call of the same measure takes the file's place. Nothing here needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnover.atomic import disk_error, write_atomic
from turnover.errors import TurnoverError
from turnover.fidelity.row import Figure, Row
from turnover.plausible import finite_number
from turnover.runs import Run
from turnover.stale import made_with, stale_since

FOLDER = Path("fidelity", "results")
_MASKED = "retrained_with_turnover_dropout"


@dataclass(frozen=True)
class Result:
    """One measure of a run.

    Attributes:
        name: of the file; `measure`, with `-masked` where models were retrained with turn-over dropout.
        facts: what was measured with, beside the rows.
        rows: one a method.
        stale: what has changed since, in words; "" if nothing has.
    """

    name: str
    measure: str
    facts: Mapping[str, Any]
    rows: tuple[Row, ...]
    stale: str = ""


@dataclass(frozen=True)
class Results:
    """All that is kept of a run, by name, and what is wrong with the files that cannot be read, a line each."""

    found: tuple[Result, ...] = ()
    problems: tuple[str, ...] = ()


def keep_result(run: Run, result: dict[str, Any]) -> Path:
    """Keep what `evaluate` made of a run with influence; returns the file.

    Raises:
        TurnoverError: if the disk is full or the folder cannot be written to.
    """
    folder = run.folder / FOLDER
    path = folder / f"{result['measure']}{'-masked' if result.get(_MASKED) else ''}.json"
    text = json.dumps({"made_with": made_with(run), "result": result}, indent=1, ensure_ascii=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from None
    write_atomic(path, lambda beside: beside.write_text(text, encoding="utf-8"))
    return path


def read_results(run: Run) -> Results:
    """All results that a run keeps; a damaged file is a line among the problems, and hides no other."""
    found, problems = [], []
    for path in sorted((run.folder / FOLDER).glob("*.json"), key=lambda path: path.stem):
        try:
            found.append(_read(run, path))
        except TurnoverError as error:
            problems.append(str(error))
    return Results(tuple(found), tuple(problems))


def _read(run: Run, path: Path) -> Result:
    """One result.

    Raises:
        TurnoverError: for a file that is no result, or says of a number what is none.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        result, made = dict(kept["result"]), dict(kept["made_with"])
        measure, rows = str(result.pop("measure")), tuple(_row(row) for row in result.pop("rows"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        again = path.stem.removesuffix("-masked")
        raise TurnoverError(f"{path}: not readable as a result; measure again with `turnover evaluate --run {run.folder} --measure {again}`") from None
    return Result(path.stem, measure, result, rows, stale_since(run, made))


def _row(row: dict[str, Any]) -> Row:
    figures = {str(name): _figure(**figure) for name, figure in row["figures"].items()}
    return Row(str(row["method"]), finite_number(row["train_seconds"]), finite_number(row["estimate_seconds"]), figures, str(row["note"]))


def _figure(value: Any, low: Any = None, high: Any = None) -> Figure:
    return Figure(finite_number(value), None if low is None else finite_number(low), None if high is None else finite_number(high))
