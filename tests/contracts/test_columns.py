"""A training item's column is the same matrix as the targets' rankings, read the other way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.fake_runs import FakeRun, keep_ends
from turnover.runs.ranking import influence_column, ranking_trust, word_on
from turnover.runs.run import Run

MEANINGS = ("truth", "prediction")


@pytest.mark.parametrize("meaning", MEANINGS)
@pytest.mark.parametrize("members", [1, 4])
def test_a_column_holds_what_the_rankings_hold(tmp_path: Path, meaning: str, members: int) -> None:
    run = Run(FakeRun(members=members).write(tmp_path))
    column = influence_column(run, 7, meaning)
    assert sorted(column.targets) == run.influence.targets
    assert column.computed == len(run.influence.targets)
    for place, target in enumerate(map(int, column.targets)):
        ranked = run.influence.ranked(target, meaning)
        assert column.values[place] == ranked.values[7]
        np.testing.assert_equal(column.std_errors[place], ranked.std_errors[7])
        assert word_on(run, 7, target, meaning) == ranking_trust(run, ranked)[7]


@pytest.mark.parametrize("meaning", MEANINGS)
def test_of_kept_ends_a_column_holds_those_among_which_the_item_is(
    tmp_path: Path, meaning: str
) -> None:
    folder = FakeRun().write(tmp_path)
    whole = influence_column(Run(folder), 7, meaning)
    keep_ends(folder, 5)
    run = Run(folder)
    column, part = influence_column(run, 7, meaning), run.influence
    inside = [one for one in part.targets if 7 in part.ranked(one, meaning).instances]
    assert sorted(column.targets) == inside
    assert 0 < len(inside) < column.computed == whole.computed
    known = dict(zip(whole.targets.tolist(), whole.values.tolist(), strict=True))
    assert [known[target] for target in column.targets.tolist()] == column.values.tolist()
    assert all(word_on(run, 7, target, meaning) for target in inside)


def test_the_ends_of_a_column_are_its_largest_of_each_sign(tmp_path: Path) -> None:
    column = influence_column(Run(FakeRun().write(tmp_path)), 3, "truth")
    for top in (1, 3, 100):
        positive, negative = column.ends(top)
        raised, lowered = (column.values[sign * column.values > 0] for sign in (1, -1))
        assert list(column.values[positive]) == sorted(raised, reverse=True)[:top]
        assert list(column.values[negative]) == sorted(lowered)[:top]


def test_a_run_without_errors_has_columns_too(tmp_path: Path) -> None:
    run = Run(FakeRun(errors=False).write(tmp_path))
    truth, prediction = (influence_column(run, 0, meaning) for meaning in MEANINGS)
    assert truth.values.tolist() == prediction.values.tolist()
    assert len(truth.targets) == len(run.validation)
