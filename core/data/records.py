"""CSV, TSV and JSONL as records: pieces of text that, joined, are the file again, byte by byte.

What a patch does not change is therefore kept as it was written: quotes, spaces, line ends, a byte order mark. Blank lines
belong to the record before them, and those that are no records to the head. The same reading of a file as in `turnover.data.tables`,
where a quote in TSV is a character like any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from turnover.errors import TurnoverError

_END = r"(\r\n|\r|\n|\Z)"
_CSV = re.compile(r'((?:"[^"]*+(?:""[^"]*+)*+"|(?!"))[^,\r\n]*+)(?:(,)|' + _END + ")")
_TSV = re.compile(r"([^\t\r\n]*+)(?:(\t)|" + _END + ")")
_QUOTED = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"(.*)', re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


@dataclass(frozen=True)
class Records:
    """A file: what comes before the first record, the records, and their cells by column."""

    head: str
    rows: list[str]
    columns: dict[str, list[Any]]


@dataclass(frozen=True)
class Form:
    """How a file is cut into records, and how one is written with another value in a column.

    `changed` takes a record, the names of the columns, the name of the one to change, and its value.
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
        raise TurnoverError(f"{name}, line {line}: not UTF-8 text; save the file as UTF-8") from None


def _fields(text: str, place: int, pattern: re.Pattern[str], where: str) -> tuple[list[re.Match[str]], int]:
    """The fields of the record that begins at `place`, and where the next one begins."""
    fields = []
    while True:
        match = pattern.match(text, place)
        if match is None:
            raise TurnoverError(f"{where}: a quote is never closed; check quotes")
        fields.append(match)
        place = match.end()
        if match[2] is None:
            return fields, place


def _value(field: str) -> str:
    """What a field of a CSV says."""
    quoted = _QUOTED.fullmatch(field)
    return quoted[1].replace('""', '"') + quoted[2] if quoted else field


def _split_delimited(text: str, name: str, pattern: re.Pattern[str]) -> Records:
    place = len(_BOM) if text.startswith(_BOM) else 0
    head, rows, names = text[:place], list[str](), list[str]()
    columns: list[list[str]] = []
    while place < len(text):
        fields, end = _fields(text, place, pattern, f"{name}, row {len(rows) + 1}")
        record, place = text[place:end], end
        if not record.strip():
            if rows:
                rows[-1] += record
            else:
                head += record
            continue
        values = [_value(field[1]) if pattern is _CSV else field[1] for field in fields]
        if not names:
            head, names, columns = head + record, values, [[] for _ in values]
            continue
        if len(values) > len(names):
            raise TurnoverError(f"{name}, row {len(rows) + 1}: {len(values)} fields under {len(names)} names; check quotes and separators")
        rows.append(record)
        for cells, value in zip(columns, values + [""] * (len(names) - len(values)), strict=True):
            cells.append(value)
    return Records(head, rows, {name: columns[names.index(name)] for name in names})


def _changed_delimited(record: str, names: list[str], column: str, value: Any, pattern: re.Pattern[str]) -> str:
    fields, _ = _fields(record, 0, pattern, "")
    if len(fields) <= names.index(column):
        raise TurnoverError(f"there is no {column!r}")
    start, end = fields[names.index(column)].span(1)
    text = str(value)
    if pattern is _TSV and any(character in text for character in "\t\r\n"):
        raise TurnoverError(f"the label {text!r:.80} cannot be written as TSV; give the class another name")
    if pattern is _CSV and (record.startswith('"', start) or any(character in text for character in ',\r\n"')):
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
    names = list(dict.fromkeys(column for one in cells for column in one))
    return Records(head, rows, {column: [one.get(column, "") for one in cells] for column in names})


def _changed_line(record: str, names: list[str], column: str, value: Any) -> str:
    """A JSON object with another value of one key; of a key that is there twice, the last counts."""
    spans = [(start, end) for key, start, end in _members(record) if key == column]
    if not spans:
        raise TurnoverError(f"there is no {column!r}")
    start, end = spans[-1]
    return record[:start] + json.dumps(value, ensure_ascii=record.isascii()) + record[end:]


def _members(record: str) -> Iterator[tuple[str, int, int]]:
    """Keys of a JSON object, each with where its value begins and ends."""
    decode = json.JSONDecoder().raw_decode
    place = _past(record, record.index("{") + 1)
    while record[place] == '"':
        key, place = scanstring(record, place + 1, True)
        start = _past(record, _past(record, place) + 1)
        _, end = decode(record, start)
        yield key, start, end
        place = _past(record, end)
        if record[place] == ",":
            place = _past(record, place + 1)


def _past(text: str, place: int) -> int:
    """The place behind white space."""
    match = _SPACE.match(text, place)
    return match.end() if match else place


def _delimited(pattern: re.Pattern[str]) -> Form:
    return Form(partial(_split_delimited, pattern=pattern), partial(_changed_delimited, pattern=pattern))


FORMS = {".csv": _delimited(_CSV), ".tsv": _delimited(_TSV), ".jsonl": Form(_split_lines, _changed_line)}
"""By the end of a file's name."""
