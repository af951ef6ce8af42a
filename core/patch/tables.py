"""A CSV, TSV or JSONL file: cleansed by a plan, and restored from what the undo file says."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from core.errors import TurnoverError
from core.patch.content import text_hash
from core.patch.plan import Plan
from core.patch.records import FORMS

_TEXTS = ("text", "sentence")


class TextFile:
    """The rows of a file of texts; see `core.patch.plan.Source`.

    Args:
        content: of the file.
        name: what to call it in errors.
        form: the end of its name, `.csv`, `.tsv` or `.jsonl`.
        hashes: of the texts that a patch is about.
        column: that holds the texts; if it is None, the one that holds most of those, else `text` or `sentence`.

    Raises:
        TurnoverError: if the file cannot be read, or no column holds texts.
    """

    def __init__(self, content: bytes, name: str, form: str, hashes: Collection[str], column: str | None = None) -> None:
        self.name, self._form = name, FORMS[form]
        self._records = self._form.split(utf8(content, name), name)
        self.columns: dict[str, Sequence[Any]] = dict(self._records.columns)
        self._texts = self.columns[text_column(self.columns, set(hashes), name, column)]

    def place(self, row: int) -> str:
        """What to call a row; rows count from 1, the header left out."""
        return f"row {row + 1}"

    def digest(self, row: int) -> str:
        """The hash of a row's text."""
        return _hash(self._texts[row])

    def cleansed(self, plan: Plan, label: str) -> tuple[bytes, list[dict[str, Any]]]:
        """The file with a plan carried out, and for each row that was changed what it was (`was`) and became (`now`).

        Raises:
            TurnoverError: if a label cannot be written into a row.
        """
        kept, changes, names = [self._records.head], list[dict[str, Any]](), list(self.columns)
        for row, record in enumerate(self._records.rows):
            if row in plan.dropped:
                changes.append({"row": row + 1, "was": record})
                continue
            if row in plan.relabelled:
                try:
                    now = self._form.changed(record, names, label, plan.relabelled[row])
                except TurnoverError as error:
                    raise TurnoverError(f"{self.name}, {self.place(row)}: {error}") from None
                changes.append({"row": row + 1, "was": record, "now": now})
                record = now
            kept.append(record)
        return "".join(kept).encode(), changes


def restored(content: bytes, name: str, form: str, changes: Iterable[bytes]) -> bytes:
    """The file as it was before `cleansed`; `changes` are lines of JSON.

    Raises:
        TurnoverError: if the changes do not go with the file.
    """
    records = FORMS[form].split(utf8(content, name), name)
    rows, left = [records.head], iter(records.rows)
    try:
        for line in changes:
            change = json.loads(line)
            while len(rows) < change["row"]:
                rows.append(next(left))
            if "now" in change and next(left) != change["now"]:
                raise ValueError
            rows.append(change["was"])
        return "".join([*rows, *left]).encode()
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError):
        raise TurnoverError(f"{name}: the undo file does not go with it; give the file that was written beside it") from None


def text_column(columns: dict[str, Sequence[Any]], hashes: set[str], name: str, named: str | None) -> str:
    """Which column holds the texts.

    Raises:
        TurnoverError: if there is none, or none of the name that was given.
    """
    if named is not None and named not in columns:
        raise TurnoverError(f"{name}: no column {named!r} (there are: {', '.join(columns)}); name one of these")
    if named is not None:
        return named
    found = {column: sum(_hash(cell) in hashes for cell in cells) for column, cells in columns.items()}
    best = max(found, key=found.__getitem__, default="")
    column = best if found.get(best) else next((one for one in _TEXTS if one in columns), "")
    if not column:
        raise TurnoverError(f"{name}: no column holds the texts of the patch (there are: {', '.join(columns)}); name it with --text-column")
    return column


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


def _hash(cell: Any) -> str:
    return text_hash(cell) if isinstance(cell, str) else ""
