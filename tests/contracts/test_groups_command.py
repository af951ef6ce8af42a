"""`python -m core groups`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core import Run
from core.cli import main
from core.estimators.trust import NOISE, STRONG, WEAK
from tests.helpers.fake_runs import FakeRun

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A made-up text run with eight errors, some of which flip."""
    return FakeRun(train=70).write(tmp_path)


def test_groups_are_summed_for_the_errors_named(capsys: Capture, folder: Path, tmp_path: Path) -> None:
    run = Run(folder)
    ids = [str(run.item("validation", position)["id"]) for position in run.errors[:2]]
    (tmp_path / "ids.txt").write_text("t005\nt009\n", encoding="utf-8")
    options = ["--containing", "submarine", "--class", "negative", "--planted", "cue-submarine", "--top", "4"]
    asked = ["groups", "--run", str(folder), "--error", ids[1], "--error", ids[0], *options, "--ids", str(tmp_path / "ids.txt"), "--json"]
    assert main(asked) == 0
    result = json.loads(capsys.readouterr().out)
    assert [entry["id"] for entry in result["errors"]] == ids[::-1]
    names = ["top 4 proponents", "top 4 opponents", "texts with “submarine”", "class negative", "planted cue-submarine", "listed in ids.txt"]
    for entry, position in zip(result["errors"], run.errors[1::-1], strict=True):
        assert [group["name"] for group in entry["groups"]] == names
        for meaning in ("prediction", "truth"):
            middle, listed = np.median(run.influence.evidence(position, meaning)[0][:, 0], 0), entry["groups"][5][meaning]
            assert listed["influence"] == pytest.approx(float(middle[[5, 9]].sum()), rel=1e-5)
            assert listed["standard_error"] > 0 and listed["trust"] in (STRONG, WEAK, NOISE)
            assert len(listed["random"]) == 2 and entry["groups"][0][meaning]["random"] is None
        assert entry["flip"]["removed"] == len(entry["flip"]["ids"]) and set(entry["flip"]["losses_after"]) == {"predicted", "true"}


def test_all_errors_are_told_in_words_with_how_many_flip(capsys: Capture, folder: Path) -> None:
    assert main(["groups", "--run", str(folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    sizes = [entry["flip"]["removed"] for entry in result["errors"] if entry["flip"]["removed"]]
    assert result["flips"] == {"errors": 8, "predicted": len(sizes), "median_removed": np.median(sizes)} and 0 < len(sizes) < 8
    assert main(["groups", "--run", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("top 10 proponents, 10 items: on " in line for line in lines) == 8
    assert sum("predicted to flip to" in line for line in lines) == len(sizes)
    assert sum("no group of up to half of the 70 training items is predicted to flip it" in line for line in lines) == 8 - len(sizes)
    assert lines[-1].startswith(f"{len(sizes)} of 8 errors are predicted to flip at face value") and "no retraining" in lines[-1]


def test_one_member_is_told_without_errors(capsys: Capture, tmp_path: Path) -> None:
    folder = FakeRun(members=1).write(tmp_path)
    assert main(["groups", "--run", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "error not known" in out and "nan" not in out and "None" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--error", "nobody"], "no validation item has the id 'nobody'"),
        (["--error", "v001"], "'v001' is not misclassified"),
        (["--containing", "zeppelin"], "no training text contains 'zeppelin'"),
        (["--class", "mild"], "unknown class 'mild'"),
        (["--planted", "nothing"], "no training item has the planted mark 'nothing'"),
        (["--ids", "nowhere.txt"], "cannot be read"),
        (["--flagged"], "no training item is flagged"),
        (["--top", "0"], "whole number"),
    ],
)
def test_bad_input_is_one_line_and_code_2(capsys: Capture, folder: Path, arguments: list[str], message: str) -> None:
    try:
        code = main(["groups", "--run", str(folder), *arguments])
    except SystemExit as end:
        code = int(str(end.code))
    printed = capsys.readouterr()
    assert (code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert message in printed.err
