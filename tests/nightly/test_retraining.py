"""Retraining as ground truth: closed forms, plain loops, and what methods say of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

import turnover.workflows.subsets as retrained_module
from tests.contracts import test_baselines_problems as given
from tests.contracts.test_baselines_problems import check_close
from tests.helpers.builders import failing_after, names, randn, train_digits
from turnover import Run, influence
from turnover.attribution.device import choose_device
from turnover.attribution.ensemble import some_members
from turnover.attribution.estimators.significance import RATE, strong, wrong_sign
from turnover.explain.claims import top_claim
from turnover.models.registry import TrainSettings
from turnover.research.baselines.base import Problem, cross_entropy
from turnover.research.baselines.hessian import InfluenceFunction
from turnover.research.baselines.retraining import Retraining, plain_classifier, train_problem
from turnover.research.baselines.tracin import SgdInfluence, TracIn
from turnover.research.evaluate.agreement import coverage_figures
from turnover.research.evaluate.lds import halves_of, predicted
from turnover.research.evaluate.loo import TARGETS, draw_instances, left_out_losses, target_figures
from turnover.research.evaluate.proofs import random_claims
from turnover.research.evaluate.removal import proponents, retrained_without
from turnover.research.evaluate.scores import ESTIMATORS, Evidence, Options, evidence_of
from turnover.research.evaluate.statistics import row_spearman
from turnover.research.evaluate.task import EvaluationTask
from turnover.runs.proofs import CONFIRMED
from turnover.runs.ranking import TOP
from turnover.training.fit import Split, epoch_order
from turnover.workflows.influence import compute_influence
from turnover.workflows.prove import prove
from turnover.workflows.train import train_run

SEEDS, ROWS, POSITIONS = 2, 20, [3, 5, 8, 9]
Patch = pytest.MonkeyPatch


# Leaving one out, in closed form


@pytest.fixture
def squares(monkeypatch: Patch) -> None:
    """Squared error in place of cross-entropy."""
    monkeypatch.setattr("turnover.research.baselines.losses.cross_entropy", given.squared_error)


def ridge_problem(member: int = 0) -> Problem:
    """A ridge regression, trained to its minimum."""
    sizes = enumerate((ROWS, len(POSITIONS)))
    made = [Split(randn(rows, 4, seed=seed), randn(rows, seed=seed + 9)) for seed, rows in sizes]
    model = given.linear(4, 1, bias=False, seed=member)
    return train_problem(model, *made, given.CONVEX)


def without_each(instances: np.ndarray, asked: Split) -> Tensor:
    """What leaving each instance out adds to some losses, from the normal equations."""
    train = ridge_problem().train

    def losses(keep: Tensor) -> Tensor:
        penalty = given.CONVEX.weight_decay
        weights = given.ridge(train.inputs[keep], train.labels[keep], ROWS, penalty)
        return given.squared_error(asked.inputs @ weights[:, None], asked.labels)

    everyone = torch.arange(ROWS)
    without = torch.stack([losses(everyone[everyone != item]) for item in instances], 1)
    return without - losses(everyone)[:, None]


def around(folder: Path, problem: Callable[[int], Problem] = ridge_problem) -> EvaluationTask:
    """What the measure reads of a subject, around a ridge regression."""
    settings = TrainSettings("digits").resolved("image").saved
    run = SimpleNamespace(folder=folder, name="ridge", weights_hash="abc", kind="image")
    run.manifest = {"settings": settings}
    facts = {"run": run, "positions": POSITIONS, "asked": {"targets": POSITIONS}}
    facts |= {"train": ridge_problem().train, "problem": problem, "epochs": lambda: 600}
    task = cast(EvaluationTask, SimpleNamespace(**facts))
    task.store = partial(EvaluationTask.store, task)  # type: ignore[method-assign]
    return task


def test_left_out_losses_of_a_ridge_regression_are_its_normal_equations(
    squares: None, tmp_path: Path
) -> None:
    """From any start; and Koh and Liang agree, since their formula holds."""
    problem, instances = ridge_problem(), np.arange(ROWS)
    losses = torch.from_numpy(left_out_losses(around(tmp_path), instances, 2))
    assert losses.shape == (2, len(POSITIONS) + ROWS, ROWS)
    both = (problem.targets, problem.train)
    known = torch.cat([without_each(instances, asked) for asked in both])
    for seed in range(2):
        check_close(losses[seed], known, 1e-9)
    check_close(Retraining().scores(problem).values, known[: len(POSITIONS)], 1e-9)
    helps = losses[:, len(POSITIONS) :].diagonal(dim1=1, dim2=2)
    assert (helps > 0).all(), "an item always helps itself"
    estimates = InfluenceFunction().scores(problem).values.numpy()
    truth = known[: len(POSITIONS)].numpy()
    assert target_figures(estimates, truth)[TARGETS].value > 0.95


def test_logistic_regression_at_its_minimum() -> None:
    """The minimum by L-BFGS, a row's weight 1/N whatever is kept."""
    problem, some = given.convex_problem(), torch.tensor([0, 5, 23])

    def losses(keep: Tensor) -> Tensor:
        model, train = given.linear(), problem.train
        limits = {"max_iter": 500, "tolerance_grad": 1e-12, "tolerance_change": 1e-15}
        fine = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe", **limits)

        def closure() -> Tensor:
            fine.zero_grad()
            rows = cross_entropy(model(train.inputs[keep]), train.labels[keep])
            squares = sum(value.square().sum() for value in model.parameters())
            loss = rows.sum() / 24 + problem.schedule.penalty / 2 * squares
            loss.backward()
            return loss

        fine.step(closure)
        return cross_entropy(model(problem.targets.inputs), problem.targets.labels).detach()

    numbers = torch.arange(24)
    without = torch.stack([losses(numbers[numbers != item]) for item in some], 1)
    known = without - losses(numbers)[:, None]
    check_close(Retraining().scores(problem, some).values, known, 1e-7)


def test_seeds_are_kept_one_by_one(squares: None, tmp_path: Path) -> None:
    instances, calls = draw_instances(ROWS, 4, seed=0), list[int]()

    def counted(member: int) -> Problem:
        calls.append(member)
        return ridge_problem(member)

    cut = failing_after(2, counted, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        left_out_losses(around(tmp_path, cut), instances, 3)
    (folder,) = (tmp_path / "fidelity").iterdir()
    assert (calls, names(folder)) == ([0], ["member-000.npz"])
    losses = left_out_losses(around(tmp_path, counted), instances, 3)
    assert calls == [0, 1, 2]
    other = left_out_losses(around(tmp_path), draw_instances(ROWS, 4, seed=1), 1)
    assert not np.allclose(other[0], losses[0]), "other items are left out again"
    for seeds in (3, 2):
        again = left_out_losses(around(tmp_path, counted), instances, seeds)
        assert np.array_equal(again, losses[:seeds]), "fewer seeds are the first of more"
    assert calls == [0, 1, 2]


# What methods say of it


SMALL_STEPS = replace(given.SHORT_SGD, learning_rate=1e-4, weight_decay=0.0, epochs=3, batch=8)
NEAR: dict[str, tuple[Any, Callable[[], Problem], float]] = {
    "influence functions": (InfluenceFunction(), lambda: given.convex_problem(60), 0.15),
    "steps of SGD": (SgdInfluence(), lambda: given.net_problem(rows=60), 0.1),
    "TracIn": (TracIn("all"), lambda: given.net_problem(SMALL_STEPS, model=given.linear()), 1e-3),
}


@pytest.mark.parametrize("name", NEAR)
def test_nats_of_a_method_are_those_of_retraining_where_it_holds(name: str) -> None:
    baseline, build, bound = NEAR[name]
    problem = build()
    estimate, truth = (one.scores(problem).values for one in (baseline, Retraining()))
    assert (estimate - truth).norm() < bound * truth.norm(), "nats, not only the order"
    for pair in zip(estimate, truth, strict=True):
        assert torch.corrcoef(torch.stack(pair))[0, 1] > 0.98


# Removals


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of digits with influence."""
    folder = tmp_path_factory.mktemp("runs") / "pixels"
    train_digits(folder, model="heads", limit=80, validation_limit=60)
    compute_influence(Run(folder))
    return folder


@pytest.fixture
def errors(trained: Path, tmp_path: Path) -> EvaluationTask:
    """Four errors of a run of one's own."""
    return EvaluationTask.of(
        Run(Path(shutil.copytree(trained, tmp_path / "run"))), "cpu", 4, "prediction"
    )


def by_hand(errors: EvaluationTask, rows: np.ndarray, member: int, error: int) -> float:
    """Loss of an error's predicted label after training one plain model, a batch at a time.

    A last batch of a single item joins the one before it (`turnover.training.fit.batches`).
    """
    model, recipe = plain_classifier(errors.untrained(SEEDS), member), errors.recipe
    rate, decay = recipe.learning_rate, recipe.weight_decay
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    inputs, labels = errors.train.inputs[rows], errors.train.labels[rows]
    for epoch in range(errors.epochs()):
        order = epoch_order(len(rows), recipe.seed, member, epoch)
        steps = list(order.split(recipe.batch))
        if len(steps[-1]) == 1:
            steps[-2:] = [torch.cat(steps[-2:])]
        for batch in steps:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    target = errors.targets.take(torch.tensor([error]))
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(target.inputs), target.labels))


def test_the_change_is_that_of_a_plain_loop(errors: EvaluationTask) -> None:
    """65 items are left: one more than a batch."""
    error, removed = 2, proponents(np.random.default_rng(0).normal(size=(4, 80)), 15)
    before, (after,) = retrained_without(errors, [removed], SEEDS)
    made, everything = (after.losses - before.losses)[:, error], np.arange(80)
    for member in range(SEEDS):
        left = np.setdiff1d(everything, removed[error])
        pair = [by_hand(errors, rows, member, error) for rows in (left, everything)]
        assert made[member] == pytest.approx(pair[0] - pair[1], abs=1e-3)
    assert np.abs(made).min() > 1e-2


def test_the_same_items_are_trained_without_once(
    errors: EvaluationTask, monkeypatch: Patch
) -> None:
    scores, sizes = np.random.default_rng(1).normal(size=(4, 80)), list[int]()
    real = retrained_module._train_block

    def watch(few: Any, task: EvaluationTask, rows: Tensor, *rest: Any) -> Any:
        sizes.append(len(rows))
        return real(few, task, rows, *rest)

    monkeypatch.setattr(retrained_module, "_train_block", watch)
    first, second, same = proponents(scores, 7), proponents(-scores, 7), proponents(scores, 9)
    same[2:] = same[0, ::-1]
    before, (one, shared) = retrained_without(errors, [first, same], SEEDS)
    assert sizes == [1, 4, 2], "everything, four errors, and two that differ"
    _, (alone,) = retrained_without(errors, [same[[0, 0, 0, 0]]], SEEDS)
    some = [0, 2, 3]
    np.testing.assert_allclose(alone.losses[:, some], shared.losses[:, some], rtol=0, atol=1e-4)
    monkeypatch.setattr(retrained_module, "train_epoch", None)
    again, (known,) = retrained_without(errors, [first[:, ::-1]], SEEDS)
    assert np.array_equal(again.losses, before.losses) and np.array_equal(known.losses, one.losses)
    for changed in (([first, second], SEEDS), ([first], SEEDS + 1)):
        with pytest.raises(TypeError):  # others are trained anew
            retrained_without(errors, *changed)


# Proofs


def test_random_sets_are_no_oftener_confirmed_than_one_of_twenty(
    reviews_run: Path, tmp_path: Path
) -> None:
    """Of a hundred sets of four items five are expected; more than eleven would be no chance."""
    run = Run(Path(shutil.copytree(reviews_run, tmp_path / "run")))
    tops = [top_claim(run, error, 4) for error in run.influence.misclassified]
    proofs = prove(run, random_claims(run, tops), "cpu")
    confirmed = sum(proof.verdict == CONFIRMED for proof in proofs)
    print(f"{confirmed} of {len(proofs)} confirmed")
    assert len(proofs) == 100
    assert binomtest(confirmed, len(proofs), 0.05, alternative="greater").pvalue > 0.01


# An independent ensemble


def test_strong_items_keep_their_sign_in_an_independent_ensemble(tmp_path: Path) -> None:
    """Eight members call items strong; sixteen others, with less noise, judge the signs."""
    sizes = {"limit": 200, "validation_limit": 40, "members": 24, "label_noise": 0.1}
    run = Run(train_digits(tmp_path / "pixels", model="heads", **sizes))
    positions = [int(position) for position in run.validation.index]
    task, items = EvaluationTask(run, choose_device("cpu"), positions), np.arange(200)
    targets = task.targets
    values = influence(task.model, targets.inputs, targets.labels, items).values.numpy()
    parts = (list(places) for places in (range(8), range(8, 24)))
    halves = [Evidence(task, some_members(task.model, own), values[own]) for own in parts]
    first, others = (ESTIMATORS["as shown"].estimate(half) for half in halves)
    called = strong(wrong_sign(first.values, first.std_errors, first.freedom))
    largest = np.zeros_like(called)
    np.put_along_axis(largest, np.argsort(-np.abs(first.values), 1)[:, :TOP], True, 1)
    wrong = np.sign(first.values) != np.sign(others.values)
    chosen = called & largest
    print({name: figure.value for name, figure in coverage_figures(first, others).items()})
    assert chosen.sum() > 100 and wrong[chosen].mean() <= RATE


@pytest.mark.parametrize("masks", [0, 64])
def test_more_members_make_no_estimate_worse(masks: int, tmp_path: Path) -> None:
    """Of `best`, by retraining on halves, paired over targets: 4 to 16 members (law 8); and the
    corrected prior predicts retraining better than single members' medians do.
    """
    settings = TrainSettings.of(data="digits", model="heads", members=16, masks=masks)
    train_run(settings, tmp_path / "pixels", "cpu")
    run = Run(tmp_path / "pixels")
    compute_influence(run)
    task = EvaluationTask.of(run, "cpu")
    inside, losses = halves_of(task, Options(halves=30, seeds=2))
    truth, (evidence, _) = -losses.mean(0).T, evidence_of(task)

    def agreement(estimator: str, members: int) -> np.ndarray:
        some = some_members(task.model, list(range(members)))
        part = Evidence(task, some, evidence.values[:members])
        return row_spearman(predicted(ESTIMATORS[estimator].estimate(part).values, inside), truth)

    shown = {members: agreement("as shown", members) for members in (4, 8, 16)}
    print({members: float(rows.mean()) for members, rows in shown.items()})
    for fewer, more in ((4, 8), (4, 16), (8, 16)):
        gains = shown[more] - shown[fewer]
        assert gains.mean() > -1.96 * gains.std(ddof=1) / len(gains) ** 0.5
    median = agreement("median of members", 16)
    assert min(rows.mean() for rows in shown.values()) > median.mean() + 0.05
