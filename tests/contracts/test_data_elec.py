"""Elec: its two splits, and that it is no training set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core import TurnoverError
from core.data import NAMES, load_data
from core.data.elec import load_elec

HEADER = "text,label,stars,title\n"
VALID = HEADER + '"It broke, twice.",0,1.0,Poor\nWorks,1,5.0,"Fine, ""really"""\n'
TEST = HEADER + "Loud,1,4.0,\nThin,0,2.0,x\nGood,1,5.0,y\n"


def elec(folder: Path, **files: str) -> Path:
    for name, content in ({"valid": VALID, "test_shared": TEST} | files).items():
        (folder / f"{name}.csv").write_text(content, encoding="utf-8")
    return folder


def test_both_splits_are_read_and_the_other_columns_left_out(tmp_path: Path) -> None:
    reviews = load_elec(elec(tmp_path))
    assert (reviews.validation.texts, reviews.validation.labels.tolist()) == (["It broke, twice.", "Works"], [0, 1])
    assert (reviews.test.texts, reviews.test.labels.tolist()) == (["Loud", "Thin", "Good"], [1, 0, 1])
    assert (reviews.validation.ids, reviews.test.ids[0]) == (["valid-0", "valid-1"], "test_shared-0")
    assert reviews.source == f"valid.csv and test_shared.csv in {tmp_path}"
    assert reviews.test.labels.dtype == np.int64


def test_the_whole_test_file_goes_before_its_half(tmp_path: Path) -> None:
    reviews = load_elec(elec(tmp_path, test=HEADER + "All,1,4.0,\nOf it,0,2.0,x\n"))
    assert reviews.test.texts == ["All", "Of it"]


def test_columns_that_nobody_needs_need_not_be_there(tmp_path: Path) -> None:
    assert load_elec(elec(tmp_path, valid="label,text\n1,Fine\n0,Poor\n")).validation.texts == ["Fine", "Poor"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"valid": HEADER + "Fine,1,5,\n,0,1,\n"}, r"valid\.csv, row 2, column text: the text is empty"),
        ({"valid": HEADER + "Fine,1,5,\nPoor,-1,1,\n"}, r"valid\.csv, row 2, column label: the label '-1' is not one of 0, 1; correct it"),
        ({"test_shared": "review,label\nFine,1\n"}, r"test_shared\.csv: no column 'sentence' \(there are: review, label\)"),
        ({"test_shared": "text,stars\nFine,1\n"}, r"test_shared\.csv: no column 'label'"),
        ({"test_shared": HEADER + "Fine,1,5,\nGood,1,5,\n"}, r"test_shared\.csv: all 2 reviews have the label 1; add reviews of the other class"),
        ({"test_shared": HEADER}, r"test_shared\.csv: a header but no rows"),
    ],
)
def test_files_are_checked(files: dict[str, str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=reason):
        load_elec(elec(tmp_path, **files))


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=r"nowhere: no such folder; --path names the folder with the files of Elec"):
        load_elec(tmp_path / "nowhere")
    with pytest.raises(TurnoverError, match=r"no valid\.csv is there; put it into the folder$"):
        load_elec(tmp_path)
    (tmp_path / "valid.csv").write_text(VALID)
    with pytest.raises(TurnoverError, match=r"none of test\.csv, test_shared\.csv is there; put one of them into the folder$"):
        load_elec(tmp_path)


def test_it_is_refused_as_training_data_with_the_other_way(tmp_path: Path) -> None:
    assert "elec" not in NAMES
    for path in (None, elec(tmp_path)):
        with pytest.raises(TurnoverError, match=r"^elec has no training set; train on sst2, then .*core cleanse --validation elec --path DIR"):
            load_data("elec", path)
