"""Tables: CSV, TSV, JSONL and parquet come back as they were written, or are refused with place."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from tests.helpers.source_files import (
    FRAME,
    Columns,
    check_said,
    load_files,
    write_file,
    write_table,
)
from turnover import TurnoverError
from turnover.data.base import plant_label_noise
from turnover.data.tables.checks import MAX_CHARACTERS
from turnover.data.tables.known import label_column, read_table, text_column
from turnover.data.tables.labels import label_name

UNICODE = some.characters(codec="utf-8", exclude_characters="\0\ufeff\r")
ONE_LINE = some.characters(codec="utf-8", exclude_characters="\0\ufeff\r\n\t")
ROW = some.tuples(
    some.text(UNICODE, min_size=1, max_size=12).filter(str.strip),
    some.text(ONE_LINE, min_size=1, max_size=6).filter(label_name),
)
FORMS = ("csv", "tsv", "jsonl", "parquet")
IN_QUOTES = re.compile('".*"').fullmatch
"""Quotes around a text, which in TSV may be marks."""


def read(path: Path, classes: Sequence[str] = ("0", "1")) -> tuple[list[str], list[str]]:
    """A table of our own data sets, with all of its checks."""
    table = read_table(path, ("text", "label"))
    numbers = label_column(table, "label", tuple(classes))
    return text_column(table, "text"), [classes[number] for number in numbers]


# What is read


@given(some.lists(ROW, min_size=2, max_size=8), some.sampled_from(FORMS), some.data())
def test_any_table_gives_the_same_data_in_every_form(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], form: str, more: some.DataObject
) -> None:
    """Quotes, line breaks, separators, every script; of both readers, where both read the form."""
    assume(form != "tsv" or not any({*text} & {*"\t\n"} or IN_QUOTES(text) for text, _ in rows))
    assume(len({label_name(label) for _, label in rows}) > 1)
    other = more.draw(some.lists(some.sampled_from(rows), min_size=1, max_size=4))
    folder = tmp_path_factory.mktemp("law")
    (texts, labels), (others, told) = (map(list, zip(*part, strict=True)) for part in (rows, other))
    path = write_table(folder / f"data.{form}", {"text": texts, "label": labels})
    validation = write_table(folder / f"other.{form}", {"text": others, "label": told})
    data = load_files(path, validation=str(validation))
    assert data.train.texts == texts and data.validation.texts == others
    assert [data.classes[number] for number in data.train.labels] == [*map(label_name, labels)]
    assert [data.classes[number] for number in data.validation.labels] == [*map(label_name, told)]
    assert data.train.ids == [f"data-{row}" for row in range(len(rows))]
    assert {*data.classes} == {*map(label_name, labels)}
    if form in ("csv", "tsv"):
        assert read(path, tuple({*labels})) == (texts, labels)


@pytest.mark.parametrize("form", FORMS)
def test_texts_that_look_like_something_else_stay_texts(form: str, tmp_path: Path) -> None:
    texts = ["NA", "null", "nan", "None", "1e5", "007", "TRUE", " spaced ", "really, good"]
    texts += ['"quoted"', 'say "yes", or ""', '"open']
    path = write_table(tmp_path / f"a.{form}", {"text": texts, "label": ["0", "1", "1"] * 4})
    data = load_files(
        path, validation=str(write_table(tmp_path / "b.csv", FRAME | {"label": ["1"] * 12}))
    )
    assert data.train.texts == texts
    if form in ("csv", "tsv"):
        assert read(path)[0] == texts


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_files_of_spreadsheets_are_read(end: bytes, tmp_path: Path) -> None:
    """With a byte order mark, with Windows line ends, with columns nobody asked for."""
    for start in (b"", b"\xef\xbb\xbf"):
        lines = [b"text,extra,label", b"good,x,1", b"bad,,0", b""]
        path = write_file(tmp_path, start + end.join(lines))
        assert read(path) == (["good", "bad"], ["1", "0"])
        shown = load_files(
            path, validation=str(write_file(tmp_path, start + end.join(lines), "b.csv"))
        )
        assert shown.train.texts == ["good", "bad"] and shown.classes == ("0", "1")


@pytest.mark.parametrize("form", FORMS)
def test_columns_are_guessed_from_their_names_and_the_guess_is_said(
    tmp_path: Path, form: str
) -> None:
    ids = [f"i{row}" for row in range(12)]
    others = {"Review": FRAME["text"], "Sentiment": FRAME["label"]}
    data = load_files(
        write_table(tmp_path / f"a.{form}", {"Index": ids, "source": ["a"] * 12, **others})
    )
    assert sorted(data.train.ids + data.validation.ids) == sorted(ids)
    guesses = ("text", "Review"), ("label", "Sentiment"), ("id", "Index")
    said = ", ".join(f"{what} from column {column} (inferred)" for what, column in guesses)
    assert f"{said}; where that is wrong, name the column" in data.notes[0]


LONG = ["a long text", "another"]
BY_CONTENTS: list[tuple[Columns, str, str]] = [
    ({"a": ["x", "y"], "b": LONG, "label": ["0", "1"]}, "b", "label"),
    ({"words": LONG, "kind": ["0", "1"]}, "words", "kind"),
    ({"id": ["1", "2"], "remark": LONG, "grade": ["0", "1"]}, "remark", "grade"),
    ({"path": ["no.png", "not.png"], "text": LONG, "label": ["0", "1"]}, "text", "label"),
]


@pytest.mark.parametrize(("columns", "text", "label"), BY_CONTENTS)
def test_without_usual_names_contents_decide(
    tmp_path: Path, columns: Columns, text: str, label: str
) -> None:
    path, other = (write_table(tmp_path / name, columns) for name in ("a.csv", "b.csv"))
    data = load_files(path, validation=str(other))
    assert data.train.texts == columns[text]
    assert [data.classes[number] for number in data.train.labels] == columns[label]


URLS = [f"https://example.org/a/long/way/to/the/comment/{row}/and/on" for row in range(12)]
REMARKS = [f"it lasts for {row} days" for row in range(12)]
NEVER: dict[str, list[Any]] = {
    "links": URLS,
    "paths": [f"/home/somebody/data/reviews/part/{row}/whole.txt" for row in range(12)],
    "numbers": [f"{row}.000000000000000000000000000001" for row in range(12)],
    "times": [f"2020-01-{row + 1:02} 10:00:00.000000+00:00" for row in range(12)],
    "dates": [f"Wednesday, the {row + 1}th of September 2024 at 10 pm" for row in range(12)],
    "ids": [f"{row:064x}" for row in range(12)],
    "checksums": [chr(97 + row) * 40 for row in range(12)],
    "addresses": [f"somebody.with.a.long.name+{row}@example.org" for row in range(12)],
}


@pytest.mark.parametrize("kind", NEVER)
def test_links_numbers_and_ids_are_never_guessed_to_be_texts(tmp_path: Path, kind: str) -> None:
    columns = {"a": NEVER[kind], "z": REMARKS, "label": FRAME["label"]}
    data = load_files(write_table(tmp_path / "a.csv", columns))
    assert {*(data.train.texts or [])} <= {*REMARKS}
    only = write_table(tmp_path / "b.csv", {"a": NEVER[kind], "label": FRAME["label"]})
    with pytest.raises(TurnoverError, match=r"a.* file|no column holds texts"):
        load_files(only)
    assert load_files(only, text_column="a").train.texts


LONGER = [f"{remark}, which is longer than the text itself" for remark in REMARKS]
NAMED_SO = [
    ({"why": LONGER, "comment_text": REMARKS}, "comment_text"),
    ({"reviewer": LONGER, "reviewBody": REMARKS}, "reviewBody"),
    ({"review_title": FRAME["text"], "review_body": REMARKS, "review_id": URLS}, "review_body"),
    ({"text_url": URLS, "Tweet text": REMARKS, "why": LONGER}, "Tweet text"),
    ({"review_author": ["Jo de Vries"] * 12, "remark": REMARKS}, "remark"),
    ({"title": URLS, "remark": REMARKS}, "remark"),
    ({"text": [f"{row}" for row in range(12)], "remark": LONGER}, "text"),
]


@pytest.mark.parametrize(("columns", "text"), NAMED_SO)
def test_a_name_that_says_text_wins(tmp_path: Path, columns: Columns, text: str) -> None:
    data = load_files(write_table(tmp_path / "a.csv", {**columns, "label": FRAME["label"]}))
    assert {*(data.train.texts or [])} <= {*columns[text]}


def test_bytes_that_are_no_images_are_left_beside_texts(tmp_path: Path) -> None:
    for number, vector in enumerate((b"\0\x01" * 8, {"bytes": b"RIFF", "path": "a.wav"})):
        columns = {"vector": [vector] * 12, **FRAME}
        data = load_files(write_table(tmp_path / f"{number}.parquet", columns))
        assert data.kind == "text" and {*(data.train.texts or [])} <= {*FRAME["text"]}


def test_named_columns_are_taken_and_not_called_a_guess(tmp_path: Path) -> None:
    columns = {"id": list("abcdef"), "text": ["x"] * 6, "other": list("pqrstu"), "label": ["z"] * 6}
    path = write_table(tmp_path / "a.csv", {**columns, "true": ["0", "1"] * 3})
    other = write_file(tmp_path, "id,other,true\n1,x,1\n", "b.csv")
    named = {"text_column": "other", "label_column": "true", "id_column": "id"}
    data = load_files(path, **named, validation=str(other))
    assert (data.train.texts, data.train.ids) == (list("pqrstu"), list("abcdef"))
    assert data.classes == ("0", "1") and "inferred" not in data.notes[0]


def test_ids_that_repeat_are_no_ids_unless_they_are_named(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", {"id": ["1"] * 12, **FRAME})
    data = load_files(path)
    assert "a-0" in data.train.ids + data.validation.ids
    assert "rows are numbered, since column id has no id of its own for each" in data.notes[0]
    with pytest.raises(TurnoverError) as raised:
        load_files(path, id_column="id")
    reason = "a.csv, row 2, column id: the id '1' is that of row 1; make ids unique"
    check_said(raised.value, reason, tmp_path)


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_the_numbers_that_pandas_writes_beside_rows_are_ids(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"words": FRAME["text"], "kind": FRAME["label"]}, index=range(7, 19))
    frame.to_csv(tmp_path / "a.csv", index_label=name)
    data = load_files(tmp_path / "a.csv")
    assert sorted(map(int, data.train.ids + data.validation.ids)) == list(range(7, 19))
    assert {*data.classes} == {"no", "yes"}


ORDERS = [
    ([10, 9, 10, 2], ("2", "9", "10")),
    (["b", "a", "B", "b"], ("B", "a", "b")),
    ([True, False, True, False], ("False", "True")),
]


@pytest.mark.parametrize(("cells", "classes"), ORDERS)
def test_classes_are_in_the_order_of_numbers_or_of_the_alphabet(
    tmp_path: Path, cells: list[Any], classes: tuple[str, ...]
) -> None:
    path = write_table(tmp_path / "a.jsonl", {"text": list("pqrs"), "label": cells})
    other = write_table(tmp_path / "b.jsonl", {"text": ["x"], "label": cells[:1]})
    assert load_files(path, validation=str(other)).classes == classes


def test_a_whole_float_is_its_integer_and_what_was_joined_is_said(tmp_path: Path) -> None:
    cells: list[Any] = [0, 1.0, "1", 0.0, 2.0, 2.0] * 2
    mixed = write_table(tmp_path / "a.jsonl", {"text": REMARKS, "label": cells})
    data = load_files(mixed)
    assert data.classes == ("0", "1", "2")
    said = "0 and 0.0 are one label, 0; 1 and 1.0 are one label, 1"
    assert f"{mixed}, column label: {said}" in data.notes
    half = write_table(tmp_path / "b.csv", {"text": REMARKS, "label": ["0.5", "1.0", "-0.0"] * 4})
    data = load_files(half, validation=str(write_file(tmp_path, "text,label\nx,0\ny,1\n", "c.csv")))
    assert data.classes == ("0", "0.5", "1") and data.validation.labels.tolist() == [0, 2]
    assert "are one label" not in " ".join(data.notes)
    names = str(write_file(tmp_path, "bad\ngood\n", "names.txt"))
    floats = {"text": REMARKS, "label": ["0.0", "1.0"] * 5 + ["", "1.0"]}
    data = load_files(write_table(tmp_path / "d.csv", floats), classes=names)
    assert data.classes == ("bad", "good") and len(data.train) + len(data.validation) == 11


def test_labels_that_differ_in_what_nobody_sees_are_one_and_it_is_said(tmp_path: Path) -> None:
    for number, (cells, said) in enumerate(
        [
            ([" pos", "pos ", "neg"], "' pos' and 'pos ' are one label, pos"),
            (["pos\u200b", "pos", "\u00a0neg"], r"pos and 'pos\u200b' are one label, pos"),
            (["caf\u00e9", "cafe\u0301", "bar"], r"'cafe\u0301' and 'caf\xe9' are one label, café"),
        ]
    ):
        path = write_table(tmp_path / f"{number}.jsonl", {"text": REMARKS, "label": cells * 4})
        data = load_files(path)
        assert {*data.classes} == {label_name(cell) for cell in cells} and len(data.classes) == 2
        assert f"{path}, column label: {said}" in data.notes
    blank = ["\u200b", *["yes", "no"] * 5, "yes"]
    data = load_files(write_table(tmp_path / "b.csv", {"text": REMARKS, "label": blank}))
    assert data.classes == ("no", "yes") and "row 1: no label" in " ".join(data.notes)


def test_few_marks_of_missing_values_are_said_and_stay(tmp_path: Path) -> None:
    texts = [f"text {row}" for row in range(40)]
    few, many = ["NaN", "n/a", *["yes", "no"] * 19], ["NA", "EU"] * 20
    data = load_files(write_table(tmp_path / "a.csv", {"text": texts, "label": few}))
    assert data.classes == ("NaN", "n/a", "no", "yes")
    notes = " ".join(data.notes)
    assert "row 1, column label: 'NaN' often marks a missing value; if it does here" in notes
    assert "row 2, column label: 'n/a'" in notes and "(1 row of 40 like this)" in notes
    texts[7] = texts[9] = "nan"
    data = load_files(write_table(tmp_path / "b.csv", {"text": texts, "label": many}))
    assert "column label: 'NA'" not in " ".join(data.notes)
    assert "row 8, column text: 'nan'" in " ".join(data.notes)


def test_nested_columns_are_named_where_they_are_not_used(tmp_path: Path) -> None:
    columns = {**FRAME, "meta": [{"a": 1}] * 12}
    for form, kind in (("parquet", "struct<a: int64>"), ("jsonl", "objects")):
        data = load_files(write_table(tmp_path / f"a.{form}", columns))
        assert f"column meta is nested ({kind}), so it is not used" in " ".join(data.notes)


# Dialects


QUOTED = [f'say "{row}", or not' if row % 3 else f"plain, {row}" for row in range(12)]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("more", ["", "\n", "\t", "\n\n"])
def test_quotes_in_tsv_are_read_as_pandas_writes_them(
    tmp_path: Path, quoting: Any, more: str
) -> None:
    path, texts = tmp_path / "a.tsv", [f"{text}{more}, then" for text in QUOTED]
    frame = pd.DataFrame({"text": texts, "label": FRAME["label"]})
    frame.to_csv(path, sep="\t", index=False, quoting=quoting)
    data = load_files(path)
    assert {*(data.train.texts or []), *(data.validation.texts or [])} == {*texts}
    assert "a.tsv: the quotes around its cells are not part of them" in " ".join(data.notes)


def test_quotes_in_tsv_are_read_as_excel_writes_them_and_others_stay(tmp_path: Path) -> None:
    """Excel quotes what has a comma; where one quote is no mark, none is."""
    commas = "text\tlabel\n" + '"fine, really"\tyes\n"dull, so"\tno\n"ok, now"\tyes\nbad\tno\n'
    data = load_files(write_file(tmp_path, commas, "a.tsv"))
    assert {"fine, really", "ok, now"} & {*(data.train.texts or [])}
    for number, odd in enumerate(('"open', 'so "they" said', '"a" b', 'b"')):
        rows = f'{odd}\tyes\n"fine, ""really"""\tno\n"so"\tyes\n"a, b"\tno\n'
        path = write_file(tmp_path, f"text\tlabel\n{rows}", f"{number}.tsv")
        data = load_files(path, validation=str(write_table(tmp_path / "v.csv", FRAME)))
        assert data.train.texts == [odd, '"fine, ""really"""', '"so"', '"a, b"']
        assert "the quotes around" not in " ".join(data.notes)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("text, label", '"{text}", {label}'),
        ("label, text", '{label},  "{text}"'),
        ("label,text", '{label}, "{text}"'),
        ('"text", "label"', '"{text}", "{label}"'),
    ],
)
def test_blanks_after_commas_are_left_out_and_it_is_said(
    tmp_path: Path, header: str, row: str
) -> None:
    texts = [text.replace('"', '""') for text in QUOTED]
    lines = [
        row.format(text=text, label=label)
        for text, label in zip(texts, FRAME["label"], strict=True)
    ]
    data = load_files(write_file(tmp_path, "\n".join([header, *lines])), label_column="label")
    assert {*(data.train.texts or []), *(data.validation.texts or [])} == {*QUOTED}
    assert data.classes == ("no", "yes")
    assert "the blanks after its commas are not part of the cells" in " ".join(data.notes)


def test_numbers_get_their_names_from_the_table_or_from_a_file(tmp_path: Path) -> None:
    numbers: Columns = {"text": FRAME["text"], "label": [0, 2] * 6}
    label = {"names": ["bad", "so so", "good"], "_type": "ClassLabel"}
    features = {"label": label, "text": {"dtype": "string", "_type": "Value"}}
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(numbers).replace_schema_metadata(told), tmp_path / "a.parquet")
    data = load_files(tmp_path / "a.parquet")
    assert data.classes == ("bad", "so so", "good")
    assert {*data.train.labels.tolist()} == {0, 2}
    named = str(write_file(tmp_path, "poor\n\nmiddling\nfine\n", "names.txt"))
    numbered = write_table(tmp_path / "b.jsonl", numbers)
    assert load_files(numbered, classes=named).classes == ("poor", "middling", "fine")
    untold = write_table(tmp_path / "d.jsonl", numbers | {"label": [0, 2] * 5 + [0, -1]})
    assert "row 12: no label; 1 row skipped" in " ".join(load_files(untold, classes=named).notes)
    wrong = write_table(tmp_path / "c.jsonl", numbers | {"label": [7] * 12})
    table = write_file(tmp_path, "label,name\n0,bad\n1,good\n", "c.csv")
    for path, names, reason in (
        (wrong, named, "c.jsonl, row 1, column label: the label '7' is not one of 0 to 2, which"),
        (numbered, str(table), "c.csv: a table; write the names of the classes one a line"),
    ):
        with pytest.raises(TurnoverError) as raised:
            load_files(path, classes=names)
        check_said(raised.value, reason, tmp_path)


def test_a_test_file_is_read_like_the_others(tmp_path: Path) -> None:
    train = write_table(tmp_path / "a.csv", FRAME)
    data = load_files(train, test=str(write_file(tmp_path, "label,text\nno,hm\n", "t.csv")))
    assert data.test is not None
    assert (data.test.texts, data.test.labels.tolist()) == (["hm"], [0])
    assert (
        replace(data, test=None).fingerprint()
        == data.fingerprint()
        == load_files(train).fingerprint()
    )


def test_links_that_a_user_names_are_followed(tmp_path: Path) -> None:
    """As the hub's cache has them."""
    (tmp_path / "link.csv").symlink_to(write_table(tmp_path / "a.csv", FRAME))
    data = load_files(tmp_path / "link.csv")
    assert len(data.train) + len(data.validation) == 12


# Rows that are left out


@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv"])
def test_a_few_rows_without_text_or_label_are_left_out_and_said(tmp_path: Path, form: str) -> None:
    for number, (text, label, why) in enumerate(
        [(None, "yes", "text"), (" ", "yes", "text"), ("x", None, "label"), ("x", " ", "label")]
    ):
        columns: Columns = {"text": [f"text {row}" for row in range(20)]}
        columns["label"] = ["yes", "no"] * 10
        columns["text"][6], columns["label"][6] = text, label
        data = load_files(write_table(tmp_path / f"{number}.{form}", columns))
        ids = data.train.ids + data.validation.ids
        assert len(ids) == 19 and f"{number}-6" not in ids and f"{number}-19" in ids
        assert f"row 7: no {why}; 1 row skipped for that" in " ".join(data.notes)


@pytest.mark.parametrize("text", ["x" * (MAX_CHARACTERS + 1), "\ud800"])
def test_a_huge_cell_or_half_a_character_is_left_out_like_none(tmp_path: Path, text: str) -> None:
    rows = [{"text": f"text {row}", "label": row % 2} for row in range(20)]
    lines = (json.dumps(row) + "\n" for row in [*rows, {"text": text, "label": 1}])
    data = load_files(write_file(tmp_path, "".join(lines), "a.jsonl"))
    assert len(data.train) + len(data.validation) == 20 and "row 21: " in " ".join(data.notes)


# Right labels


@pytest.mark.parametrize("form", FORMS)
def test_a_column_truth_has_the_right_labels_and_others_of_its_name_are_left_alone(
    form: str, tmp_path: Path
) -> None:
    """An empty cell says that the label is right; injected errors do not hide those known."""
    texts, labels = list("abcdefgh"), ["good", "bad"] * 4
    columns = {"text": texts, "label": labels, "truth": ["bad", *labels[1:7], ""]}
    made = load_files(write_table(tmp_path / f"data.{form}", columns))
    parts = [(items.labels, items.true_labels) for items in (made.train, made.validation)]
    assert sum(int((own != true).sum()) for own, true in parts) == 1
    assert "column truth: 1 label known as wrong" in " ".join(made.notes)
    noisy = plant_label_noise(made, 0.5, 0)
    assert noisy.train.true_labels.tolist() == made.train.true_labels.tolist()
    columns["truth"] = ["said", *texts[1:]]
    other = load_files(write_table(tmp_path / f"other.{form}", columns))
    assert other.train.true_labels is None and "column truth: not used" in " ".join(other.notes)
