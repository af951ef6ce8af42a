"""What is said of a ranking: entries with a word for how far to trust them, counted over all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core import Run
from core.estimators.trust import NOISE, STRONG, WEAK, trust_words
from core.ranking import ranking_entries, ranking_trust, trust_counts
from core.runs import Ranked
from tests.helpers.builders import run_python
from tests.helpers.fake_runs import FakeRun


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Thirty training items."""
    return Run(FakeRun().write(tmp_path))


RANKED = Ranked(np.arange(30), np.linspace(1, -0.5, 30), np.full(30, 0.2))


def test_entries_carry_the_words_of_the_whole_ranking(run: Run) -> None:
    made, words = ranking_entries(run, RANKED, 4), trust_words(RANKED.values, RANKED.errors)
    assert [entry["trust"] for entry in made["proponents"]] == list(words[:4])
    assert [entry["trust"] for entry in made["opponents"]] == list(words[:-5:-1])
    assert made["trust"] == {STRONG: int((words == STRONG).sum()), WEAK: int((words == WEAK).sum())}
    assert set(words) == {STRONG, WEAK, NOISE}


def test_items_that_a_run_did_not_keep_count_as_not_passing(run: Run) -> None:
    """Two of thirty at a chance of .2 %: both would pass among two, and the first among thirty would need .17 %."""
    ends = Ranked(np.array([3, 5]), np.array([2.88, -0.5]), np.ones(2))
    assert list(trust_words(ends.values, ends.errors)) == [STRONG, NOISE]
    assert list(ranking_trust(run, ends)) == [WEAK, NOISE]


def test_without_an_error_there_is_no_word(run: Run) -> None:
    unknown = replace(RANKED, errors=np.full(30, np.nan))
    made = ranking_entries(run, unknown, 3)
    assert made["trust"] is None and trust_counts(ranking_trust(run, unknown)) is None
    assert {entry["trust"] for entry in (*made["proponents"], *made["opponents"])} == {None}
    assert trust_counts(ranking_trust(run, replace(RANKED, errors=np.full(30, 1e9)))) == {STRONG: 0, WEAK: 0}


def test_no_torch_is_needed() -> None:
    assert "torch" not in run_python("import sys, core.ranking; print(*sys.modules, sep='\\n')").splitlines()
