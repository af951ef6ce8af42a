"""CSV, TSV and JSONL files as records: pieces of text that, joined, are the file again.

What a flag file does not change is therefore kept as it was written, byte by byte: quotes, spaces,
line ends, a byte order mark. Blank lines belong to the record before them; those before the first
record to the head. Quotes in TSV are marks where all of them are as spreadsheets and pandas write
them, else characters like any other; see `dialect_of`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from turnover.errors import TurnoverError

_END = r"(\r\n|\r|\n|\Z)"


def _quoted(separator: str, blanks: str = "") -> re.Pattern[str]:
    """A field that may be in quotes, after blanks that are not part of it."""
    return re.compile(
        rf'{blanks}((?:"[^"]*+(?:""[^"]*+)*+"|(?!"))[^{separator}\r\n]*+)(?:({separator})|{_END})'
    )


_CSV, _CSV_BLANKS, _TSV_QUOTES = _quoted(","), _quoted(",", " *+"), _quoted("\t")
_TSV = re.compile(r"([^\t\r\n]*+)(?:(\t)|" + _END + ")")
_QUOTED = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"(.*)', re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


@dataclass(frozen=True)
class Records:
    """A file: the text before the first record, the records, and their cells by column."""

    head: str
    rows: list[str]
    columns: dict[str, list[Any]]


@dataclass(frozen=True)
class Form:
    """How a file is split into records, and how a record is written with another value in a column.

    `changed` takes a record, the names of the columns, the name of the one to change, and its
    value.
    """

    split: Callable[[str, str], Records]
    changed: Callable[[str, list[str], str, Any], str]


def utf8(content: bytes, name: str) -> str:
    """A file's text.

    Raises:
        TurnoverError: if it is not UTF-8; the text names the first line that is not.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TurnoverError(
            f"{name}, line {line}: not UTF-8 text; save the file as UTF-8"
        ) from None


def _fields(
    text: str, position: int, pattern: re.Pattern[str], where: str
) -> tuple[list[re.Match[str]], int]:
    """The fields of the record that begins at `position`, and the position of the next one."""
    fields = []
    while True:
        match = pattern.match(text, position)
        if match is None:
            raise TurnoverError(f"{where}: a quote is never closed; check quotes")
        fields.append(match)
        position = match.end()
        if match[2] is None:
            return fields, position


def _value(field: str) -> str:
    """The value of a CSV field."""
    quoted = _QUOTED.fullmatch(field)
    return quoted[1].replace('""', '"') + quoted[2] if quoted else field


def _split_delimited(text: str, name: str, pattern: re.Pattern[str]) -> Records:
    position = len(_BOM) if text.startswith(_BOM) else 0
    head, rows, names = text[:position], list[str](), list[str]()
    columns: list[list[str]] = []
    while position < len(text):
        fields, end = _fields(text, position, pattern, f"{name}, row {len(rows) + 1}")
        record, position = text[position:end], end
        if not record.strip():
            if rows:
                rows[-1] += record
            else:
                head += record
            continue
        values = [field[1] if pattern is _TSV else _value(field[1]) for field in fields]
        if not names:
            _check_names(values, name)
            head, names, columns = head + record, values, [[] for _ in values]
            continue
        if len(values) > len(names):
            raise TurnoverError(
                f"{name}, row {len(rows) + 1}: {len(values)} fields under {len(names)} names; check"
                " quotes and separators"
            )
        rows.append(record)
        for cells, value in zip(columns, values + [""] * (len(names) - len(values)), strict=True):
            cells.append(value)
    return Records(head, rows, {name: columns[names.index(name)] for name in names})


def _check_names(names: list[str], name: str) -> None:
    """Check that a header is not one column with other separators in it, and has no name twice.

    Raises:
        TurnoverError: if it is, or has.
    """
    mark = next((mark for mark in (";", "\t", "|", ",") if mark in names[0]), None)
    if mark and len(names) == 1:
        raise TurnoverError(
            f"{name}: one column only; CSV has commas between fields and TSV tabs, not "
            f"{mark!r}; rename or convert the file"
        )
    [(most, count)] = Counter(filter(str.strip, names)).most_common(1) or [("", 0)]
    if count > 1:
        raise TurnoverError(
            f"{name}: the header has {most!r:.40} twice; give each column a name of its own, or "
            "add a first line such as text,label if the header is missing"
        )


def _changed_delimited(
    record: str, names: list[str], column: str, value: Any, pattern: re.Pattern[str]
) -> str:
    fields, _ = _fields(record, 0, pattern, "")
    if len(fields) <= names.index(column):
        raise TurnoverError(f"there is no {column!r}")
    start, end = fields[names.index(column)].span(1)
    text = str(value)
    if pattern is _TSV and any(character in text for character in "\t\r\n"):
        raise TurnoverError(
            f"the label {text!r:.80} cannot be written as TSV; give the class another name"
        )
    if pattern is not _TSV and (
        record.startswith('"', start)
        or any(character in text for character in ',\t\r\n"')
        or text != text.strip()
    ):
        text = '"' + text.replace('"', '""') + '"'
    return record[:start] + text + record[end:]


def _split_lines(text: str, name: str) -> Records:
    rows, cells = list[str](), list[dict[str, Any]]()
    start = len(_BOM) if text.startswith(_BOM) else 0
    head = text[:start]
    for line in re.findall(r"[^\n]*\n|[^\n]+", text[start:]):
        if not line.strip():
            if rows:
                rows[-1] += line
            else:
                head += line
            continue
        rows.append(line)
        try:
            parsed = json.loads(line)
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            raise TurnoverError(f"{name}, row {len(rows)}: not a JSON object; write one a line")
        cells.append(parsed)
    names = list(dict.fromkeys(column for record in cells for column in record))
    return Records(
        head, rows, {column: [record.get(column, "") for record in cells] for column in names}
    )


def _changed_line(record: str, names: list[str], column: str, value: Any) -> str:
    """A JSON object with another value for one key; of two equal keys, the last counts."""
    spans = [(start, end) for key, start, end in _members(record) if key == column]
    if not spans:
        raise TurnoverError(f"there is no {column!r}")
    start, end = spans[-1]
    return record[:start] + json.dumps(value, ensure_ascii=record.isascii()) + record[end:]


def _members(record: str) -> Iterator[tuple[str, int, int]]:
    """Keys of a JSON object, each with the start and end of its value."""
    decode = json.JSONDecoder().raw_decode
    position = _past(record, record.index("{") + 1)
    while record[position] == '"':
        key, position = scanstring(record, position + 1, True)
        start = _past(record, _past(record, position) + 1)
        _, end = decode(record, start)
        yield key, start, end
        position = _past(record, end)
        if record[position] == ",":
            position = _past(record, position + 1)


def _past(text: str, position: int) -> int:
    """The position after white space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _delimited(pattern: re.Pattern[str]) -> Form:
    return Form(
        partial(_split_delimited, pattern=pattern), partial(_changed_delimited, pattern=pattern)
    )


CSV, TSV, JSONL = ".csv", ".tsv", ".jsonl"
CSV_BLANKS, TSV_QUOTES = ".csv with blanks after commas", ".tsv with quotes"
FORMS = {
    CSV: _delimited(_CSV),
    TSV: _delimited(_TSV),
    JSONL: Form(_split_lines, _changed_line),
    CSV_BLANKS: _delimited(_CSV_BLANKS),
    TSV_QUOTES: _delimited(_TSV_QUOTES),
}
"""Forms by file name extension, and the dialects of two of them."""
DIALECTS = {
    CSV_BLANKS: "the blanks after its commas are not part of the cells",
    TSV_QUOTES: "the quotes around its cells are not part of them",
}
"""What dialects mean, for a note."""
_WHOLE = re.compile(r'"[^"]*(?:""[^"]*)*"')
_SAMPLE = 20
"""Records that are looked at for blanks after commas."""


def dialect_of(form: str, text: str) -> str:
    """The key in `FORMS` by which a file with this extension is read."""
    if form == CSV and _has_blanks(text):
        return CSV_BLANKS
    return TSV_QUOTES if form == TSV and _has_quotes(text) else form


def _records(text: str, pattern: re.Pattern[str]) -> Iterator[list[re.Match[str]]]:
    """The fields of the records that are not blank.

    Raises:
        TurnoverError: if a quote is never closed.
    """
    position = len(_BOM) if text.startswith(_BOM) else 0
    while position < len(text):
        fields, end = _fields(text, position, pattern, "")
        if text[position:end].strip():
            yield fields
        position = end


def _has_blanks(text: str) -> bool:
    """Whether the commas of a CSV file have a blank after them: before every name of the header, or
    before a quote.
    """
    try:
        for number, fields in enumerate(islice(_records(text, _CSV_BLANKS), _SAMPLE)):
            after = [field for field in fields[1:] if field.start(1) > field.start()]
            if any(field[1].startswith('"') for field in after) or (
                not number and after and len(after) == len(fields) - 1
            ):
                return True
    except TurnoverError:
        pass
    return False


def _has_quotes(text: str) -> bool:
    """Whether the quotes of a TSV file are marks: each field with a quote is a quoted field, and
    something shows why. The header is quoted; or a quote is doubled; or lines have too few or too
    many fields if a quote is no mark; or all fields with a comma are quoted, as Excel does.
    """
    if '"' not in text:
        return False
    try:
        records = [[field[1] for field in fields] for fields in _records(text, _TSV_QUOTES)]
    except TurnoverError:
        return False
    fields = [field for record in records for field in record]
    quoted = [field for field in fields if '"' in field]
    plain = [list(record) for record in _records(text, _TSV)]
    if not all(_WHOLE.fullmatch(field) for field in quoted):
        return False
    if any(len(record) != len(plain[0]) for record in plain):
        return all(len(record) == len(records[0]) for record in records)
    return len(plain) == len(records) and (
        records[0][0].startswith('"')
        or any('""' in field[1:-1] for field in quoted)
        or all(("," in field) == ('"' in field) for field in fields)
    )
