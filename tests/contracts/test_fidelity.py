"""Measures of planted answers, on rankings whose right value is known."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from core.data.base import WRONG_LABEL
from core.errors import TurnoverError
from core.fidelity.planted import cue_lift, influence_scores, wrong_label_auc
from core.ranking import clearest_first, clearness, known_answers
from core.rivals.similarity import signed_similarity
from core.runs import Ranked, Run

CUE = "cue-x"
TRAIN = 100


@dataclass
class Planted:
    """The parts of a run that the measures read: 10 of 100 training items carry the cue, 5 a wrong label."""

    values: dict[int, np.ndarray]
    marks: list[str]
    folder: Path = Path("planted")
    train: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"planted": [CUE] * 10 + [WRONG_LABEL] * 5 + [""] * 85}))

    def item(self, split: str, position: int) -> dict[str, Any]:
        assert split == "validation"
        return {"planted": self.marks[position]}

    @property
    def influence(self) -> SimpleNamespace:
        def ranked(position: int, meaning: str) -> Ranked:
            assert meaning == "prediction"
            return Ranked(np.arange(TRAIN), self.values[position], np.full(TRAIN, 0.5))

        own = np.zeros(TRAIN)
        own[10:15] = [5, 4, 3, 2, 0]
        return SimpleNamespace(errors=list(self.values), ranked=ranked, self_influence=own)


def planted(values: dict[int, np.ndarray], *marks: str) -> Run:
    return cast(Run, Planted(values, list(marks)))


def ranking(first: range) -> np.ndarray:
    """Influences that put the items of `first` on top."""
    values = np.linspace(-1, 0, TRAIN)
    values[list(first)] = 2
    return values


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    run = planted({})
    # four wrong labels beat all 95 others; the fifth is tied with them, which counts half
    assert wrong_label_auc(run) == pytest.approx((4 + 0.5) / 5)
    run.train["planted"] = ""
    with pytest.raises(TurnoverError, match="label-noise"):
        wrong_label_auc(run)


def test_lift_is_the_share_of_the_top_ten_over_chance() -> None:
    run = planted({0: ranking(range(10)), 1: ranking(range(5, 15)), 2: ranking(range(50, 60))}, CUE, CUE, "")
    lift = cue_lift(run, CUE, influence_scores(run))
    assert (lift.errors, lift.lift) == (2, pytest.approx((10 + 5) / 2))
    assert lift.low == pytest.approx(5)
    assert lift.high == pytest.approx(10)


def test_a_random_ranking_has_a_lift_of_about_one() -> None:
    rng = np.random.default_rng(0)
    run = planted({error: rng.normal(size=TRAIN) for error in range(400)}, *[CUE] * 400)
    lift = cue_lift(run, CUE, influence_scores(run))
    assert 0.8 < lift.low < 1 < lift.high < 1.2


def test_a_mark_that_no_error_carries_is_an_error() -> None:
    run = planted({0: ranking(range(10))}, "")
    with pytest.raises(TurnoverError, match=CUE):
        cue_lift(run, CUE, influence_scores(run))


def test_errors_with_a_known_answer_come_first_then_the_clearest() -> None:
    values = {0: ranking(range(50, 60)), 1: ranking(range(4)), 2: ranking(range(10)), 3: ranking(range(50, 60)) * 3}
    run = planted(values, "", CUE, CUE, "")
    assert [known_answers(run, error) for error in values] == [0, 4, 10, 0]
    assert clearness(run, 3) == pytest.approx(12)
    assert clearest_first(run) == [2, 1, 3, 0]


def test_signed_similarity_is_the_cosine_with_the_labels_sign() -> None:
    features = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.0, 0.0]])
    scores = signed_similarity(np.array([1.0, 1.0]), features, np.array([1, 0, 0, 1]), 1)
    assert scores == pytest.approx([np.sqrt(0.5), -np.sqrt(0.5), -1, 0])
