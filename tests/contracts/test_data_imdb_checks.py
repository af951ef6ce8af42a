"""IMDB label checks: confirmed errors are marked training items, validation has none, and files are checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core import TurnoverError
from core.data import load_data
from core.data.base import CONFIRMED_ERROR
from core.data.imdb_checks import load_imdb_checks

HEADER = "text,label,review_id,checked,n_given,n_guessed,n_neutral,n_offtopic,verdict\n"
OTHERS = ("not_checked", "given", "neutral", "no_majority", "off-topic")


def a_row(number: int, verdict: str) -> str:
    checked = int(verdict != "not_checked")
    return f'"Film {number}, or ""not""",{number % 2},test/{"np"[number % 2]}/{number},{checked},1,4,0,0,{verdict}\n'


def reviews(folder: Path, content: str | None = None, name: str = "reviews_shared.csv") -> Path:
    """60 reviews, every sixth label confirmed to be wrong."""
    verdicts = ("guessed" if row % 6 == 0 else OTHERS[row % 5] for row in range(60))
    rows = "".join(a_row(row, verdict) for row, verdict in enumerate(verdicts))
    (folder / name).write_text(HEADER + rows if content is None else content, encoding="utf-8")
    return folder


def test_confirmed_errors_are_marked_and_none_is_left_to_validate_on(tmp_path: Path) -> None:
    data = load_data("imdb-checks", reviews(tmp_path))
    assert (len(data.train), len(data.validation), data.kind, data.classes) == (48, 12, "text", ("negative", "positive"))
    marked = {name for name, mark in zip(data.train.ids, data.train.planted, strict=True) if mark == CONFIRMED_ERROR}
    assert marked == {f"test/n/{row}" for row in range(0, 60, 6)}
    assert set(data.train.planted) == {CONFIRMED_ERROR, ""} and set(data.validation.planted) == {""}
    for items in (data.train, data.validation):
        numbers = [int(name.rpartition("/")[2]) for name in items.ids]
        assert items.texts == [f'Film {number}, or "not"' for number in numbers] and items.labels.tolist() == [number % 2 for number in numbers]
    assert sorted(data.train.ids + data.validation.ids) == sorted(f"test/{'np'[row % 2]}/{row}" for row in range(60))
    assert data.source == f"reviews_shared.csv in {tmp_path}" and data.train.labels.dtype == np.int64


def test_the_split_is_always_the_same_and_random(tmp_path: Path) -> None:
    first, again = (load_imdb_checks(reviews(tmp_path)) for _ in range(2))
    assert first.fingerprint() == again.fingerprint()
    numbers = [int(name.rpartition("/")[2]) for name in first.validation.ids]
    assert min(numbers) < 20 and max(numbers) > 40


def test_the_whole_file_goes_before_its_half(tmp_path: Path) -> None:
    reviews(reviews(tmp_path), HEADER + "".join(a_row(row, "not_checked") for row in range(10)), "reviews.csv")
    assert len(load_imdb_checks(tmp_path).train) == 8


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HEADER + a_row(0, "given") + a_row(1, "maybe"), r"reviews_shared\.csv, row 2, column verdict: the label 'maybe' is not one of guessed, given, .*"),
        (HEADER + a_row(0, "given").replace(",0,test", ",2,test"), r"reviews_shared\.csv, row 1, column label: the label '2' is not one of 0, 1"),
        (HEADER + "," + a_row(0, "given").partition(",0,")[2].join(("0,", "")), r"reviews_shared\.csv, row 1, column text: the text is empty"),
        ("text,label,review_id\nFine,1,a\n", r"reviews_shared\.csv: no column 'verdict' \(there are: text, label, review_id\)"),
        (HEADER, r"reviews_shared\.csv: a header but no rows"),
        (HEADER + a_row(0, "given") * 10, "row 2 of the training split repeats the id 'test/n/0'; make ids unique"),
        (HEADER + "".join(a_row(row, "given") for row in range(0, 20, 2)), "all 8 training items have the label 'negative'"),
        (HEADER + "".join(a_row(row, "given") for row in range(4)), "the validation split is empty; add rows"),
    ],
)
def test_files_are_checked(content: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=reason) as raised:
        load_imdb_checks(reviews(tmp_path, content))
    assert "\n" not in str(raised.value)


def test_a_folder_is_needed(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=r"^the IMDB label checks are not on the hub; --path names the folder with them$"):
        load_data("imdb-checks")
    with pytest.raises(TurnoverError, match="nowhere: no such folder; --path names the folder with the IMDB label checks"):
        load_imdb_checks(tmp_path / "nowhere")
    with pytest.raises(TurnoverError, match=r"none of reviews\.csv, reviews_shared\.csv is there"):
        load_imdb_checks(tmp_path)
