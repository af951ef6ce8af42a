"""Tables: what is read of a file, and what is said of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import TurnoverError
from core.data.tables import MAX_CHARACTERS, check_text, label_column, read_table, text_column

COLUMNS = ("text", "label")


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path) -> tuple[list[str], list[int]]:
    """A table of texts and labels, with all of its checks."""
    table = read_table(path, COLUMNS)
    return text_column(table, path, "text"), label_column(table, path, "label", ("0", "1"))


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1).filter(str.strip), min_size=1, max_size=6))
def test_any_text_comes_back_as_it_was_written(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Quotes, line breaks, separators, `NA`, numbers, every script."""
    path = tmp_path_factory.mktemp("table") / "any.csv"
    labels = [row % 2 for row in range(len(texts))]
    pd.DataFrame({"text": texts, "label": labels}).to_csv(path, index=False)
    assert read(path) == (texts, labels)


@pytest.mark.parametrize("text", ["NA", "null", "nan", "None", "1e5", "007", "TRUE", " spaced "])
def test_texts_that_look_like_something_else_stay_texts(text: str, tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", f"text,label\n{text},1\n"))[0] == [text]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_files_of_spreadsheets_are_read(start: bytes, end: bytes, tmp_path: Path) -> None:
    """With a byte order mark, with Windows line ends, with columns nobody asked for."""
    content = start + end.join([b"text,extra,label", b"good,x,1", b"bad,,0", b""])
    assert read(write(tmp_path, "a.csv", content)) == (["good", "bad"], [1, 0])


def test_tab_separated_files_are_told_by_their_name(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.tsv", "text\tlabel\ngood, really\t1\n")) == (["good, really"], [1])


BROKEN = {
    "missing column": ("a.csv", "sentence,label\nx,1\n", r"a\.csv: no column 'text' \(there are: sentence, label\); rename or add it"),
    "empty file": ("a.csv", "", r"a\.csv: the file is empty; it needs a header line with text, label"),
    "blank file": ("a.csv", "\n\n", r"a\.csv: the file is empty"),
    "header only": ("a.csv", "text,label\n", r"a\.csv: a header but no rows; add rows below it"),
    "unknown label": ("a.csv", "text,label\nx,1\ny,0\nz,2\n", r"a\.csv, row 3, column label: the label '2' is not one of 0, 1; correct it"),
    "no label": ("a.csv", "text,label\nx,1\ny,\n", r"a\.csv, row 2, column label: the label '' is not one of 0, 1"),
    "label missing from a row": ("a.csv", "text,label\nx,1\ny\n", r"a\.csv, row 2, column label"),
    "empty text": ("a.csv", 'text,label\nx,1\n"",0\n', r"a\.csv, row 2, column text: the text is empty; write one or remove the row"),
    "blank text": ("a.csv", "text,label\nx,1\ny,1\n   ,0\n", r"a\.csv, row 3, column text: the text is empty"),
    "too long a text": ("a.csv", f"text,label\nx,1\n{'a' * 100_000},0\n", r"a\.csv, row 2, column text: the text has 100,000 characters, the limit is 20,000"),
    "open quote": ("a.csv", 'text,label\n"x,1\ny,0\n', r"a\.csv: not a readable table .*; check quotes and separators"),
    "a row too wide": ("a.csv", "text,label\nx,1\ny,1,0\n", r"a\.csv: not a readable table .*line 3"),
    "every row too wide": ("a.csv", "text,label\nGood, really,1\nBad, truly,0\n", r"a\.csv: .*check quotes and separators"),
    "tab separated by mistake": ("a.csv", "text\tlabel\nx\t1\n", r"a\.csv: no column 'text'"),
    "binary file": ("a.csv", bytes(range(1, 30)) * 9, r"a\.csv: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_table_that_cannot_be_used_is_refused_with_place_and_remedy(name: str, tmp_path: Path) -> None:
    file, content, reason = BROKEN[name]
    with pytest.raises(TurnoverError, match=reason) as raised:
        read(write(tmp_path, file, content))
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("rows", [0, 3, 500, 60_000])
def test_the_line_that_is_not_utf_8_is_named(rows: int, tmp_path: Path) -> None:
    """In a short file and in one that is read in pieces."""
    content = b"text,label\n" + b"caf\xc3\xa9,1\n" * rows + b"caf\xe9,1\n" + b"tea,0\n"
    with pytest.raises(TurnoverError, match=rf"a\.csv, line {rows + 2}: not UTF-8 text \(byte 0xe9\); save the file as UTF-8"):
        read(write(tmp_path, "a.csv", content))


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=r"none\.csv: no such file; check the path"):
        read(tmp_path / "none.csv")
    with pytest.raises(TurnoverError, match=r"cannot be read \(Is a directory\)"):
        read(tmp_path)


def test_texts_up_to_the_limit_are_accepted() -> None:
    assert check_text("a" * MAX_CHARACTERS, "here") == "a" * MAX_CHARACTERS
    with pytest.raises(TurnoverError, match="here: the text has 20,001 characters"):
        check_text("a" * (MAX_CHARACTERS + 1), "here")
