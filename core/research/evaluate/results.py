"""Results of `evaluate`, kept in RUN/fidelity/results/NAME.json for pages to show; needs no torch.

A file holds what `evaluate --json` prints, facts and rows, and two checksums: of the weights and of
the influences that were measured. When either has changed since, the result is *stale*, and whoever
shows it says so. A later call of the same measure replaces the file.

Pages look for the names of methods and figures below; other figures are shown as they come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turnover.runs.run import Run, made_with, stale_since
from turnover.storage.artifacts import read_each, read_facts, write_facts
from turnover.storage.schema import Facts

MEASURES = {
    "lds": "do summed influences predict retraining on random halves",
    "loo": "do influences predict leaving single items out",
    "injected": "are injected wrong labels found",
    "real-errors": "are label errors found that people confirmed",
    "duplicates": "do known near duplicates rank high",
    "removal": "is an error gone when its proponents are removed and the model is trained again",
    "loss-added": "does a target's loss rise without the top 1 % and 5 % of its proponents",
    "agreement": "do two halves of the members agree",
    "causes": "are injected cues and wrong labels named as the causes of errors",
    "proofs": "are the causes of errors confirmed by retraining, and random items not",
}
"""The question that each measure answers."""

TURNOVER, SHOWN = "turn-over", ", as shown"
AS_SHOWN = f"{TURNOVER}{SHOWN}"
"""Prefix of our own methods' names, the ending of what pages show, and our own method that they
show.
"""

LDS, AUC, TARGETS, SPEARMAN = "LDS", "AUC", "targets", "Spearman"
STRONG, SAME_SIGN = "strong items", "same sign, strong"
SAME_SIGN_TOP, SAME_SIGN_CLAIMED = "same sign, strong in top 10", "same sign, claimed"
RANK = "rank, median"
"""Of known near duplicates among proponents: the only figure where lower is better."""

COVERAGE, COVERAGE_TOP = "coverage", "coverage, top 10"


# Rows of figures


@dataclass(frozen=True)
class Figure:
    """A number; `low` and `high` bound its 95 % interval, if there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return (
            f"{self.value:.3f}"
            if self.low is None
            else f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"
        )


@dataclass(frozen=True)
class ResultRow:
    """One method's figures by name, and the seconds of its training and of its estimate; a method
    that rejected the model has a note and no figure.
    """

    method: str
    train_seconds: float
    estimate_seconds: float
    figures: dict[str, Figure] = field(default_factory=dict)
    note: str = ""


def markdown_table(
    head: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[int] = ()
) -> str:
    """A Markdown table; the columns of the numbers in `right`, from 0, are aligned right."""
    rules = ["---:" if column in right else "---" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, rules, *rows))


def table(rows: Sequence[ResultRow]) -> str:
    """The rows as a Markdown table."""
    columns = list(dict.fromkeys(name for row in rows for name in row.figures))
    head = ("method", *columns, "training, s", "estimate, s", "")
    lines = (
        (
            row.method,
            *(row.figures.get(name, "") for name in columns),
            f"{row.train_seconds:.1f}" if row.train_seconds else "",
            f"{row.estimate_seconds:.1f}",
            row.note,
        )
        for row in rows
    )
    return markdown_table(head, lines, right=range(1, len(head) - 1))


def setting(facts: Mapping[str, Any]) -> str:
    """The facts of a measurement in one line."""
    return ", ".join(
        f"{name.replace('_', ' ')} {_shown(value)}"
        for name, value in facts.items()
        if name not in ("run", "measure", "rows")
    )


def _shown(value: float | bool | None) -> str:
    if isinstance(value, bool | None):
        return {True: "yes", False: "no", None: "unknown"}[value]
    return f"{value:.3f}" if isinstance(value, float) else str(value)


# Files

FOLDER = Path("fidelity", "results")
_MASKED = "retrained_with_turnover_dropout"
_FORMER = {"planted": "injected"}
"""Names of measures in files of earlier versions."""


@dataclass(frozen=True)
class Result:
    """One measure of a run.

    Attributes:
        name: of the file; `measure`, with `-masked` where models were retrained with turn-over
            dropout.
        facts: settings and counts of the measurement.
        rows: one a method.
        stale: what has changed since, in a sentence; "" if nothing has.
    """

    name: str
    measure: str
    facts: Mapping[str, Any]
    rows: tuple[ResultRow, ...]
    stale: str = ""


@dataclass(frozen=True)
class Results:
    """All results of a run, by name, and the problems of unreadable files, one line each."""

    found: tuple[Result, ...] = ()
    problems: tuple[str, ...] = ()


class _Measured(Facts, extra="allow"):
    measure: str
    rows: tuple[ResultRow, ...]


class _Stored(Facts):
    made_with: dict[str, str]
    result: _Measured


def keep_result(run: Run, result: dict[str, Any]) -> Path:
    """Keep a result of `evaluate` with the run; returns the file.

    Raises:
        TurnoverError: if the disk is full or the folder cannot be written to.
    """
    name = f"{result['measure']}{'-masked' if result.get(_MASKED) else ''}.json"
    return write_facts(run.folder / FOLDER / name, {"made_with": made_with(run), "result": result})


def read_results(run: Run) -> Results:
    """All results that a run keeps; a damaged file becomes a problem and hides no other."""
    by_name = {path.stem: path for path in (run.folder / FOLDER).glob("*.json")}
    paths = [path for name, path in sorted(by_name.items()) if _FORMER.get(name) not in by_name]
    results, problems = read_each(paths, lambda path: _read(run, path))
    return Results(tuple(results), tuple(problems))


def _read(run: Run, path: Path) -> Result:
    name, measure = (
        _FORMER.get(old, old) for old in (path.stem, path.stem.removesuffix("-masked"))
    )
    again = f"measure again with `turnover evaluate --run {run.folder} --measure {measure}`"
    stored = read_facts(path, _Stored, again)
    result, stale = stored.result, stale_since(run, stored.made_with)
    measure = _FORMER.get(result.measure, result.measure)
    return Result(name, measure, result.model_extra or {}, result.rows, stale)
