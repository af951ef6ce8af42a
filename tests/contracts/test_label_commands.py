"""Wrong labels found and items flagged without a browser."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers.calling import answer, call
from tests.helpers.fake_runs import HOSTILE, FakeRun
from turnover.explain.causes import suspected_training_items
from turnover.flags import Flags
from turnover.runs.run import Run

Capture = pytest.CaptureFixture[str]


class Mistaken(FakeRun):
    """A run whose models get every third training item wrong, too."""

    def _items(self, split: str, count: int, rng: np.random.Generator) -> pd.DataFrame:
        items = super()._items("validation", count, rng)
        return items.assign(split=split, id=[f"{split[0]}{row:03d}" for row in range(count)])


def test_doubtful_items_come_first_and_all_are_written(tmp_path: Path, capsys: Capture) -> None:
    folder = Mistaken(train=60, texts=["=1+1", *HOSTILE]).write(tmp_path)
    run, out = Run(folder), tmp_path / "doubts.csv"
    suspects = suspected_training_items(run, None)
    Flags(folder).put(next(iter(suspects)), "keep")
    result = answer(capsys, "label-errors", "--run", folder, "--top", "5", "--out", out)
    items = result["items"]
    assert result["suspected"] == len(suspects) > 5 == len(items)
    chances = [item["probability"] for item in items]
    assert chances == sorted(chances, reverse=True)
    flipped = run.array("item_losses")[1, run.manifest["results"]["kept_epoch"] - 1]
    for item in items:
        doubt = suspects[item["position"]]
        assert (item["proposed"], item["probability"]) == (doubt.label, doubt.probability)
        assert item["label"] != item["proposed"]
        assert item["flipped_loss"] == pytest.approx(float(flipped[item["position"]]))
    with out.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(suspects) and [row["id"] for row in rows[:5]] == [
        item["id"] for item in items
    ]
    assert sum(row["flag"] == "keep" for row in rows) == 1
    assert not any(row["text"].startswith(("=", "@")) for row in rows)
    code, words, _ = call(capsys, "label-errors", "--run", folder)
    assert code == 0 and f"{len(suspects)} of 60 training items" in words


def test_items_are_flagged_together_and_cleared(tmp_path: Path, capsys: Capture) -> None:
    folder = FakeRun().write(tmp_path)
    for decision, stored in (
        (("--drop",), ("drop", "")),
        (("--relabel", "positive"), ("relabel", "positive")),
        (("--keep", "--note", "looked at"), ("keep", "")),
    ):
        answer(capsys, "flag", "--run", folder, "--item", "t001", "t004", *decision)
        flags = Flags(folder).current()
        assert {(flag.action, flag.new_label) for flag in flags.values()} == {stored}
        assert sorted(flags) == [1, 4]
    assert {flag.note for flag in flags.values()} == {"looked at"}
    result = answer(capsys, "flag", "--run", folder, "--item", "t001", "--clear")
    assert result["flagged"] == 1 and sorted(Flags(folder).current()) == [4]
    assert len(Flags(folder).undo().flags) == 1 and sorted(Flags(folder).current()) == [1, 4]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("--item", "t001", "nobody", "--drop"), "no training item of this id"),
        (("--item", "t001", "--relabel", "maybe"), "the classes of"),
        (("--item", "t001", "--relabel", ""), "the classes of"),
        (("--item", "t001"), "one of the arguments --drop --relabel --keep --clear is required"),
        (("--item", "t001", "--drop", "--keep"), "not allowed with"),
    ],
)
def test_nothing_is_stored_of_what_cannot_be(
    wrong: tuple[str, ...], message: str, tmp_path: Path, capsys: Capture
) -> None:
    folder = FakeRun().write(tmp_path)
    code, out, error = call(capsys, "flag", "--run", folder, *wrong)
    assert (code, out) == (2, "") and message in error and len(error.strip().splitlines()) == 1
    assert not Flags(folder).current()
