"""The table of flags: safe for spreadsheets whatever people wrote, and whole in spite of flags on items that are not there."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from core import Run
from core.flags import MAX_NOTE, Flags
from core.groups.choose import flagged
from core.pipeline.export import export_csv
from tests.helpers.fake_runs import HOSTILE, FakeRun

NOTES = (
    *HOSTILE,
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    'quote " and, comma',
    "two\r\nlines\n=1+1",
    "\u202eright to left",
    "\0=1+1",
    "=" + "n" * 100_000,
)


@pytest.mark.parametrize("note", NOTES)
def test_no_cell_begins_as_a_formula_and_rows_stay_rows(tmp_path: Path, note: str) -> None:
    run = Run(FakeRun(texts=["=2+2 is a text"], classes=("=neg", "@pos")).write(tmp_path))
    Flags(run.folder, by="=cmd|x").put(2, "relabel", "@pos", note=note)
    text = export_csv(run)
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert "\0" not in text
    assert not [value for name, value in row.items() if value.startswith(("=", "+", "-", "@", "\t", "\r")) and name not in ("mean_influence",)]
    kept = note.replace("\0", "")[:MAX_NOTE]
    assert row["note"].removeprefix("'") == kept and (row["by"], row["new_label"], row["text"]) == ("'=cmd|x", "'@pos", "'=2+2 is a text")


def test_flags_on_items_that_are_not_there_harm_nothing(tmp_path: Path) -> None:
    run = Run(FakeRun().write(tmp_path))
    Flags(run.folder).put_many([3, 1000], "drop")
    assert export_csv(run).count("\n") == 2 and list(flagged(run).instances) == [3]
