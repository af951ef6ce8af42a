"""One's own texts: any table comes back as it was written, whatever the form, and what cannot be used is said with its place."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from core.data.base import Dataset
from core.data.own import FILES, OwnData, load_own
from core.errors import TurnoverError

TEXTS = some.text(some.characters(codec="utf-8", exclude_characters="\0\ufeff\r"), min_size=1, max_size=12).filter(str.strip)
LABELS = some.text(some.characters(codec="utf-8", exclude_characters="\0\ufeff\r\n\t"), min_size=1, max_size=6).filter(str.strip)
FORMS = ("csv", "tsv", "jsonl", "parquet")
FRAME = {"text": ["fine", "dull", "good", "bad"] * 3, "label": ["yes", "no"] * 6}


def load(path: Path, **wish: Any) -> Dataset:
    return load_own(FILES, OwnData(train=str(path), **wish), 0)


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    """A table, in the form that the name says, by other writers than ours."""
    form = path.suffix
    if form == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif form == ".jsonl":
        rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif form == ".tsv":
        lines = ["\t".join(columns), *("\t".join(cells) for cells in zip(*columns.values(), strict=True))]
        path.write_text("\n".join(lines), encoding="utf-8", newline="")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


def csv_of(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@given(some.lists(some.tuples(TEXTS, LABELS), min_size=2, max_size=8), some.sampled_from(FORMS), some.data())
def test_any_table_of_texts_and_labels_gives_the_same_data_in_every_form(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], form: str, more: some.DataObject
) -> None:
    if form == "tsv":
        assume(not any(set(text) & set("\t\n") for text, _ in rows))
    assume(len({label for _, label in rows}) > 1)
    folder = tmp_path_factory.mktemp("law")
    texts, labels = map(list, zip(*rows, strict=True))
    path = write(folder / f"data.{form}", {"text": texts, "label": labels})
    other = more.draw(some.lists(some.sampled_from(rows), min_size=1, max_size=4))
    validation = write(folder / f"other.{form}", {"text": [text for text, _ in other], "label": [label for _, label in other]})
    data = load(path, validation=str(validation))
    assert data.train.texts == texts and [data.classes[number] for number in data.train.labels] == labels
    assert data.validation.texts == [text for text, _ in other] and [data.classes[number] for number in data.validation.labels] == [y for _, y in other]
    assert data.train.ids == [f"data-{row}" for row in range(len(rows))] and set(data.classes) == set(labels)


@pytest.mark.parametrize("form", FORMS)
def test_columns_are_guessed_from_names_and_contents_and_the_guess_is_said(tmp_path: Path, form: str) -> None:
    columns = {"Index": [f"i{row}" for row in range(12)], "source": ["a"] * 12, "Review": FRAME["text"], "Sentiment": FRAME["label"]}
    data = load(write(tmp_path / f"a.{form}", columns))
    assert sorted(data.train.ids + data.validation.ids) == sorted(columns["Index"])
    expected = "text from column Review (guessed), label from column Sentiment (guessed), id from column Index (guessed)"
    assert expected in data.notes[0] and "where that is wrong, name the column" in data.notes[0]


@pytest.mark.parametrize(
    ("columns", "text", "label"),
    [
        ({"a": ["x", "y"], "b": ["a long text", "a longer one"], "label": ["0", "1"]}, "b", "label"),
        ({"words": ["a long text", "another"], "kind": ["0", "1"]}, "words", "kind"),
        ({"id": ["1", "2"], "remark": ["a long text", "another"], "grade": ["0", "1"]}, "remark", "grade"),
        ({"path": ["no/such.png", "neither.png"], "text": ["one", "two"], "label": ["0", "1"]}, "text", "label"),
    ],
)
def test_without_usual_names_contents_decide(tmp_path: Path, columns: dict[str, list[str]], text: str, label: str) -> None:
    columns = {name: cells * 2 for name, cells in columns.items()} | ({"id": list("1234")} if "id" in columns else {})
    data = load(write(tmp_path / "a.csv", columns), validation=str(write(tmp_path / "b.csv", columns)))
    assert data.train.texts == columns[text] and [data.classes[number] for number in data.train.labels] == columns[label]


def test_named_columns_are_taken_and_not_called_a_guess(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", {"id": list("abcdef"), "text": ["x"] * 6, "other": list("pqrstu"), "label": ["z"] * 6, "true": ["0", "1"] * 3})
    data = load(path, text_column="other", label_column="true", id_column="id", validation=str(csv_of(tmp_path, "id,other,true\n1,x,1\n", "b.csv")))
    assert (data.train.texts, data.classes, data.train.ids) == (list("pqrstu"), ("0", "1"), list("abcdef")) and "guessed" not in data.notes[0]


def test_ids_that_repeat_are_no_ids_unless_they_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", {"id": ["1"] * 12, **FRAME})
    data = load(path)
    assert "a-0" in data.train.ids + data.validation.ids and "rows are numbered, since column id has no id of its own for each" in data.notes[0]
    with pytest.raises(TurnoverError, match=r"a\.csv, row 2, column id: the id '1' is that of row 1; make ids unique"):
        load(path, id_column="id")


ORDERS: list[tuple[list[Any], tuple[str, ...]]] = [
    ([10, 9, 10, 2], ("2", "9", "10")),
    (["b", "a", "B", "b"], ("B", "a", "b")),
    ([True, False, True, False], ("False", "True")),
]


@pytest.mark.parametrize(("cells", "classes"), ORDERS)
def test_classes_are_in_the_order_of_numbers_or_of_the_alphabet(tmp_path: Path, cells: list[Any], classes: tuple[str, ...]) -> None:
    path = write(tmp_path / "a.jsonl", {"text": ["one", "two", "three", "four"], "label": cells})
    assert load(path, validation=str(write(tmp_path / "b.jsonl", {"text": ["x"], "label": cells[:1]}))).classes == classes


def test_numbers_get_their_names_from_the_table_or_from_a_file(tmp_path: Path) -> None:
    numbers = {"text": FRAME["text"], "label": [0, 2] * 6}
    told = {"info": {"features": {"label": {"names": ["bad", "so so", "good"], "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}}}
    pq.write_table(pa.table(numbers).replace_schema_metadata({"huggingface": json.dumps(told)}), tmp_path / "a.parquet")
    data = load(tmp_path / "a.parquet")
    assert data.classes == ("bad", "so so", "good") and set(data.train.labels.tolist()) == {0, 2}
    (tmp_path / "names.txt").write_text("poor\n\nmiddling\nfine\n")
    assert load(write(tmp_path / "b.jsonl", numbers), classes=str(tmp_path / "names.txt")).classes == ("poor", "middling", "fine")
    with pytest.raises(TurnoverError, match=r"c\.jsonl, row 1, column label: the label '7' is not one of 0 to 2, which have names; correct it"):
        load(write(tmp_path / "c.jsonl", numbers | {"label": [7] * 12}), classes=str(tmp_path / "names.txt"))


# Rows that cannot be used


@pytest.mark.parametrize(("text", "label", "why"), [(None, "yes", "no text"), (" ", "yes", "no text"), ("x", None, "no label"), ("x", " ", "no label")])
@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv"])
def test_a_few_rows_without_text_or_label_are_left_out_and_said(tmp_path: Path, form: str, text: str | None, label: str | None, why: str) -> None:
    columns: dict[str, list[Any]] = {"text": [f"text {row}" for row in range(20)], "label": ["yes", "no"] * 10}
    columns["text"][6], columns["label"][6] = text, label
    data = load(write(tmp_path / f"a.{form}", columns))
    ids = data.train.ids + data.validation.ids
    assert len(ids) == 19 and "a-6" not in ids and "a-19" in ids
    assert any(f"row 7: {why}; 1 row left out for that" in note for note in data.notes)


def test_many_rows_without_text_are_refused_with_the_first(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", {"text": ["x", "y", "", "", "z"] * 2, "label": ["yes", "no"] * 5})
    with pytest.raises(TurnoverError, match=r"a\.csv, row 3, column text: no text; more than a tenth of the 10 rows cannot be used, so correct or remove them"):
        load(path)


@pytest.mark.parametrize("text", ["x" * 20_001, "\ud800"])
def test_a_huge_cell_or_half_a_character_is_left_out_like_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": f"text {row}", "label": row % 2} for row in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"text": text, "label": 1}]))
    data = load(path)
    assert len(data.train) + len(data.validation) == 20 and "row 21: " in " ".join(data.notes)


REFUSED = {
    "unknown label": ("text,label\nx,1\ny,maybe\n", r"b\.csv, row 2, column label: the label 'maybe' is not one that the training items have \(no, yes\)"),
    "no such column": ("text,verdict\nx,yes\n", r"b\.csv: no column 'label' \(there are: text, verdict\); it needs those of the training items"),
    "empty": ("", r"b\.csv: the file is empty; add rows"),
    "header only": ("text,label\n", r"b\.csv: no rows; add some"),
    "open quote": ('text,label\n"x,yes\n', r"b\.csv, row 1: a quote is never closed; check quotes"),
    "too wide": ("text,label\nx,yes,1\n", r"b\.csv, row 1: 3 fields under 2 names; check quotes and separators"),
    "null byte": ("text,label\nx,yes\ny\0,no\n", r"b\.csv, line 3: a null byte; save the file as UTF-8 text"),
    "latin 1": ("text,label\nx,yes\ncafé,no\n".encode("latin-1"), r"b\.csv, line 3: not UTF-8 text; save the file as UTF-8"),
    "utf 16": ("text,label\nx,yes\n".encode("utf-16"), r"b\.csv, line 1: not UTF-8 text"),
    "semicolons": ("text;label\nx;yes\n", r"b\.csv: one column only; CSV has commas between fields and TSV tabs, not ';'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_one_line_with_place_and_remedy(tmp_path: Path, case: str) -> None:
    content, reason = REFUSED[case]
    reason = reason.replace("'maybe'", "'1'").replace("row 2", "row 1") if case == "unknown label" else reason
    train = write(tmp_path / "a.csv", FRAME)
    with pytest.raises(TurnoverError, match=reason) as raised:
        load(train, validation=str(csv_of(tmp_path, content, "b.csv")))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_the_numbers_that_pandas_writes_beside_rows_are_ids(tmp_path: Path, name: str) -> None:
    pd.DataFrame({"words": FRAME["text"], "kind": FRAME["label"]}, index=range(7, 19)).to_csv(tmp_path / "a.csv", index_label=name)
    data = load(tmp_path / "a.csv")
    assert sorted(map(int, data.train.ids + data.validation.ids)) == list(range(7, 19)) and set(data.classes) == {"no", "yes"}


def test_a_table_is_no_list_of_names(tmp_path: Path) -> None:
    """It would be read as one class a row, the header among them."""
    with pytest.raises(TurnoverError, match=r"c\.csv: a table; write the names of the classes one a line"):
        load(write(tmp_path / "a.csv", FRAME), classes=str(csv_of(tmp_path, "label,name\n0,bad\n1,good\n", "c.csv")))


PIECES = some.sampled_from([*',\t"\n\r{}:[]\0é\ud800 1x', "text", "label", "id", '"text"', '"label"', "null"])
WHOLE = some.one_of(some.binary(max_size=60), some.lists(PIECES, max_size=40).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass")))


@given(WHOLE, some.sampled_from(FORMS), some.sampled_from([b"", b"text,label\n", b"text\tlabel\n", b'{"text": "x", "label": "y"}\n', b"PAR1"]))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes, form: str, start: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"a.{form}"
    path.write_bytes(start + content)
    try:
        data = load(path)
    except TurnoverError as error:
        assert str(error)
        return
    assert len(data.train) and len(data.validation) and all(text.strip() for text in data.train.texts or [])


BAD_WISHES = {
    "no file": ({}, r"none\.csv: no such file"),
    "no column": ({"text_column": "words"}, r"no column 'words' \(there are: text, label\); name one of these"),
    "an ending": ({"validation": "v.xlsx"}, r"v\.xlsx: neither a folder nor a file that ends with \.csv, \.tsv, \.jsonl, \.parquet; convert or rename it"),
    "twice": ({"validation": "a.csv"}, r"named twice; items to measure on must not be those that are trained on"),
    "both": ({"text_column": "text", "image_column": "label"}, "a model reads one of the two"),
    "size of texts": ({"size": 32}, "holds texts; leave --size out"),
    "size": ({"size": 4}, "choose a side from 8 to 256"),
    "splits": ({"train_split": "train"}, "splits of a hub data set"),
    "one column for both": ({"text_column": "label", "label_column": "label"}, "cannot hold both the labels and the texts"),
    "images in a text": ({"image_column": "text"}, "neither image files nor paths"),
}


@pytest.mark.parametrize("case", BAD_WISHES)
def test_a_wish_that_makes_no_sense_is_refused(tmp_path: Path, case: str) -> None:
    wish, reason = BAD_WISHES[case]
    path = write(tmp_path / "a.csv", FRAME) if case != "no file" else tmp_path / "none.csv"
    (tmp_path / "v.xlsx").write_text("x")
    wish = {name: str(tmp_path / value) if name == "validation" else value for name, value in wish.items()}
    with pytest.raises(TurnoverError, match=reason):
        load(path, **wish)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": 5, "label": "a"}', r"row 1, column text: 5 is not a text"),
        ('{"text": "x", "label": ["a"]}', r"row 1, column label: \['a'\] is not a label"),
        ('{"text": "x", "label": "\\u0000"}', r"holds a null byte or half a character"),
        ('{"text": "x\\u0000", "label": "a"}', r"row 1, column text: a null byte; remove it"),
        ("[1]", r"row 1: not a JSON object; write one a line"),
        ("[" * 100_000, r"row 1: not a JSON object"),
        ('{"text": "x", "label": 1' + "0" * 5000 + "}", r"row 1: not a JSON object"),
    ],
)
def test_a_line_of_json_that_is_no_item_is_refused_by_its_row(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(TurnoverError, match=reason):
        load(csv_of(tmp_path, f'{line}\n{{"text": "y", "label": "b"}}\n', "a.jsonl"), text_column="text", label_column="label")


def test_a_parquet_file_that_is_torn_or_holds_no_text_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", FRAME)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TurnoverError, match=r"a\.parquet: not a readable parquet file .*; write it again"):
        load(path)
    broken = pa.array([b"\xff\xfe", b"x"]).view(pa.string())
    pq.write_table(pa.table({"text": broken, "label": ["a", "b"]}), path)
    with pytest.raises(TurnoverError, match=r"a\.parquet, column text: cannot be read"):
        load(path)
    pq.write_table(pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], ["text", "text"]), path)
    with pytest.raises(TurnoverError, match="not a readable parquet file"):
        load(path)


def test_a_column_of_many_labels_is_not_taken_for_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", {"text": [f"text {row}" for row in range(30)], "label": [str(row) for row in range(30)]})
    with pytest.raises(TurnoverError, match=r"column label: 30 different labels in 30 rows; is it the column of the labels\?"):
        load(path)


def test_a_test_file_is_read_like_the_others(tmp_path: Path) -> None:
    train = write(tmp_path / "a.csv", FRAME)
    tested = csv_of(tmp_path, "label,text\nno,hm\n", "t.csv")
    data = load(train, test=str(tested))
    assert data.test is not None and (data.test.texts, data.test.labels.tolist()) == (["hm"], [0])
    assert replace(data, test=None).fingerprint() == data.fingerprint() == load(train).fingerprint()


def test_links_that_a_user_names_are_followed(tmp_path: Path) -> None:
    """As the hub's cache has them."""
    (tmp_path / "link.csv").symlink_to(write(tmp_path / "a.csv", FRAME))
    assert len(load(tmp_path / "link.csv").train) + len(load(tmp_path / "link.csv").validation) == len(pd.DataFrame(FRAME))
