"""Text tables (CSV and TSV): read whole, checked row by row, with errors that name file, row and remedy."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import TurnoverError

MAX_CHARACTERS = 20_000
"""A longer text is refused: encoders read some hundred words, so most of it would be ignored in silence."""


_CSV: dict[str, Any] = {"sep": ","}
_TSV: dict[str, Any] = {"sep": "\t", "quoting": csv.QUOTE_NONE}  # as GLUE writes them: a quote is a character like any other


def read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """The table as strings, with at least `columns`.

    Raises:
        TurnoverError: for a missing, empty or torn file, text that is not UTF-8, or a missing column.
    """
    try:
        content = path.read_bytes()
        form = _TSV if path.suffix == ".tsv" else _CSV
        table = pd.read_csv(io.StringIO(content.decode("utf-8-sig")), dtype=str, keep_default_na=False, **form)
    except FileNotFoundError:
        raise TurnoverError(f"{path}: no such file; check the path") from None
    except pd.errors.EmptyDataError:
        raise TurnoverError(f"{path}: the file is empty; it needs a header line with {', '.join(columns)} and rows below it") from None
    except UnicodeDecodeError as error:
        line = content[: content.index(error.object) + error.start].count(b"\n") + 1
        raise TurnoverError(f"{path}, line {line}: not UTF-8 text (byte {error.object[error.start]:#04x}); save the file as UTF-8") from None
    except pd.errors.ParserError as error:
        raise TurnoverError(f"{path}: not a readable table ({str(error).strip()}); check quotes and separators") from None
    except OSError as error:
        raise TurnoverError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes fields that have no header for row names
        raise TurnoverError(f"{path}: the rows have more fields than the header names; check quotes and separators")
    for column in columns:
        require_column(table, path, column)
    if table.empty:
        raise TurnoverError(f"{path}: a header but no rows; add rows below it")
    return table


def require_column(table: pd.DataFrame, path: Path, column: str) -> None:
    """Check that a table has a column.

    Raises:
        TurnoverError: if it has not; the text lists the columns that are there.
    """
    if column not in table.columns:
        raise TurnoverError(f"{path}: no column {column!r} (there are: {', '.join(map(str, table.columns))}); rename or add it")


def check_text(text: str, where: str) -> str:
    """The text itself, if it can be used.

    Raises:
        TurnoverError: if it is blank or longer than `MAX_CHARACTERS`.
    """
    if not text.strip():
        raise TurnoverError(f"{where}: the text is empty; write one or remove the row")
    if len(text) > MAX_CHARACTERS:
        raise TurnoverError(f"{where}: the text has {len(text):,} characters, the limit is {MAX_CHARACTERS:,}; shorten it")
    return text


def text_column(table: pd.DataFrame, path: Path, column: str) -> list[str]:
    """The texts of a table, each checked; row numbers in errors count from 1, the header left out."""
    return [check_text(text, f"{path}, row {row}, column {column}") for row, text in enumerate(table[column], start=1)]


def label_column(table: pd.DataFrame, path: Path, column: str, classes: tuple[str, ...]) -> list[int]:
    """The labels of a table as class numbers.

    Raises:
        TurnoverError: for a label that is not one of `classes`.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    for row, label in enumerate(table[column], start=1):
        if label not in numbers:
            raise TurnoverError(f"{path}, row {row}, column {column}: the label {label!r} is not one of {', '.join(classes)}; correct it")
    return [numbers[label] for label in table[column]]
