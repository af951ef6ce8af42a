"""CSV, TSV and JSONL files as records: pieces of text that, joined, are the file again.

The standard library's reader parses; the lines that it takes for a record are kept. So all that is
not changed is written back byte by byte: quotes, blanks, blank lines, line ends, a byte order mark.

Quotes in TSV are marks where all of them are as spreadsheets and pandas write them, else characters
like any other; see `dialect_of`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from turnover.errors import TurnoverError
from turnover.storage.atomic import write_atomic

CSV, TSV, JSONL = ".csv", ".tsv", ".jsonl"
CSV_BLANKS, TSV_QUOTES = ".csv with blanks after commas", ".tsv with quotes"
DIALECTS: dict[str, dict[str, Any]] = {
    CSV: {},
    CSV_BLANKS: {"skipinitialspace": True},
    TSV: {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None},
    TSV_QUOTES: {"delimiter": "\t"},
}
"""Options of the standard library's reader and writer, by form: an ending of file names, or a
dialect of one.
"""
MEANINGS = {
    CSV_BLANKS: "the blanks after its commas are not part of the cells",
    TSV_QUOTES: "the quotes around its cells are not part of them",
}
"""What dialects mean, for a note."""
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"
_QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')
_LINE = re.compile(r"[^\r\n]*+(?:\r\n?|\n)|[^\r\n]++")
"""A line as the reader takes one; `splitlines` would part texts at other characters too."""
_SAMPLE = 20
"""Records that are looked at for blanks after commas."""


@dataclass
class Records:
    """A file of text in a form (a key of `DIALECTS`, or JSONL).

    Attributes:
        file: its name in errors.
        form: how a record is written.
        pieces: the file's text in order: its head, records, and blank lines.
        numbers: of the piece that is each row's record.
        names: of the columns, in order.
        columns: cells by column.
    """

    file: str
    form: str
    pieces: list[str]
    numbers: list[int]
    names: list[str]
    columns: dict[str, list[Any]]

    def write(
        self, out: Path, dropped: Collection[int], labels: Mapping[int, Any], column: str
    ) -> None:
        """Write a copy; see `turnover.data.tables.table.Form`."""
        pieces = list(self.pieces)
        for row in dropped:
            pieces[self.numbers[row]] = ""
        for row, label in labels.items():
            pieces[self.numbers[row]] = self._changed(row, column, label)
        content = "".join(pieces).encode()
        write_atomic(out, lambda beside: beside.write_bytes(content))

    def _changed(self, row: int, column: str, value: Any) -> str:
        """A row's record with another value in a column."""
        record = self.pieces[self.numbers[row]]
        end = record[len(record.rstrip("\r\n")) :]
        if self.form == JSONL:
            escaped = record.isascii() or "\\u" in record
            return json.dumps(json.loads(record) | {column: value}, ensure_ascii=escaped) + end
        dialect = dict(DIALECTS[self.form])
        cells: list[Any] = next(csv.reader(io.StringIO(record, newline=""), **dialect))
        cells += [""] * (len(self.names) - len(cells))
        cells[self.names.index(column)] = value
        if self.form == CSV_BLANKS:
            dialect["quoting"] = csv.QUOTE_ALL
        written = io.StringIO()
        try:
            csv.writer(written, lineterminator="\r\n", **dialect).writerow(cells)
        except csv.Error:
            raise TurnoverError(
                f"{self.file}, row {row + 1}: the label {value!r:.80} cannot be written as TSV; "
                "give the class another name"
            ) from None
        return written.getvalue().removesuffix("\r\n") + end


def read_records(text: str, name: str, form: str) -> Records:
    """The records of a file of a form: a key of `DIALECTS`, or JSONL.

    Raises:
        TurnoverError: for a record that cannot be read; the text names file, row and remedy.
    """
    head = _BOM if text.startswith(_BOM) else ""
    text = text.removeprefix(_BOM)
    return _read_lines(head, text, name) if form == JSONL else _read_csv(head, text, name, form)


def _read_csv(head: str, text: str, name: str, form: str) -> Records:
    pieces, numbers, names = [head], list[int](), list[str]()
    columns: list[list[str]] = []
    for record, values in _parsed(text, name, form):
        pieces.append(record)
        if not record.strip():
            continue
        if not names:
            _check_names(values, name)
            names, columns = values, [[] for _ in values]
            continue
        if len(values) > len(names):
            raise TurnoverError(
                f"{name}, row {len(numbers) + 1}: {len(values)} fields under {len(names)} names; "
                "check quotes and separators"
            )
        numbers.append(len(pieces) - 1)
        for cells, value in zip(columns, values + [""] * (len(names) - len(values)), strict=True):
            cells.append(value)
    by_name = {name: columns[names.index(name)] for name in names}
    return Records(name, form, pieces, numbers, names, by_name)


def _parsed(text: str, name: str, form: str) -> Iterator[tuple[str, list[str]]]:
    """Each record as it is written, and its cells; blank lines are records too.

    Raises:
        TurnoverError: if a quote is never closed.
    """
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    lines = _LINE.findall(text)
    end_mark = ["\n"]  # a line that only a field in an open quote takes in
    reader = csv.reader(chain(lines, end_mark), **DIALECTS[form])
    begin, row = 0, 0
    for values in reader:
        if reader.line_num > len(lines):
            if begin < len(lines):
                raise TurnoverError(
                    f"{name}, row {max(row, 1)}: a quote is never closed; check quotes"
                )
            return
        record = "".join(lines[begin : reader.line_num])
        begin, row = reader.line_num, row + bool(record.strip())
        yield record, values


def _check_names(names: list[str], name: str) -> None:
    """Check that a header is not a line for Excel, nor one column with other separators in it, and
    has no name twice.

    Raises:
        TurnoverError: if it is, or has.
    """
    if names[0].lower().startswith("sep="):
        raise TurnoverError(
            f"{name}: the first line names a separator for Excel; remove it, and write commas "
            "between fields in CSV or tabs in TSV"
        )
    mark = next((mark for mark in (";", "\t", "|", ",") if mark in names[0]), None)
    if mark and len(names) == 1:
        remedy = {"\t": "rename it to end with .tsv", ",": "rename it to end with .csv"}
        raise TurnoverError(
            f"{name}: one column only; CSV has commas between fields and TSV tabs, not {mark!r}; "
            f"{remedy.get(mark, 'save it with commas, with quotes around texts that have some')}"
        )
    [(most, count)] = Counter(filter(str.strip, names)).most_common(1) or [("", 0)]
    if count > 1:
        raise TurnoverError(
            f"{name}: the header has {most!r:.40} twice; give each column a name of its own, or "
            "add a first line such as text,label if the header is missing"
        )


def _read_lines(head: str, text: str, name: str) -> Records:
    pieces, numbers, objects = [head], list[int](), list[dict[str, Any]]()
    for line in io.StringIO(text, newline="\n"):
        pieces.append(line)
        if not line.strip():
            continue
        numbers.append(len(pieces) - 1)
        try:
            parsed = json.loads(line)
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            raise TurnoverError(f"{name}, row {len(numbers)}: not a JSON object; write one a line")
        objects.append(parsed)
    names = [*dict.fromkeys(column for parsed in objects for column in parsed)]
    columns = {column: [parsed.get(column, "") for parsed in objects] for column in names}
    return Records(name, JSONL, pieces, numbers, names, columns)


# Dialects


def dialect_of(form: str, text: str) -> str:
    """The form by which a file with this ending is read."""
    text = text.removeprefix(_BOM)
    try:
        if form == CSV and _has_blanks(text):
            return CSV_BLANKS
        return TSV_QUOTES if form == TSV and _has_quotes(text) else form
    except TurnoverError:
        return form


def _rows(text: str, form: str) -> Iterator[list[str]]:
    """The cells of the records that are not blank."""
    return (cells for record, cells in _parsed(text, "", form) if record.strip())


def _has_blanks(text: str) -> bool:
    """Whether the commas of a CSV file have a blank after them: before every name of the header, or
    before a quote, which is a mark then.
    """
    readings = (islice(_rows(text, form), _SAMPLE) for form in (CSV, CSV_BLANKS))
    for number, (plain, skipped) in enumerate(zip(*readings, strict=False)):
        if [cell.lstrip(" ") for cell in plain] != [cell.lstrip(" ") for cell in skipped]:
            return True
        names = [*zip(plain[1:], skipped[1:], strict=True)]
        if not number and names and all(name != bare for name, bare in names):
            return True
    return False


def _has_quotes(text: str) -> bool:
    """Whether the quotes of a TSV file are marks: each field with a quote is a quoted field, and
    something shows why. The header is quoted; or a quote is doubled; or lines have too few or too
    many fields if a quote is no mark; or all fields with a comma are quoted, as Excel does.
    """
    if '"' not in text:
        return False
    plain, records = list(_rows(text, TSV)), list(_rows(text, TSV_QUOTES))
    if any(len(record) != len(plain[0]) for record in plain):
        return all(len(record) == len(records[0]) for record in records)
    fields = [field for record in plain for field in record]
    quoted = [field for field in fields if '"' in field]
    return (
        len(plain) == len(records)
        and all(_QUOTED.fullmatch(field) for field in quoted)
        and (
            plain[0][0].startswith('"')
            or any('""' in field[1:-1] for field in quoted)
            or all(("," in field) == ('"' in field) for field in fields)
        )
    )
