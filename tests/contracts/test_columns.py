"""A training item's column is the same matrix as the targets' rankings, read the other way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.columns import influence_column, word_on
from core.ranking import ranking_trust
from core.runs import Run
from tests.helpers.fake_runs import FakeRun, keep_ends


@pytest.mark.parametrize("meaning", ["truth", "prediction"])
@pytest.mark.parametrize("members", [1, 4])
def test_a_column_holds_what_the_rankings_hold(tmp_path: Path, meaning: str, members: int) -> None:
    run = Run(FakeRun(members=members).write(tmp_path))
    column = influence_column(run, 7, meaning)
    assert sorted(column.targets) == run.influence.targets and column.computed == len(run.influence.targets)
    for target, value, error in zip(column.targets, column.values, column.errors, strict=True):
        ranked = run.influence.ranked(int(target), meaning)
        assert value == ranked.values[7] and (error == ranked.errors[7] or np.isnan([error, ranked.errors[7]]).all())
        assert word_on(run, 7, int(target), meaning) == ranking_trust(run, ranked)[7]


@pytest.mark.parametrize("meaning", ["truth", "prediction"])
def test_of_kept_ends_a_column_holds_those_among_which_the_item_is(tmp_path: Path, meaning: str) -> None:
    folder = FakeRun().write(tmp_path)
    whole = influence_column(Run(folder), 7, meaning)
    keep_ends(folder, 5)
    run = Run(folder)
    column = influence_column(run, 7, meaning)
    inside = [target for target in run.influence.targets if 7 in run.influence.ranked(target, meaning).instances]
    assert sorted(column.targets) == inside and 0 < len(inside) < column.computed == whole.computed
    known = dict(zip(whole.targets.tolist(), whole.values.tolist(), strict=True))
    assert [known[target] for target in column.targets.tolist()] == column.values.tolist()
    assert all(word_on(run, 7, target, meaning) for target in inside)


@pytest.mark.parametrize("top", [1, 3, 100])
def test_the_ends_of_a_column_are_its_largest_of_each_sign(tmp_path: Path, top: int) -> None:
    column = influence_column(Run(FakeRun().write(tmp_path)), 3, "truth")
    positive, negative = column.ends(top)
    assert list(column.values[positive]) == sorted(column.values[column.values > 0], reverse=True)[:top]
    assert list(column.values[negative]) == sorted(column.values[column.values < 0])[:top]


def test_a_run_without_errors_has_columns_too(tmp_path: Path) -> None:
    run = Run(FakeRun(errors=False).write(tmp_path))
    truth, prediction = (influence_column(run, 0, meaning) for meaning in ("truth", "prediction"))
    assert truth.values.tolist() == prediction.values.tolist() and len(truth.targets) == len(run.validation)
