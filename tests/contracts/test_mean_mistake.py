"""Groups on all mistakes at once: the mean of what each mistake was estimated from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.fake_runs import FakeRun, keep_ends
from turnover.errors import TurnoverError
from turnover.explain.groups import MEANINGS, MeanMistake, Mistake, injected, of_class
from turnover.runs.run import Run


@pytest.mark.parametrize("meaning", MEANINGS)
def test_evidence_is_the_mean_over_mistakes(tmp_path: Path, meaning: str) -> None:
    """And sums are of its estimates; all of a class is the only group of its kind."""
    run = Run(FakeRun().write(tmp_path))
    losses, each = MeanMistake(run), [Mistake(run, error) for error in run.influence.misclassified]
    members = np.mean([one.evidence[meaning][0] for one in each], axis=0)
    items, groups = (
        losses.items[meaning],
        [injected(run, "cue-submarine"), of_class(run, "negative")],
    )
    assert np.allclose(losses.evidence[meaning][0], members, atol=1e-7)
    assert np.allclose(items, np.median(members[:, 0], 0), atol=1e-7)
    for found, group in zip(losses.sums(groups, meaning), groups, strict=True):
        own = members[:, 0, group.instances].sum(1)
        assert found.influence == pytest.approx(items[group.instances].sum(), rel=1e-5)
        error = own.std(ddof=1) * (np.pi / 2) ** 0.5 / 2
        assert found.std_error == pytest.approx(error, rel=1e-4)
        assert (found.random is None) == (group is groups[1])


def test_of_one_mistake_the_mean_is_its_own(tmp_path: Path) -> None:
    run = Run(FakeRun(validation=3).write(tmp_path))
    (error,) = run.influence.misclassified
    group = [injected(run, "cue-submarine")]
    for meaning in MEANINGS:
        both = (MeanMistake(run), Mistake(run, error))
        (mean,), (own,) = (one.sums(group, meaning) for one in both)
        assert mean.influence == pytest.approx(own.influence, rel=1e-5)
        assert mean.std_error == pytest.approx(own.std_error, rel=1e-5)


def test_what_cannot_be_summed_is_said(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match="no error has influences"):
        MeanMistake(Run(FakeRun("right", errors=False).write(tmp_path)))
    keep_ends(FakeRun("ends").write(tmp_path), 4)
    with pytest.raises(TurnoverError, match="keeps only the ends"):
        MeanMistake(Run(tmp_path / "ends"))
