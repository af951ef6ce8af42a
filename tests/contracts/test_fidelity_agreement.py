"""Two halves of an ensemble: they agree fully if they are the same, and strong items are counted from both sides."""

from __future__ import annotations

import numpy as np
import pytest

from core import Run, influence
from core.device import choose_device
from core.estimators.trust import RATE, strong, wrong_sign
from core.fidelity.agreement import PEARSON, STRONG_SPEARMAN, all_figures, coverage_figures, strong_figures
from core.fidelity.estimators import ESTIMATORS, Estimated, Evidence
from core.fidelity.members import some_members
from core.fidelity.names import COVERAGE, COVERAGE_TOP, SAME_SIGN, SAME_SIGN_CLAIMED, SAME_SIGN_TOP, SPEARMAN, STRONG
from core.fidelity.subject import Subject
from core.ranking import TOP
from tests.helpers.builders import train_digits

TARGETS, ITEMS = 30, 200


def noisy(truth: np.ndarray, error: float, seed: int) -> Estimated:
    """An estimate with normal noise, which says so."""
    return Estimated(truth + error * np.random.default_rng(seed).normal(size=truth.shape), np.full(truth.shape, error))


def some_truth() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(TARGETS, ITEMS))


def test_the_same_estimates_agree_fully() -> None:
    first = noisy(some_truth(), 0.2, 1)
    figures = all_figures(first.values, first.values) | strong_figures(first, first)
    assert {name: figure.value for name, figure in figures.items() if name not in (STRONG, SAME_SIGN_CLAIMED)} == pytest.approx(
        {SPEARMAN: 1, PEARSON: 1, STRONG_SPEARMAN: 1, SAME_SIGN: 1, SAME_SIGN_TOP: 1}
    )
    assert figures[STRONG].value == pytest.approx(strong(wrong_sign(first.values, first.errors)).mean())


def test_halves_of_pure_noise_do_not_agree() -> None:
    halves = [np.random.default_rng(seed).normal(size=(TARGETS, ITEMS)) for seed in (1, 2)]
    for figure in all_figures(*halves).values():
        assert abs(figure.value) < 0.05
    called = strong_figures(*(Estimated(half, np.ones(half.shape)) for half in halves))
    assert called[STRONG].value < 0.005, "errors that are true call hardly anything strong"


def test_agreement_is_the_signal_s_share_of_variance() -> None:
    """Truth of variance 1 and noise of variance ¼ in each half: 1 / (1 + ¼)."""
    first, second = (noisy(some_truth(), 0.5, seed) for seed in (1, 2))
    assert all_figures(first.values, second.values)[PEARSON].value == pytest.approx(0.8, abs=0.02)
    figures = strong_figures(first, second)
    assert figures[SAME_SIGN].value > 0.95
    assert figures[STRONG_SPEARMAN].value > 0.8
    assert figures[SAME_SIGN_CLAIMED].value == pytest.approx(figures[SAME_SIGN].value, abs=0.03)


def test_errors_that_are_too_small_claim_more_than_there_is() -> None:
    bold = [half._replace(errors=half.errors / 3) for half in (noisy(some_truth(), 2.0, seed) for seed in (1, 2))]
    figures = strong_figures(*bold)
    assert figures[SAME_SIGN_CLAIMED].value > figures[SAME_SIGN].value + 0.1


def test_strong_items_are_judged_from_both_sides() -> None:
    values = np.array([[5.0, -5.0, 5.0, 0.0, 0.0]])
    sure, unsure = np.full((1, 5), 0.1), np.full((1, 5), 100.0)
    first, second = Estimated(values, sure), Estimated(values * [1, -1, 1, 1, 1], unsure)
    figures = strong_figures(first, second)  # three of five from the first side, none from the second
    assert figures[STRONG].value == pytest.approx(0.3)
    assert figures[SAME_SIGN].value == pytest.approx(2 / 3)
    assert strong_figures(Estimated(values, unsure), second).keys() == {STRONG}


# Coverage


@pytest.mark.parametrize(("claimed", "covered"), [(0.5, 0.95), (0.25, 0.673), (1.0, 0.9999)])
def test_coverage_is_that_of_the_normal_law(claimed: float, covered: float) -> None:
    """Halves whose noise is ½ and who claim so much: P(|N(0, 1)| < 1.96 · claimed / ½)."""
    halves = [noisy(some_truth(), 0.5, seed) for seed in (1, 2)]
    figures = coverage_figures(*(half._replace(errors=np.full(half.values.shape, claimed)) for half in halves))
    assert figures[COVERAGE].value == pytest.approx(covered, abs=0.01)


def test_the_largest_of_many_are_covered_less() -> None:
    """All is noise, so the ten largest of 200 are those with the largest noise."""
    halves = [noisy(np.zeros((TARGETS, ITEMS)), 1.0, seed) for seed in (1, 2)]
    figures = coverage_figures(*halves)
    assert figures[COVERAGE].value == pytest.approx(0.95, abs=0.01)
    assert figures[COVERAGE_TOP].value < 0.8


def test_coverage_of_few_items_takes_them_all() -> None:
    first, second = Estimated(np.array([[1.0, 5.0]]), np.ones((1, 2))), Estimated(np.array([[1.5, 9.0]]), np.ones((1, 2)))
    assert {name: figure.value for name, figure in coverage_figures(first, second).items()} == {COVERAGE: 0.5, COVERAGE_TOP: 0.5}


# An independent ensemble


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Raw influences of 24 real members, trained on digits of which some have a wrong label."""
    folder = tmp_path_factory.mktemp("runs") / "pixels"
    train_digits(folder, model="heads", limit=200, validation_limit=40, members=24, label_noise=0.1)
    run = Run(folder)
    subject = Subject(run, choose_device("cpu"), [int(position) for position in run.validation.index])
    values = influence(subject.model, subject.targets.inputs, subject.targets.labels, np.arange(len(run.train))).values.numpy()
    return Evidence(subject, subject.model, values)


def test_strong_items_keep_their_sign_in_an_independent_ensemble(ensemble: Evidence, capsys: pytest.CaptureFixture[str]) -> None:
    """Eight members call items strong and choose the ten largest of each target; sixteen others, with less noise, judge the signs."""
    parts = [Evidence(ensemble.subject, some_members(ensemble.model, list(places)), ensemble.values[list(places)]) for places in (range(8), range(8, 24))]
    first, others = (ESTIMATORS["as shown"].estimate(part) for part in parts)
    called = strong(wrong_sign(first.values, first.errors, first.freedom))
    largest = np.zeros_like(called)
    np.put_along_axis(largest, np.argsort(-np.abs(first.values), 1)[:, :TOP], True, 1)
    wrong, chosen, coverage = np.sign(first.values) != np.sign(others.values), called & largest, coverage_figures(first, others)
    with capsys.disabled():
        print(f"\nstrong: {called.mean():.1%} of all, other sign {wrong[called].mean():.1%}; ", end="")
        print(f"{chosen.sum() / largest.sum():.1%} of the top {TOP}, other sign {wrong[chosen].mean():.1%}; ", end="")
        print(", ".join(f"{name} {figure.value:.3f}" for name, figure in coverage.items()))
    assert chosen.sum() > 100
    assert wrong[chosen].mean() <= RATE
