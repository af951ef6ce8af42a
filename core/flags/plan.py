"""Which rows of a data set a flag file drops and relabels, and which of its lines do not fit.

A line's row is found by its id in a column of ids, by the number at the end of the id (`train-12`
is row 12, from 0), or, where no id matches, by its contents. However it was found, a row is only
changed if its text or pixels and its label are those that were decided on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from turnover.data.tables.checks import check_column, listed
from turnover.data.tables.columns import LABELS, named_like
from turnover.data.tables.labels import label_name
from turnover.errors import TurnoverError
from turnover.flags.flag_file import FlagFile, Line

_NUMBERED = re.compile(r".*-(\d{1,15})", re.DOTALL)
_INDEX, _LABEL = "index", "label"


class Source(Protocol):
    """Rows of a data set: cells by column, a name for each row, and the hash of its contents."""

    @property
    def name(self) -> str: ...
    @property
    def columns(self) -> Mapping[str, Sequence[Any]]: ...
    def place(self, row: int) -> str: ...
    def digest(self, row: int) -> str: ...


@dataclass(frozen=True)
class Misfit:
    """A line that does not fit, the row it names ("" if none), and why."""

    id: str
    place: str
    why: str


@dataclass
class Changes:
    """Effect of a flag file: rows to drop, new label cells by row, how many rows stay as they are,
    and the lines that do not fit.
    """

    dropped: set[int] = field(default_factory=set)
    relabelled: dict[int, Any] = field(default_factory=dict)
    kept: int = 0
    misfits: list[Misfit] = field(default_factory=list)


def make_plan(flag_file: FlagFile, source: Source, label: str | None = None) -> Changes:
    """The changes of a flag file to a source whose labels are in the column `label`, inferred if
    None.

    Raises:
        TurnoverError: if the source has no labels of the flag file's classes, or no line of the
            flag file fits.
    """
    labels = _Labels(source, label_column(source, flag_file.classes, label), flag_file.classes)
    rows, plan, seen = _Rows(flag_file.lines, source), Changes(), set[int]()
    plan.misfits += [
        Misfit("", f"line {refused.number}", refused.why) for refused in flag_file.refused
    ]
    for line in flag_file.lines:
        try:
            row = rows.of(line)
            if row in seen:
                raise TurnoverError("another line of the flag file has decided on it")
            seen.add(row)
            _add(plan, line, row, labels)
        except TurnoverError as error:
            matched_row = rows.found.get(line.id)
            plan.misfits.append(
                Misfit(
                    line.id, "" if matched_row is None else source.place(matched_row), str(error)
                )
            )
    if plan.misfits and not (plan.dropped or plan.relabelled or plan.kept):
        first = plan.misfits[0]
        raise TurnoverError(
            f"{source.name}: none of the {len(plan.misfits):,} lines of the flag file fits; "
            f"{first.place or repr(first.id[:80])}: {first.why}"
        )
    return plan


def label_column(source: Source, classes: Sequence[str], named: str | None) -> str:
    """The column that holds labels: the named one, `label`, or the one with nothing but classes; of
    several, the one with a usual name.
    """
    if named is not None:
        check_column(named, source.columns, source.name, "name one of these")
        return named
    if _LABEL in source.columns:
        return _LABEL
    class_cells = {*classes, *map(str, range(len(classes)))}
    fitting = [
        name
        for name, cells in source.columns.items()
        if len(cells)
        and all(
            {str(cell), label_name(cell)} & class_cells for cell in cells if cell not in (None, "")
        )
    ]
    chosen = fitting[0] if len(fitting) == 1 else named_like(fitting, LABELS)
    if chosen is None:
        raise TurnoverError(
            f"{source.name}: which column holds the labels? (there are: "
            f"{listed(source.columns)}); name it with --label-column"
        )
    return chosen


def _add(plan: Changes, line: Line, row: int, labels: _Labels) -> None:
    if line.flag.action == "relabel" and labels.is_one(row, line.flag.new_label):
        plan.kept += 1
        return
    if not labels.is_one(row, line.label):
        raise TurnoverError(f"the label is {labels.cells[row]!r:.80} here, not {line.label!r:.80}")
    if line.flag.action == "drop":
        plan.dropped.add(row)
    elif line.flag.action == "relabel":
        plan.relabelled[row] = labels.value(row, line.flag.new_label)
    else:
        plan.kept += 1


class _Labels:
    """How a column encodes classes: by name or, where that fits more of its cells, by number from
    0.
    """

    def __init__(self, source: Source, column: str, classes: Sequence[str]) -> None:
        self.cells = source.columns[column]
        self._numbers = {name: number for number, name in enumerate(classes)}
        numbers = set(map(str, range(len(classes))))
        written = [{str(cell), label_name(cell)} for cell in self.cells]
        self._by_number = sum(not texts.isdisjoint(numbers) for texts in written) > sum(
            not texts.isdisjoint(self._numbers) for texts in written
        )

    def _text(self, name: str) -> str:
        return str(self._numbers[name]) if self._by_number else name

    def is_one(self, row: int, name: str) -> bool:
        """Whether a row's label is this class."""
        return self._text(name) in (str(self.cells[row]), label_name(self.cells[row]))

    def value(self, row: int, name: str) -> Any:
        """A class as the row's cell writes it."""
        cell, text = self.cells[row], self._text(name)
        return text == str(True) if isinstance(cell, bool) else type(cell)(text)


class _Rows:
    """Finds the row of a line; `found` are the rows matched by id, whatever their contents."""

    def __init__(self, lines: Sequence[Line], source: Source) -> None:
        self._source = source
        self._by_content: dict[str, list[int]] | None = None
        self.found: dict[str, int] = {}
        hashes = {line.id: line.sha256 for line in lines}
        candidates = [rows for rows in _candidates(hashes, source.columns) if rows]
        for rows in candidates:
            if any(source.digest(row) == hashes[name] for name, row in rows.items()):
                self.found = rows
                return
        self._by_content = _rows_by_content(source, set(hashes.values()))
        if candidates and not self._by_content:
            self._by_content, self.found = None, candidates[0]

    def of(self, line: Line) -> int:
        """The row of a line.

        Raises:
            TurnoverError: if there is none, or it has other contents.
        """
        if self._by_content is not None:
            rows = self._by_content.get(line.sha256, [])
            if len(rows) != 1:
                raise TurnoverError(
                    f"{len(rows)} rows have its contents, and no column has ids"
                    if rows
                    else "no row has its contents"
                )
            return rows[0]
        if line.id not in self.found:
            raise TurnoverError("no row has this id")
        if self._source.digest(self.found[line.id]) != line.sha256:
            raise TurnoverError("the contents are not those that the decision was made on")
        return self.found[line.id]


def _candidates(
    hashes: Mapping[str, str], columns: Mapping[str, Sequence[Any]]
) -> Iterator[dict[str, int]]:
    """Rows by id: from the column that holds most ids, from a column of row numbers, from the rows'
    order.
    """
    yield max((_ids_in(cells, hashes) for cells in columns.values()), key=len, default={})
    numbers = {name: int(match[1]) for name in hashes if (match := _NUMBERED.fullmatch(name))}
    if _INDEX in columns:
        rows = {str(cell): row for row, cell in enumerate(columns[_INDEX])}
        yield {name: rows[str(number)] for name, number in numbers.items() if str(number) in rows}
    count = len(next(iter(columns.values()), ()))
    yield {name: number for name, number in numbers.items() if number < count}


def _ids_in(cells: Sequence[Any], ids: Mapping[str, str]) -> dict[str, int]:
    """Rows of the ids in a column; empty if one occurs twice."""
    rows: dict[str, int] = {}
    for row, cell in enumerate(cells):
        text = cell if isinstance(cell, str) else str(cell) if isinstance(cell, int) else ""
        if text in ids:
            if text in rows:
                return {}
            rows[text] = row
    return rows


def _rows_by_content(source: Source, wanted: set[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row in range(len(next(iter(source.columns.values()), ()))):
        digest = source.digest(row)
        if digest in wanted:
            rows.setdefault(digest, []).append(row)
    return rows
