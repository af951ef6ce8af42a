"""Which rows of a data set a flag file drops and relabels, and which of its lines do not fit.

Where the data are those that the run was trained on, the run knows a line's row. Elsewhere it is
found by its id in a column of ids, by the number at the end of the id (`train-12` is row 12, from
0), or by its contents. However it was found, a row is only changed if its text or pixels and its
label are those that were decided on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from turnover.data.tables.columns import Columns
from turnover.data.tables.labels import label_name
from turnover.data.tables.rows import Lost, image_file
from turnover.data.tables.table import Table
from turnover.errors import TurnoverError
from turnover.flags.flag_file import FlagFile, Line, file_hash, text_hash

_NUMBERED = re.compile(r".*-(\d{1,15})", re.DOTALL)
_INDEX = "index"


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


def make_plan(
    flag_file: FlagFile, table: Table, columns: Columns, known: Mapping[str, int] | None = None
) -> Changes:
    """The changes of a flag file to a table, whose rows are `known` by id where it is the one that
    was trained on.

    Raises:
        TurnoverError: if no line of the flag file fits.
    """
    labels = _Labels(table.columns[columns.label], flag_file.classes)
    contents = _Contents(table, columns, flag_file.shape)
    rows, plan, seen = _Rows(flag_file.lines, contents, known), Changes(), set[int]()
    plan.misfits += [
        Misfit("", f"line {refused.number}", refused.why) for refused in flag_file.refused
    ]
    for line in flag_file.lines:
        row = rows.found.get(line.id)
        try:
            row = rows.of(line)
            if row in seen:
                raise TurnoverError("another line of the flag file has decided on it")
            seen.add(row)
            _add(plan, line, row, labels)
        except TurnoverError as error:
            place = "" if row is None else table.place(row)
            plan.misfits.append(Misfit(line.id, place, str(error)))
    if plan.misfits and not (plan.dropped or plan.relabelled or plan.kept):
        first = plan.misfits[0]
        raise TurnoverError(
            f"{table.name}: none of the {len(plan.misfits):,} lines of the flag file fits; "
            f"{first.place or repr(first.id[:80])}: {first.why} (columns {columns.content} and "
            f"{columns.label})"
        )
    return plan


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

    def __init__(self, cells: Sequence[Any], classes: Sequence[str]) -> None:
        self.cells = cells
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


class _Contents:
    """The hashes of a table's texts or images; `shape` is that of the images decided on."""

    def __init__(self, table: Table, columns: Columns, shape: tuple[int, ...]) -> None:
        self.table, self._column, self._shape = table, columns.content, shape
        self._known: dict[int, str] = {}

    def of(self, row: int) -> str:
        """The hash of a row's text or image; "" if it has none."""
        if row not in self._known:
            self._known[row] = self._hash(row)
        return self._known[row]

    def _hash(self, row: int) -> str:
        if not self._shape:
            cell = self.table.columns[self._column][row]
            return text_hash(cell) if isinstance(cell, str) else ""
        try:
            content = image_file(self.table, self._column, row)
        except (Lost, TurnoverError):
            return ""
        return file_hash(self.table.where(row), content, self._shape)

    @cached_property
    def rows(self) -> dict[str, list[int]]:
        """The rows of each hash."""
        rows: dict[str, list[int]] = {}
        for row in range(len(self.table)):
            rows.setdefault(self.of(row), []).append(row)
        return rows


class _Rows:
    """Finds the row of a line; `found` are the rows matched by id, whatever their contents."""

    def __init__(
        self, lines: Sequence[Line], contents: _Contents, known: Mapping[str, int] | None
    ) -> None:
        self._contents, self._by_content = contents, False
        count = len(contents.table)
        self.found = {name: row for name, row in (known or {}).items() if 0 <= row < count}
        if known is not None:
            return
        hashes, columns = {line.id: line.sha256 for line in lines}, contents.table.columns
        numbers = {name: int(match[1]) for name in hashes if (match := _NUMBERED.fullmatch(name))}
        for self.found in _by_columns(hashes, numbers, columns):
            if self._matches(hashes):
                return
        # rows may have been added or removed since
        self.found = {name: row for name, row in numbers.items() if row < count}
        if 2 * self._matches(hashes) < len(hashes):
            self.found, self._by_content = {}, True

    def _matches(self, hashes: Mapping[str, str]) -> int:
        """How many of the rows have the contents that were decided on."""
        return sum(self._contents.of(row) == hashes[name] for name, row in self.found.items())

    def of(self, line: Line) -> int:
        """The row of a line.

        Raises:
            TurnoverError: if there is none, or it has other contents.
        """
        if self._by_content:
            rows = self._contents.rows.get(line.sha256, [])
            if len(rows) != 1:
                raise TurnoverError(
                    f"{len(rows)} rows have its contents, and no column has ids"
                    if rows
                    else "no row has its contents"
                )
            return rows[0]
        if line.id not in self.found:
            raise TurnoverError("no row has this id")
        if self._contents.of(self.found[line.id]) != line.sha256:
            raise TurnoverError("the contents are not those that the decision was made on")
        return self.found[line.id]


def _by_columns(
    hashes: Mapping[str, str], numbers: Mapping[str, int], columns: Mapping[str, Sequence[Any]]
) -> Iterator[dict[str, int]]:
    """Rows by id: from the column that holds most ids, and from a column of row numbers."""
    yield max((_ids_in(cells, hashes) for cells in columns.values()), key=len, default={})
    if _INDEX in columns:
        rows = {str(cell): row for row, cell in enumerate(columns[_INDEX])}
        yield {name: rows[str(row)] for name, row in numbers.items() if str(row) in rows}


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
