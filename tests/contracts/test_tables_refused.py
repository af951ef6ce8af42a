"""Tables that cannot be used: one line that names file and row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.helpers.source_files import (
    FRAME,
    Columns,
    check_said,
    load_files,
    write_file,
    write_table,
)
from turnover import Dataset, TurnoverError
from turnover.data.tables.checks import MAX_CHARACTERS, check_text
from turnover.data.tables.known import label_column, read_table, text_column

HEADER, NAMES = "text,label\n", "text,label\nx,1\n"
OURS: list[tuple[str | bytes, str]] = [
    ("sentence,label\nx,1\n", ": no column 'text' (there are: sentence, label); rename or add it"),
    ("\n\n", ": the file is empty; add rows"),
    (NAMES + "y,0\nz,2\n", ", row 3, column label: the label '2' is not one of 0, 1; correct it"),
    (NAMES + "y,\n", ", row 2, column label: the label '' is not one of 0, 1; correct it"),
    (NAMES + "y\n", ", row 2, column label"),
    (NAMES + '"",0\n', ", row 2, column text: the text is empty; write one or remove the row"),
    (NAMES + "y,1\n   ,0\n", ", row 3, column text: the text is empty; write one or remove"),
    (NAMES + f"{'a' * 100_000},0\n", ", row 2, column text: the text has 100,000 characters, the"),
    (HEADER + "Good, really,1\nBad, truly,0\n", ", row 1: 3 fields under 2 names; check quotes"),
    (bytes(range(1, 30)) * 9, ": "),
    *(
        (
            HEADER.encode() + b"caf\xc3\xa9,1\n" * rows + b"caf\xe9,1\n" + b"tea,0\n",
            f", line {rows + 2}: not UTF-8 text; save the file as UTF-8",
        )
        for rows in (0, 3, 60_000)
    ),
]
"""Contents, and what is said of them after the file's name."""


def read_ours(path: Path) -> Any:
    """A table of our own data sets, with all of its checks."""
    table = read_table(path, ("text", "label"))
    return text_column(table, "text"), label_column(table, "label", ("0", "1"))


def test_a_table_of_ours_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    for content, reason in OURS:
        with pytest.raises(TurnoverError) as raised:
            read_ours(write_file(tmp_path, content))
        check_said(raised.value, f"a.csv{reason}", tmp_path)
    for path, reason in (
        (tmp_path / "none.csv", "none.csv: no such file; check the path"),
        (tmp_path, ": no folders with images in it"),
    ):
        with pytest.raises(TurnoverError) as raised:
            read_ours(path)
        check_said(raised.value, reason, tmp_path)


def test_texts_up_to_the_limit_are_accepted() -> None:
    assert check_text("a" * MAX_CHARACTERS, "here") == "a" * MAX_CHARACTERS
    with pytest.raises(TurnoverError, match="here: the text has 20,001 characters"):
        check_text("a" * (MAX_CHARACTERS + 1), "here")


# A user's own

OWN: list[tuple[str | bytes, str]] = [
    (
        NAMES,
        ", row 1, column label: the label '1' is not one that the training items have (no, yes)",
    ),
    (
        "text,verdict\nx,yes\n",
        ": no column 'label' (there are: text, verdict); it needs those of the",
    ),
    ("", ": the file is empty; add rows"),
    (HEADER, ": no rows; add some"),
    (HEADER + '"x,yes\n', ", row 1: a quote is never closed; check quotes"),
    (HEADER + "x,yes,1\n", ", row 1: 3 fields under 2 names; check quotes and separators"),
    (HEADER + "x,yes\ny\0,no\n", ", line 3: a null byte; save the file as UTF-8 text"),
    ((HEADER + "x,yes\ncafé,no\n").encode("latin-1"), ", line 3: not UTF-8 text; save the file as"),
    ((HEADER + "x,yes\n").encode("utf-16"), ", line 1: not UTF-8 text; save the file as UTF-8"),
    *(
        (
            f"text{mark}label\nx, y, z{mark}yes\n",
            f": one column only; CSV has commas between fields and TSV tabs, not {mark!r}",
        )
        for mark in (";", "|", "\t")
    ),
    (
        "0,it was,0\n1,it is,1\n",
        ": the header has '0' twice; give each column a name of its own, or",
    ),
    ("sep=;\ntext;label\nx;yes\n", ": the first line names a separator for Excel; remove it"),
    ("text;label\nx;yes\n", ": one column only; CSV has commas between fields and TSV tabs"),
    ("text,'label'\nx,yes\n", ": no column 'label' (there are: text, 'label'); it needs those"),
    ("text,label \nx,yes\n", ": no column 'label' (there are: text, 'label '); it needs those of"),
]
MORE = {"text": [f"text {row}" for row in range(30)], "label": [str(row) for row in range(30)]}
SOME_EMPTY: Columns = {"text": ["x", "y", "", "", "z"] * 2, "label": ["yes", "no"] * 5}
LINES = [
    ('{"text": 5, "label": "a"}', ", row 1, column text: 5 is not a text; write it in quotes"),
    ('{"text": "x", "label": ["a"]}', ", row 1, column label: ['a'] is not a label; write a name"),
    ('{"text": "x", "label": "\\u0000"}', ", row 1, column label: … holds a null byte or half a"),
    ('{"text": "x\\u0000", "label": "a"}', ", row 1, column text: a null byte; remove it"),
    ("[1]", ", row 1: not a JSON object; write one a line"),
    ("[" * 100_000, ", row 1: not a JSON object; write one a line"),
    ('{"text": "x", "label": 1' + "0" * 5000 + "}", ", row 1: not a JSON object; write one a line"),
]


def test_a_table_of_a_user_s_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    train = write_table(tmp_path / "a.csv", FRAME)
    for content, reason in OWN:
        with pytest.raises(TurnoverError) as raised:
            load_files(train, validation=str(write_file(tmp_path, content, "b.csv")))
        check_said(raised.value, f"b.csv{reason}", tmp_path)
    for columns, reason in (
        (
            SOME_EMPTY,
            "row 3, column text: no text; more than a tenth of the 10 rows cannot be used",
        ),
        (MORE, "column label: 30 different labels in 30 rows; is it the column of the labels?"),
    ):
        with pytest.raises(TurnoverError) as raised:
            load_files(write_table(train, columns))
        check_said(raised.value, f"a.csv, {reason}", tmp_path)


def test_a_line_of_json_that_is_no_item_is_refused_by_its_row(tmp_path: Path) -> None:
    for line, reason in LINES:
        path = write_file(tmp_path, f'{line}\n{{"text": "y", "label": "b"}}\n', "a.jsonl")
        with pytest.raises(TurnoverError) as raised:
            load_files(path, text_column="text", label_column="label")
        check_said(raised.value, f"a.jsonl{reason}", tmp_path)


TAGS = ("drama", "war", "crime")
COMBINED = [(TAGS[0],), TAGS[1:], TAGS[2:], TAGS[::2], TAGS]
SEVERAL: list[list[Any]] = [
    *([mark.join(tags) for tags in COMBINED] for mark in (";", "|", ",", ", ", " / ", "+")),
    [str([*tags]) for tags in COMBINED],
    [json.dumps(tags) for tags in COMBINED],
    ["[1 0 1]", "[0 0 1]"],
    ["1,0,1", "0,0,0", "1,0,0"],
]
MEASURED: list[list[Any]] = [
    [row / 40 for row in range(40)],
    [round(row / 10, 1) for row in range(11)],
    [f"{row}.25" for row in range(-5, 10)],
    [1e-5 * row for row in range(40)],
]
CLASSES: list[list[Any]] = [
    ["Arts, crafts", "Toys, games", "Home"],
    ["sport/football", "sport/tennis", "arts/film"],
    ["good, strong", "good, weak", "bad, strong", "bad, weak"],
    ["for", "against", "for/against"],
    ["(place, or so)", "person", "none"],
    ["1,0,0", "0,1,0", "0,0,1"],
    [step / 2 for step in range(11)],
    [0.0, 0.33, 0.67, 1.0],
    [*range(40)],
]


def labelled(folder: Path, labels: list[Any], **columns: list[str]) -> Dataset:
    """A data set with each label in ten rows."""
    cells = [label for label in labels for _ in range(10)]
    made = columns or {"text": ["so it {row} was"]}
    texts = {
        name: [f"{forms[0]} {row}" for row in range(len(cells))] for name, forms in made.items()
    }
    return load_files(write_table(folder / "a.csv", {**texts, "label": cells}))


def test_labels_that_are_no_classes_are_refused_and_classes_are_not(tmp_path: Path) -> None:
    for cases, reason in (
        (SEVERAL, "cells such as … hold several"),
        (MEASURED, "… as if measured"),
    ):
        for labels in cases:
            with pytest.raises(TurnoverError) as raised:
                labelled(tmp_path, labels)
            check_said(raised.value, f"a.csv, column label: {reason}", tmp_path)
    for labels in CLASSES:
        assert len(labelled(tmp_path, labels).classes) == len(labels)


def test_pairs_of_texts_are_refused_unless_one_is_named(tmp_path: Path) -> None:
    said = ["it was said"]
    for one, other in (
        *(("sentence1", "sentence2"), ("question", "answer"), ("premise", "hypothesis")),
        *(("text_a", "text_b"), ("Query", "Passage"), ("review", "review_2"), ("q1", "q2")),
    ):
        with pytest.raises(TurnoverError) as raised:
            labelled(tmp_path, ["yes", "no"], **{one: said, other: said})
        check_said(raised.value, "a.csv: … look like pairs of texts", tmp_path)
        assert len(load_files(str(tmp_path / "a.csv"), text_column=other).train)
    for one, other in (("title", "text"), ("headline", "body"), ("review", "summary")):
        assert len(labelled(tmp_path, ["yes", "no"], **{one: said, other: said}).train)


@pytest.mark.parametrize("form", ["{text},{label}", "{label},{text}", "{row},{text},{label}"])
@pytest.mark.parametrize("labels", [("yes", "no"), ("0", "1")])
def test_a_table_without_a_header_is_told_so(
    tmp_path: Path, form: str, labels: tuple[str, str]
) -> None:
    rows = (
        form.format(text=f"it was {row}", label=labels[row % 2], row=7 + row) for row in range(9)
    )
    path = write_file(tmp_path, "\n".join(rows))
    with pytest.raises(TurnoverError) as raised:
        load_files(path)
    reason = f"a.csv: the name of a column, '{labels[0]}', is also in row 2 below it, so the header"
    check_said(raised.value, reason, tmp_path)
    named = {"text_column": "it was 0", "label_column": labels[0]}
    assert load_files(path, **named).classes == tuple(sorted(labels))


def test_numbers_among_texts_are_refused_by_their_row(tmp_path: Path) -> None:
    for column, cells in (
        ("text", [5, *"abc"]),
        ("remark", ["so it is", 5, "so it was", "so be it"]),
        ("text", [1, 2, 3, 4]),
    ):
        path = write_table(tmp_path / "a.jsonl", {column: cells, "label": [0, 1, 0, 1]})
        with pytest.raises(TurnoverError) as raised:
            load_files(path)
        row = next(row for row, cell in enumerate(cells, start=1) if isinstance(cell, int))
        check_said(raised.value, f"a.jsonl, row {row}, column {column}: … is not a text", tmp_path)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_nested_columns_are_refused_by_name_where_they_are_needed(
    tmp_path: Path, form: str
) -> None:
    text, label = FRAME["text"], [[name] for name in FRAME["label"]]
    for columns, nested in (
        ({"data": [{"text": cell} for cell in text], "notes": label}, ("data", "notes")),
        ({"text": text, "label": label}, ("label",)),
        ({"text": text, "label": label, "other": FRAME["label"]}, ("label",)),
        ({"text": [[cell] for cell in text], "label": FRAME["label"]}, ("text",)),
    ):
        with pytest.raises(TurnoverError) as raised:
            load_files(write_table(tmp_path / f"a.{form}", columns))
        reason = "".join(f"…column {name} (" for name in nested)
        check_said(raised.value, f"a.{form}: nested{reason}", tmp_path)
    path = write_table(tmp_path / f"a.{form}", {**FRAME, "topic": label})
    with pytest.raises(TurnoverError, match=r"nested.*column topic"):
        load_files(path, label_column="topic")


def test_a_parquet_file_that_is_torn_or_holds_no_text_is_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", FRAME)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TurnoverError) as raised:
        load_files(path)
    check_said(raised.value, "a.parquet: not a readable parquet file (…); write it again", tmp_path)
    broken = pa.array([b"\xff\xfe", b"x"]).view(pa.string())
    for table, reason in (
        (
            pa.table({"text": broken, "label": ["a", "b"]}),
            ", column text: cannot be read (…); write",
        ),
        (
            pa.table({"text": [b"so", b"so"], "label": ["a", "b"]}),
            ", column text: bytes that are no",
        ),
        (
            pa.Table.from_arrays([pa.array(["x"])] * 2, ["text"] * 2),
            ": not a readable parquet file",
        ),
    ):
        pq.write_table(table, path)
        with pytest.raises(TurnoverError) as raised:
            load_files(path)
        check_said(raised.value, f"a.parquet{reason}", tmp_path)


PIECES = some.sampled_from(
    [*',\t"\n\r{}:[]\0é\ud800 1x', "text", "label", "id", '"text"', '"label"', "null"]
)
PIECED = some.lists(PIECES, max_size=40).map("".join)
WHOLE = some.one_of(
    some.binary(max_size=60), PIECED.map(lambda text: text.encode("utf-8", "surrogatepass"))
)
STARTS = [b"", b"text,label\n", b"text\tlabel\n", b'{"text": "x", "label": "y"}\n', b"PAR1"]


@given(WHOLE, some.sampled_from(("csv", "tsv", "jsonl", "parquet")), some.sampled_from(STARTS))
def test_any_bytes_are_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, form: str, start: bytes
) -> None:
    path = write_file(tmp_path_factory.mktemp("fuzz"), start + content, f"a.{form}")
    try:
        data = load_files(path)
    except TurnoverError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert len(data.train) and len(data.validation)
    assert all(text.strip() for text in data.train.texts or [])


WISHES: list[tuple[dict[str, Any], str]] = [
    ({"train": "none.csv"}, "none.csv: no such file; check the path"),
    ({"text_column": "words"}, "no column 'words' (there are: text, label); name one of these"),
    (
        {"validation": "v.xlsx"},
        "v.xlsx: neither a folder nor a file that ends with .csv, .tsv, .jsonl, .parquet; con",
    ),
    (
        {"validation": "a.csv"},
        "named twice; items to measure on must not be those that are trained on",
    ),
    ({"text_column": "text", "image_column": "label"}, "a model reads one of the two; leave the"),
    ({"size": 32}, "holds texts; leave --size out"),
    ({"size": 4}, "--size 4: choose a side from 8 to 256 pixels"),
    ({"train_split": "train"}, "splits of a hub data set"),
    (
        {"text_column": "label", "label_column": "label"},
        "cannot hold both the labels and the texts",
    ),
    ({"image_column": "text"}, "column text: neither image files nor paths of .png"),
]


@pytest.mark.parametrize(("wish", "reason"), WISHES)
def test_a_wish_that_makes_no_sense_is_refused(
    tmp_path: Path, wish: dict[str, Any], reason: str
) -> None:
    write_table(tmp_path / "a.csv", FRAME)
    write_file(tmp_path, "x", "v.xlsx")
    if "validation" in wish:
        wish = {"validation": str(tmp_path / wish["validation"])}
    train = tmp_path / wish.get("train", "a.csv")
    with pytest.raises(TurnoverError) as raised:
        load_files(train, **{name: value for name, value in wish.items() if name != "train"})
    assert reason in str(raised.value)
