"""A patch onto tables: apply then undo is the identity, and what does not fit is reported and left alone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from core.data.records import FORMS
from core.data.sst2 import CLASSES
from core.data.tables import read_labelled_texts, read_table
from core.errors import TurnoverError
from core.patch.apply import apply_patch, undo_patch
from core.patch.content import pixel_hash, text_hash
from tests.helpers.builders import names
from tests.helpers.fake_runs import png

Row = tuple[str, str, str]
"""Id, text and label."""


def patch_line(id: str, text: str, label: str, action: str, new_label: str = "", **other: str) -> dict[str, Any]:
    said = {"id": id, "sha256": text_hash(text), "label": label, "action": action, "new_label": new_label, "note": "", "by": "ann", "at": "2026-11-01"}
    return {**said, **other}


def write_patch(path: Path, lines: Sequence[dict[str, Any]], classes: Sequence[str] = CLASSES, shape: Sequence[int] = ()) -> Path:
    header = {"turnover_patch": 1, "fingerprint": "f", "run": "r", "kind": "text", "classes": list(classes), "shape": list(shape), "count": len(lines)}
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)), encoding="utf-8")
    return path


def there_and_back(folder: Path, data: Path, patch: Path, **columns: str) -> dict[str, Any]:
    """Apply a patch and undo it; the data set itself is as it was, and so is what comes back."""
    before = data.read_bytes()
    done = apply_patch(patch, data, folder / f"clean{data.suffix}", **columns)
    undo_patch(Path(done["undo"]), Path(done["out"]), folder / f"back{data.suffix}")
    assert data.read_bytes() == before == (folder / f"back{data.suffix}").read_bytes()
    return done


# The law

TEXTS = some.text(some.characters(codec="utf-8", exclude_characters="\0\ufeff\r"), max_size=8).filter(str.strip)
ROWS = some.lists(some.tuples(TEXTS, some.sampled_from(CLASSES), some.sampled_from(["drop", "relabel", "keep", "none"])), min_size=1, max_size=7)
ENDS = some.sampled_from(["\n", "\r\n", "\n\n", "\n \n"])


def cell(text: str, quoted: bool) -> str:
    plain = not quoted and not set(text) & set(',"\n\r') and text.strip()
    return text if plain else '"' + text.replace('"', '""') + '"'


def written(rows: list[Row], form: str, ends: list[str], quoted: bool, extra: bool) -> str:
    """A table as somebody may have written it: quotes where they need not be, blank lines, no end of the last line."""
    if form == ".jsonl":
        spaced = [f' {{"id":"{id}" ,"note": 1.10,"label" :"{label}", "text": {json.dumps(text, ensure_ascii=quoted)} }}' for id, text, label in rows]
        return "".join(line + end for line, end in zip(spaced, ends, strict=False)).rstrip("\n" if extra else "")
    separator = {".csv": ",", ".tsv": "\t"}[form]
    lines = [("id", "text", "label"), *rows]
    texts = [separator.join(cell(part, quoted) if form == ".csv" else part for part in line) for line in lines]
    whole = "".join(line + end for line, end in zip(texts, ends, strict=False))
    return ("\ufeff" if extra else "") + (whole.rstrip("\n ") if extra and form == ".csv" and '"' not in whole[-3:] else whole)


@given(ROWS, some.sampled_from(sorted(FORMS)), some.lists(ENDS, min_size=9, max_size=9), some.booleans(), some.booleans())
def test_apply_then_undo_is_the_identity_and_only_what_is_flagged_changes(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], form: str, ends: list[str], quoted: bool, extra: bool
) -> None:
    if form == ".tsv":
        assume(not any(set(text) & set("\t\n") for text, _, _ in rows))
    folder = tmp_path_factory.mktemp("law")
    table = [(f"train-{row}", text, label) for row, (text, label, _) in enumerate(rows)]
    data = folder / f"data{form}"
    data.write_bytes(written(table, form, ends, quoted, extra).encode())
    other = dict(zip(CLASSES, reversed(CLASSES), strict=True))
    lines = [
        patch_line(id, text, label, action, other[label] if action == "relabel" else "")
        for (id, text, label), (_, _, action) in zip(table, rows, strict=True)
        if action != "none"
    ]
    done = there_and_back(folder, data, write_patch(folder / "patch.jsonl", lines))
    assert done["refused"] == []
    kept = [
        (id, text, other[label] if action == "relabel" else label) for (id, text, label), (_, _, action) in zip(table, rows, strict=True) if action != "drop"
    ]
    assert (done["dropped"], done["relabelled"]) == (len(rows) - len(kept), sum(action == "relabel" for _, _, action in rows))
    assert read_back(folder / f"clean{form}") == kept


def read_back(path: Path) -> list[tuple[str, str, str]]:
    """The rows of a file, by other readers than ours."""
    if path.suffix == ".jsonl":
        parsed = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
        return [(one["id"], one["text"], one["label"]) for one in parsed]
    form: dict[str, Any] = {".csv": {}, ".tsv": {"sep": "\t", "quoting": csv.QUOTE_NONE}}[path.suffix]
    text = path.read_bytes().decode("utf-8-sig")
    table = pd.read_csv(io.StringIO(text, newline=""), dtype=str, keep_default_na=False, **form)
    return [(str(row.id), str(row.text), str(row.label)) for row in table.itertuples()]


@given(some.text(some.sampled_from('ab"",;\t\r\n \u2028'), max_size=30), some.sampled_from(sorted(FORMS)))
def test_whatever_can_be_read_is_the_records_joined(text: str, form: str) -> None:
    try:
        records = FORMS[form].split(text, "data")
    except TurnoverError:
        return
    assert records.head + "".join(records.rows) == text
    again = FORMS[form].split(records.head + "".join(records.rows[::2]), "data") if records.rows and records.rows[0].endswith("\n") else None
    assert again is None or again.rows == records.rows[::2]


@given(ROWS)
def test_rows_are_counted_as_the_sources_count_them(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]) -> None:
    """`train-7` is the same row for the data set that a run was trained on and for its patch."""
    path = tmp_path_factory.mktemp("rows") / "train.csv"
    path.write_text(written([("x", text, str(CLASSES.index(label))) for text, label, _ in rows], ".csv", ["\n\n"] * 9, True, False), encoding="utf-8")
    texts = read_labelled_texts(path, CLASSES).texts
    assert FORMS[".csv"].split(path.read_text(encoding="utf-8"), "data").columns["text"] == texts == list(read_table(path, ())["text"])


# Finding rows and columns

TABLE = [("train-0", "a fine film", "1"), ("train-1", "dull", "0"), ("train-2", "a second, longer one", "1")]


def sst2(folder: Path, header: str = "text,label", name: str = "train.csv") -> Path:
    path = folder / name
    path.write_text(header + "\n" + "".join(f'"{text}",{label}\n' for _, text, label in TABLE), encoding="utf-8")
    return path


def flagged(row: int, action: str = "drop", new_label: str = "", **other: str) -> dict[str, Any]:
    id, text, label = TABLE[row]
    return patch_line(id, text, CLASSES[int(label)], action, new_label, **other)


def test_classes_by_number_stay_numbers_and_row_numbers_name_rows(tmp_path: Path) -> None:
    data = sst2(tmp_path)
    done = there_and_back(tmp_path, data, write_patch(tmp_path / "p", [flagged(0, "relabel", "negative"), flagged(1)]))
    assert (done["dropped"], done["relabelled"], done["kept"], done["refused"]) == (1, 1, 0, [])
    assert (tmp_path / "clean.csv").read_text(encoding="utf-8") == 'text,label\n"a fine film",0\n"a second, longer one",1\n'
    assert list(read_labelled_texts(tmp_path / "clean.csv", CLASSES).labels) == [0, 1]


@pytest.mark.parametrize("header", ["sentence,label", "review,sentiment", "label,x"])
def test_columns_are_found_by_what_is_in_them_or_named(tmp_path: Path, header: str) -> None:
    patch = write_patch(tmp_path / "p", [flagged(1)])
    if header == "label,x":
        assert there_and_back(tmp_path, sst2(tmp_path, header), patch, label="x")["dropped"] == 1
        with pytest.raises(TurnoverError, match=r"no column 'y' \(there are: label, x\); name one"):
            apply_patch(patch, tmp_path / "train.csv", tmp_path / "out.csv", label="y")
    else:
        assert there_and_back(tmp_path, sst2(tmp_path, header), patch)["dropped"] == 1


def test_ids_of_a_column_come_before_the_order_of_rows(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("name,text,label\n" + "".join(f'{id},"{text}",{label}\n' for id, text, label in reversed(TABLE)), encoding="utf-8")
    done = there_and_back(tmp_path, data, write_patch(tmp_path / "p", [flagged(0)]))
    assert (done["dropped"], done["refused"]) == (1, []) and "a fine film" not in (tmp_path / "clean.csv").read_text()


def test_where_ids_name_nothing_the_text_finds_its_row_if_it_is_there_once(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for _, text, label in [*reversed(TABLE), TABLE[1]]), encoding="utf-8")
    lines = [{**flagged(row), "id": f"other {row}"} for row in (0, 1)]
    done = there_and_back(tmp_path, data, write_patch(tmp_path / "p", lines))
    assert done["dropped"] == 1 and done["refused"] == [{"id": "other 1", "place": "", "why": "2 rows have its contents, and no column has ids"}]


def test_a_row_that_differs_is_reported_and_not_changed(tmp_path: Path) -> None:
    lines = [
        flagged(0, sha256=text_hash("another text")),
        flagged(1, "relabel", "positive"),
        flagged(1),
        {**flagged(2), "label": "negative"},
        {**flagged(2), "id": "train-99"},
        {**flagged(2), "action": "burn"},
    ]
    done = there_and_back(tmp_path, sst2(tmp_path), write_patch(tmp_path / "p", lines))
    assert (done["dropped"], done["relabelled"]) == (0, 1)
    told = [(one["place"], one["why"]) for one in done["refused"]]
    assert told == [
        ("line 7", "unknown action 'burn'; choose one of drop, relabel, keep"),
        ("row 1", "the contents are not those that the decision was made on"),
        ("row 2", "another line of the patch has decided on it"),
        ("row 3", "the label is '1' here, not 'negative'"),
        ("", "no row has this id"),
    ]
    assert (tmp_path / "clean.csv").read_text().splitlines()[1:] == ['"a fine film",1', '"dull",1', '"a second, longer one",1']


def test_a_label_that_is_right_already_is_no_misfit(tmp_path: Path) -> None:
    """The label was made wrong on purpose for the run, or somebody has corrected it since."""
    line = patch_line("train-0", "a fine film", "negative", "relabel", "positive")
    done = there_and_back(tmp_path, sst2(tmp_path), write_patch(tmp_path / "p", [line]))
    assert (done["relabelled"], done["kept"], done["refused"]) == (0, 1, [])


def test_a_patch_of_another_data_set_writes_nothing(tmp_path: Path) -> None:
    patch = write_patch(tmp_path / "p", [flagged(0, sha256=text_hash("x")), flagged(1, sha256=text_hash("y"))])
    with pytest.raises(TurnoverError, match="none of the 2 lines of the patch fits; row 1: the contents"):
        apply_patch(patch, sst2(tmp_path), tmp_path / "out.csv")
    assert names(tmp_path) == ["p", "train.csv"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'text,label\n"never closed,1\n', "row 1: a quote is never closed"),
        (b"text,label\na,1,2\n", "row 1: 3 fields under 2 names"),
        (b"text,label\na,1\n\xff,1\n", "line 3: not UTF-8 text"),
        (b"a,b\n1,2\n", "no column holds the texts"),
        (b"text,b\na fine film,x\n", "which column holds the labels"),
        (b"", "no column holds the texts"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes, why: str) -> None:
    data = tmp_path / "data.csv"
    data.write_bytes(content)
    with pytest.raises(TurnoverError, match=why):
        apply_patch(write_patch(tmp_path / "p", [flagged(0)]), data, tmp_path / "out.csv")
    assert names(tmp_path) == ["data.csv", "p"]


def test_json_keeps_its_numbers_and_its_last_of_two_keys(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"label": 0, "n": 1.10, "text": "a fine film", "label": 1}\n\n{"text": "dull", "label": 0}', encoding="utf-8")
    done = there_and_back(tmp_path, data, write_patch(tmp_path / "p", [flagged(0, "relabel", "negative")]))
    assert done["relabelled"] == 1
    assert (tmp_path / "clean.jsonl").read_text() == '{"label": 0, "n": 1.10, "text": "a fine film", "label": 0}\n\n{"text": "dull", "label": 0}'


def test_a_label_with_a_comma_or_a_quote_is_quoted(tmp_path: Path) -> None:
    data, classes = tmp_path / "data.csv", ("plain", 'of, "all"')
    data.write_text("text,label\nx,plain\ny,plain\n", encoding="utf-8")
    line = patch_line("train-1", "y", "plain", "relabel", classes[1])
    there_and_back(tmp_path, data, write_patch(tmp_path / "p", [line], classes))
    assert read_table(tmp_path / "clean.csv", ())["label"].tolist() == ["plain", classes[1]]


# Parquet


@pytest.mark.parametrize("labels", ["numbers", "names", "categories"])
def test_a_parquet_file_of_texts(tmp_path: Path, labels: str) -> None:
    frame = pd.DataFrame(TABLE, columns=["id", "text", "label"]).assign(extra=[0.5, None, 1.5])
    frame["label"] = frame["label"].astype(int) if labels == "numbers" else [CLASSES[int(label)] for label in frame["label"]]
    if labels == "categories":
        frame["label"] = frame["label"].astype("category")
    frame.to_parquet(tmp_path / "data.parquet")
    patch = write_patch(tmp_path / "p", [flagged(0, "relabel", "negative"), flagged(1)])
    assert there_and_back(tmp_path, tmp_path / "data.parquet", patch)["refused"] == []
    clean = pd.read_parquet(tmp_path / "clean.parquet")
    assert clean["label"].tolist() == ([0, 1] if labels == "numbers" else ["negative", "positive"])
    assert clean.dtypes.equals(frame.dtypes) and clean["extra"].tolist() == [0.5, 1.5]


@pytest.mark.parametrize("nested", [False, True])
def test_a_parquet_file_of_images(tmp_path: Path, nested: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 8, 8), np.uint8)
    images = [{"bytes": png(one), "path": None} if nested else png(one) for one in pixels]
    pd.DataFrame({"image": images, "label": [0, 1, 0], "index": [7, 9, 8]}).to_parquet(tmp_path / "data.parquet")
    lines = [patch_line(f"train-{number}", "", "cat", "drop", sha256=pixel_hash(own)) for number, own in ((7, pixels[0]), (8, pixels[1]))]
    done = there_and_back(tmp_path, tmp_path / "data.parquet", write_patch(tmp_path / "p", lines, ("cat", "dog"), (8, 8)))
    assert done["dropped"] == 1 and done["refused"][0]["place"] == "row 3"
    assert pd.read_parquet(tmp_path / "clean.parquet")["index"].tolist() == [9, 8]


# Undo, and what is written


def test_a_copy_that_was_changed_is_not_undone(tmp_path: Path) -> None:
    done = apply_patch(write_patch(tmp_path / "p", [flagged(1)]), sst2(tmp_path), tmp_path / "out.csv")
    (tmp_path / "out.csv").write_bytes((tmp_path / "out.csv").read_bytes() + b"x,1\n")
    with pytest.raises(TurnoverError, match="changed since"):
        undo_patch(Path(done["undo"]), tmp_path / "out.csv", tmp_path / "back.csv")
    assert not (tmp_path / "back.csv").exists()


@pytest.mark.parametrize("damage", ["header", "row", "was", "nothing", "cut"])
def test_a_damaged_undo_file_is_refused(tmp_path: Path, damage: str) -> None:
    done = apply_patch(write_patch(tmp_path / "p", [flagged(0), flagged(1, "relabel", "positive")]), sst2(tmp_path), tmp_path / "out.csv")
    undo = Path(done["undo"])
    header, *changes = undo.read_bytes().splitlines(keepends=True)
    made = {
        "header": [b"{}\n", *changes],
        "row": [header, changes[0].replace(b'"row": 1', b'"row": 70')],
        "was": [header, changes[0].replace(b"fine", b"finer"), changes[1]],
        "nothing": [],
        "cut": [header, changes[0]],
    }
    undo.write_bytes(b"".join(made[damage]))
    with pytest.raises(TurnoverError, match="undo"):
        undo_patch(undo, tmp_path / "out.csv", tmp_path / "back.csv")
    assert not (tmp_path / "back.csv").exists()


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    data, patch = sst2(tmp_path), write_patch(tmp_path / "p", [flagged(1)])
    for taken in ("train.csv", "out.csv.undo"):
        (tmp_path / taken).touch()
        with pytest.raises(TurnoverError, match="exists; choose another --out"):
            apply_patch(patch, data, tmp_path / taken.removesuffix(".undo"))
    assert names(tmp_path) == ["out.csv.undo", "p", "train.csv"]


def test_labels_that_are_true_or_false_become_the_other(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "one", "label": true}\n{"text": "two", "label": false}\n')
    lines = [patch_line("data-0", "one", "True", "relabel", "False"), patch_line("data-1", "two", "False", "relabel", "True")]
    there_and_back(tmp_path, data, write_patch(tmp_path / "p", lines, ("False", "True")))
    assert [json.loads(line)["label"] for line in (tmp_path / "clean.jsonl").read_text().splitlines()] == [False, True]


def test_a_column_of_labels_is_found_beside_blank_cells_and_others_like_it(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("guess,words,sentiment\npositive,one,negative\nnegative,two,\n")
    there_and_back(tmp_path, data, write_patch(tmp_path / "p", [patch_line("data-0", "one", "negative", "relabel", "positive")]))
    assert (tmp_path / "clean.csv").read_text() == "guess,words,sentiment\npositive,one,positive\nnegative,two,\n"


def test_paths_of_images_that_lead_out_of_the_folder_are_not_opened(tmp_path: Path) -> None:
    """A row of the same pixels is changed in the folder, and not where it leads out of it."""
    pixels = np.full((8, 8, 3), 7, np.uint8)
    folder = tmp_path / "in"
    folder.mkdir()
    for path in (folder / "a.png", tmp_path / "b.png"):
        path.write_bytes(png(pixels))
    lines = [patch_line(f"data-{row}", "", "negative", "drop", sha256=pixel_hash(pixels)) for row in range(2)]
    data = folder / "data.csv"
    data.write_text("image,label\na.png,negative\n../b.png,negative\n")
    done = apply_patch(write_patch(tmp_path / "p", lines, shape=(8, 8, 3)), data, tmp_path / "clean.csv")
    assert (done["dropped"], [one["place"] for one in done["refused"]]) == (1, ["row 2"])
    assert (tmp_path / "clean.csv").read_text() == "image,label\n../b.png,negative\n"
