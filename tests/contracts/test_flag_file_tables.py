"""A flag file onto tables: only what is flagged changes; what does not fit is left as it is."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from tests.helpers.builders import names
from tests.helpers.fake_runs import png
from tests.helpers.storage_testing import flag_line, write_flag_file
from turnover.data.sources.text import CLASSES
from turnover.data.tables.known import read_labelled_texts
from turnover.data.tables.records import CSV_BLANKS, DIALECTS, JSONL, TSV_QUOTES, read_records
from turnover.errors import TurnoverError
from turnover.flags.apply import apply_flag_file
from turnover.flags.flag_file import pixel_hash, text_hash

Row = tuple[str, str, str]
"""Id, text and label; in the law, text, label and action."""


def applied(folder: Path, data: Path, patch: Path, **columns: str) -> dict[str, Any]:
    """Apply a flag file; the data set is as it was, and nothing but the copy is written."""
    before, there = data.read_bytes(), names(folder)
    done = apply_flag_file(patch, str(data), folder / f"clean{data.suffix}", **columns)
    assert data.read_bytes() == before
    assert names(folder) == sorted([*there, f"clean{data.suffix}"])
    return done


# The law

LETTERS = some.characters(codec="utf-8", exclude_characters="\0\ufeff\r")
TEXTS = some.text(LETTERS, max_size=8).filter(str.strip)
ACTIONS = some.sampled_from(["drop", "relabel", "keep", "none"])
ROWS = some.lists(some.tuples(TEXTS, some.sampled_from(CLASSES), ACTIONS), min_size=1, max_size=7)
ENDS = some.lists(some.sampled_from(["\n", "\r\n", "\n\n", "\n \n"]), min_size=9, max_size=9)
FORM = some.sampled_from([*DIALECTS, JSONL])
OTHER = dict(zip(CLASSES, reversed(CLASSES), strict=True))


def in_quotes(text: str) -> bool:
    """Whether a spreadsheet would take the quotes around a text for marks."""
    return len(text) > 1 and text.startswith('"') and text.endswith('"')


def cell(text: str, quoted: bool) -> str:
    plain = not quoted and not set(text) & set(',"\t\n\r') and text == text.strip()
    return text if plain else '"' + text.replace('"', '""') + '"'


def written(rows: list[Row], form: str, ends: list[str], quoted: bool, extra: bool) -> str:
    """A table as somebody may have written it: needless quotes, blank lines, no last line's end."""
    if form == ".jsonl":
        spaced = [
            f' {{"id":"{id}" ,"note": 1.10,"label" :"{label}", "text": '
            f"{json.dumps(text, ensure_ascii=quoted)} }}"
            for id, text, label in rows
        ]
        whole = "".join(line + end for line, end in zip(spaced, ends, strict=False))
        return whole.rstrip("\n" if extra else "")
    separator = {".tsv": "\t", TSV_QUOTES: "\t", CSV_BLANKS: ", "}.get(form, ",")
    lines = [("id", "text", "label"), *rows]
    texts = [
        separator.join(part if form == ".tsv" else cell(part, quoted) for part in line)
        for line in lines
    ]
    whole = "".join(line + end for line, end in zip(texts, ends, strict=False))
    open_end = extra and form == ".csv" and '"' not in whole[-3:]
    return ("\ufeff" if extra else "") + (whole.rstrip("\n ") if open_end else whole)


def read_back(path: Path, form: str) -> list[Row]:
    """The rows of a file, by other readers than ours."""
    if path.suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        parsed = [json.loads(line) for line in lines if line.strip()]
        return [(one["id"], one["text"], one["label"]) for one in parsed]
    options: dict[str, Any] = {"sep": "\t"} if path.suffix == ".tsv" else {}
    options["quoting"] = csv.QUOTE_NONE if form == ".tsv" else csv.QUOTE_MINIMAL
    options["skipinitialspace"] = form == CSV_BLANKS
    text = io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")
    table = pd.read_csv(text, dtype=str, keep_default_na=False, **options)
    return [(str(row.id), str(row.text), str(row.label)) for row in table.itertuples()]


@given(ROWS, FORM, ENDS, some.booleans(), some.booleans())
def test_only_what_is_flagged_changes_and_all_else_is_kept_byte_by_byte(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Row],
    form: str,
    ends: list[str],
    quoted: bool,
    extra: bool,
) -> None:
    if form == ".tsv":
        assume(not any(set(text) & set("\t\n") or in_quotes(text) for text, _, _ in rows))
    folder = tmp_path_factory.mktemp("law")
    table = [(f"train-{row}", text, label) for row, (text, label, _) in enumerate(rows)]
    actions = [action for _, _, action in rows]
    suffix = form.partition(" ")[0]
    data = folder / f"data{suffix}"
    data.write_bytes(written(table, form, ends, quoted, extra).encode())
    lines = [
        flag_line(id, text, label, action, OTHER[label] if action == "relabel" else "")
        for (id, text, label), action in zip(table, actions, strict=True)
        if action != "none"
    ]
    done = applied(folder, data, write_flag_file(folder / "patch.jsonl", lines))
    kept = [
        (id, text, OTHER[label] if action == "relabel" else label)
        for (id, text, label), action in zip(table, actions, strict=True)
        if action != "drop"
    ]
    counts = done["dropped"], done["relabelled"], done["refused"]
    assert counts == (actions.count("drop"), actions.count("relabel"), [])
    assert read_back(folder / f"clean{suffix}", form) == kept
    if not {"drop", "relabel"} & {*actions}:
        assert (folder / f"clean{suffix}").read_bytes() == data.read_bytes()


@given(some.text(some.sampled_from('ab"",;\t\r\n \u2028'), max_size=30), FORM)
def test_whatever_can_be_read_is_the_records_joined(text: str, form: str) -> None:
    try:
        records = read_records(text, "data", form)
    except TurnoverError:
        return
    assert "".join(records.pieces) == text
    assert all(records.pieces[number].strip() for number in records.numbers)


@given(ROWS)
def test_rows_are_counted_as_the_sources_count_them(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    """`train-7` is the same row for the data set that a run was trained on and for its patch."""
    path = tmp_path_factory.mktemp("rows") / "train.csv"
    numbered = [("x", text, str(CLASSES.index(label))) for text, label, _ in rows]
    path.write_text(written(numbered, ".csv", ["\n\n"] * 9, True, False), encoding="utf-8")
    texts = read_labelled_texts(path, CLASSES).texts
    records = read_records(path.read_text(encoding="utf-8"), "data", ".csv")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert records.columns["text"] == texts == list(frame["text"])


# Finding rows and columns

TABLE = [
    ("train-0", "a fine film", "1"),
    ("train-1", "dull", "0"),
    ("train-2", "a second, longer one", "1"),
]


def sst2(folder: Path, header: str = "text,label") -> Path:
    path = folder / "train.csv"
    rows = "".join(f'"{text}",{label}\n' for _, text, label in TABLE)
    path.write_text(f"{header}\n{rows}", encoding="utf-8")
    return path


def flagged(row: int, action: str = "drop", new_label: str = "", **other: str) -> dict[str, Any]:
    id, text, label = TABLE[row]
    return flag_line(id, text, CLASSES[int(label)], action, new_label, **other)


def test_classes_by_number_stay_numbers_and_row_numbers_name_rows(tmp_path: Path) -> None:
    patch = write_flag_file(tmp_path / "p", [flagged(0, "relabel", "negative"), flagged(1)])
    done = applied(tmp_path, sst2(tmp_path), patch)
    counts = done["dropped"], done["relabelled"], done["kept"], done["refused"]
    assert counts == (1, 1, 0, [])
    clean = 'text,label\na fine film,0\n"a second, longer one",1\n'
    assert (tmp_path / "clean.csv").read_text(encoding="utf-8") == clean
    assert list(read_labelled_texts(tmp_path / "clean.csv", CLASSES).labels) == [0, 1]


def test_columns_are_found_by_what_is_in_them_or_named(tmp_path: Path) -> None:
    patch = write_flag_file(tmp_path / "p", [flagged(1)])
    for header, named in (("sentence,label", {}), ("review,sentiment", {}), ("label,x", "x")):
        folder = tmp_path / header
        folder.mkdir()
        columns = {"label": named} if isinstance(named, str) else named
        assert applied(folder, sst2(folder, header), patch, **columns)["dropped"] == 1
    with pytest.raises(TurnoverError, match=r"no column 'y' \(there are: label, x\); name one"):
        apply_flag_file(patch, str(folder / "train.csv"), tmp_path / "out.csv", label="y")


def test_ids_of_a_column_come_first_and_where_they_name_nothing_the_text_if_it_is_there_once(
    tmp_path: Path,
) -> None:
    data, rows = tmp_path / "data.csv", [*reversed(TABLE)]
    text = "".join(f'{id},"{text}",{label}\n' for id, text, label in rows)
    data.write_text("name,text,label\n" + text, encoding="utf-8")
    done = applied(tmp_path, data, write_flag_file(tmp_path / "p", [flagged(0)]))
    assert (done["dropped"], done["refused"]) == (1, [])
    assert "a fine film" not in (tmp_path / "clean.csv").read_text()
    other = tmp_path / "other"
    other.mkdir()
    text = "".join(f'"{text}",{label}\n' for _, text, label in [*rows, TABLE[1]])
    (other / "data.csv").write_text("text,label\n" + text, encoding="utf-8")
    lines = [{**flagged(row), "id": f"other {row}"} for row in (0, 1)]
    done = applied(other, other / "data.csv", write_flag_file(other / "p", lines))
    why = "2 rows have its contents, and no column has ids"
    assert done["dropped"] == 1
    assert done["refused"] == [{"id": "other 1", "place": "", "why": why}]


def test_a_row_that_differs_is_reported_and_not_changed(tmp_path: Path) -> None:
    lines = [
        flagged(0, sha256=text_hash("another text")),
        flagged(1, "relabel", "positive"),
        flagged(1),
        {**flagged(2), "label": "negative"},
        {**flagged(2), "id": "train-99"},
        {**flagged(2), "action": "burn"},
    ]
    done = applied(tmp_path, sst2(tmp_path), write_flag_file(tmp_path / "p", lines))
    assert (done["dropped"], done["relabelled"]) == (0, 1)
    assert [(one["place"], one["why"]) for one in done["refused"]] == [
        ("line 7", "unknown action 'burn'; choose one of drop, relabel, keep"),
        ("row 1", "the contents are not those that the decision was made on"),
        ("row 2", "another line of the flag file has decided on it"),
        ("row 3", "the label is '1' here, not 'negative'"),
        ("", "no row has this id"),
    ]
    clean = (tmp_path / "clean.csv").read_text().splitlines()[1:]
    assert clean == ['"a fine film",1', "dull,1", '"a second, longer one",1']


def test_a_label_that_is_right_already_is_no_misfit(tmp_path: Path) -> None:
    """It was made wrong on purpose for the run, or somebody has corrected it since."""
    line = flag_line("train-0", "a fine film", "negative", "relabel", "positive")
    done = applied(tmp_path, sst2(tmp_path), write_flag_file(tmp_path / "p", [line]))
    assert (done["relabelled"], done["kept"], done["refused"]) == (0, 1, [])


UNREADABLE = [
    (b'text,label\n"never closed,1\n', "row 1: a quote is never closed"),
    (b"text,label\na,1,2\n", "row 1: 3 fields under 2 names"),
    (b"text,label\na,1\n\xff,1\n", "line 3: not UTF-8 text"),
    (b"a,b\n1,2\n", "no column holds texts or images"),
    (b",".join(b"c%d" % number for number in range(999)), "no rows; add some"),
    (b"text,b,c\na fine film,x,y\n", "which column holds the labels"),
    (b"", "the file is empty"),
    (
        b'text,label\n"other",1\n',
        "none of the 1 lines of the flag file fits; 'train-0': no row has its contents",
    ),
]


def test_a_table_that_cannot_be_read_or_is_another_is_one_line_and_writes_nothing(
    tmp_path: Path,
) -> None:
    data, patch = tmp_path / "data.csv", write_flag_file(tmp_path / "p", [flagged(0)])
    for content, why in UNREADABLE:
        data.write_bytes(content)
        with pytest.raises(TurnoverError, match=why):
            apply_flag_file(patch, str(data), tmp_path / "out.csv")
        assert names(tmp_path) == ["data.csv", "p"]


# What stays as it was written


WRITTEN: dict[str, tuple[str, dict[str, Any], tuple[str, ...], str]] = {
    "json keeps the last of two keys": (
        '{"label": 0, "n": 1.10, "text": "x", "label": 1}\n\n{"text": "y", "label": 0}',
        flag_line("data-0", "x", "positive", "relabel", "negative"),
        CLASSES,
        '{"label": 0, "n": 1.1, "text": "x"}\n\n{"text": "y", "label": 0}',
    ),
    "labels that are true or false": (
        '{"text": "x", "label": true}\n{"text": "y", "label": false}\n',
        flag_line("data-0", "x", "True", "relabel", "False"),
        ("False", "True"),
        '{"text": "x", "label": false}\n{"text": "y", "label": false}\n',
    ),
    "whole floats, which pandas makes of numbers": (
        "text,label\nx,1.0\ny,0.0\n",
        flag_line("data-0", "x", "positive", "relabel", "negative"),
        CLASSES,
        "text,label\nx,0\ny,0.0\n",
    ),
    "whole floats as names of classes, in JSON": (
        '{"text": "x", "label": 2.0}\n{"text": "y", "label": 1}\n',
        flag_line("data-0", "x", "2", "relabel", "1"),
        ("1", "2"),
        '{"text": "x", "label": 1.0}\n{"text": "y", "label": 1}\n',
    ),
    "a label with a comma or a quote is quoted": (
        "text,label\nx,plain\ny,plain\n",
        flag_line("data-1", "y", "plain", "relabel", 'of, "all"'),
        ("plain", 'of, "all"'),
        'text,label\nx,plain\ny,"of, ""all"""\n',
    ),
    "a column of labels beside blank cells and others like it": (
        "guess,text,sentiment\npositive,one,negative\nnegative,two,\n",
        flag_line("data-0", "one", "negative", "relabel", "positive"),
        CLASSES,
        "guess,text,sentiment\npositive,one,positive\nnegative,two,\n",
    ),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_all_else_stays_as_it_was_written(case: str, tmp_path: Path) -> None:
    text, line, classes, clean = WRITTEN[case]
    suffix = ".jsonl" if text.startswith("{") else ".csv"
    data = tmp_path / f"data{suffix}"
    data.write_text(text, encoding="utf-8")
    done = applied(tmp_path, data, write_flag_file(tmp_path / "p", [line], classes))
    assert (done["relabelled"], done["refused"]) == (1, [])
    assert (tmp_path / f"clean{suffix}").read_text(encoding="utf-8") == clean


@pytest.mark.parametrize("labels", ["numbers", "names", "categories"])
def test_a_parquet_file_of_texts(tmp_path: Path, labels: str) -> None:
    frame = pd.DataFrame(TABLE, columns=["id", "text", "label"]).assign(extra=[0.5, None, 1.5])
    numbers = frame["label"].astype(int)
    frame["label"] = numbers if labels == "numbers" else [CLASSES[one] for one in numbers]
    if labels == "categories":
        frame["label"] = frame["label"].astype("category")
    frame.to_parquet(tmp_path / "data.parquet")
    patch = write_flag_file(tmp_path / "p", [flagged(0, "relabel", "negative"), flagged(1)])
    assert applied(tmp_path, tmp_path / "data.parquet", patch)["refused"] == []
    clean = pd.read_parquet(tmp_path / "clean.parquet")
    assert clean["label"].tolist() == ([0, 1] if labels == "numbers" else ["negative", "positive"])
    assert clean.dtypes.equals(frame.dtypes) and clean["extra"].tolist() == [0.5, 1.5]


@pytest.mark.parametrize("nested", [False, True])
def test_a_parquet_file_of_images(tmp_path: Path, nested: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 8, 8), np.uint8)
    images = [{"bytes": png(one), "path": None} if nested else png(one) for one in pixels]
    frame = pd.DataFrame({"image": images, "label": [0, 1, 0], "index": [7, 9, 8]})
    frame.to_parquet(tmp_path / "data.parquet")
    lines = [
        flag_line(f"train-{number}", "", "cat", "drop", sha256=pixel_hash(own))
        for number, own in ((7, pixels[0]), (8, pixels[1]))
    ]
    patch = write_flag_file(tmp_path / "p", lines, ("cat", "dog"), (8, 8))
    done = applied(tmp_path, tmp_path / "data.parquet", patch)
    assert done["dropped"] == 1 and done["refused"][0]["place"] == "row 3"
    assert pd.read_parquet(tmp_path / "clean.parquet")["index"].tolist() == [9, 8]


def test_paths_of_images_that_lead_out_of_the_folder_are_not_opened(tmp_path: Path) -> None:
    """A row of the same pixels is changed in the folder, and not where it leads out of it."""
    pixels, folder = np.full((8, 8, 3), 7, np.uint8), tmp_path / "in"
    folder.mkdir()
    for path in (folder / "a.png", tmp_path / "b.png"):
        path.write_bytes(png(pixels))
    checksum = pixel_hash(pixels)
    lines = [flag_line(f"data-{row}", "", "negative", "drop", sha256=checksum) for row in range(2)]
    (folder / "data.csv").write_text("image,label\na.png,negative\n../b.png,negative\n")
    patch = write_flag_file(tmp_path / "p", lines, shape=(8, 8, 3))
    done = apply_flag_file(patch, str(folder / "data.csv"), tmp_path / "clean.csv")
    assert (done["dropped"], [one["place"] for one in done["refused"]]) == (1, ["row 2"])
    assert (tmp_path / "clean.csv").read_text() == "image,label\n../b.png,negative\n"
