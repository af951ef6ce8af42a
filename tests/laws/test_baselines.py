"""Laws of all baselines: the sign, closed forms, what is asked for, and that nothing is changed.

Retraining as ground truth, and what takes long, is in `tests/nightly/test_retraining.py`.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from tests.contracts.test_baselines_problems import (
    SHORT_ADAMW,
    SHORT_SGD,
    check_close,
    linear,
    net,
    net_problem,
    plain_loop,
    some_split,
)
from tests.helpers.builders import randn, some_labels
from tests.helpers.token_builders import token_member, token_rows
from turnover.errors import TurnoverError
from turnover.research.baselines.base import Baseline, Problem, Schedule, cross_entropy
from turnover.research.baselines.catalog import METHODS
from turnover.research.baselines.hessian import InfluenceFunction
from turnover.research.baselines.retraining import Retraining, train_problem
from turnover.research.baselines.simple import RandomScores, Similarity, TrainingLoss
from turnover.research.baselines.tracin import SgdInfluence, TracIn
from turnover.training.fit import Split

KNOW_THE_TARGET: dict[str, Baseline] = {
    "retraining": Retraining(),
    "sgd": SgdInfluence(),
    "cg": InfluenceFunction(),
    "cg last": InfluenceFunction(layers="last"),
    "lissa": InfluenceFunction("LiSSA"),
    "tracin": TracIn("all"),
    "tracin last": TracIn(),
    "similarity": Similarity(),
    "centred": Similarity(centred=True),
}
BASELINES: dict[str, Baseline] = {
    **KNOW_THE_TARGET,
    "loss": TrainingLoss(),
    "random": RandomScores(),
}
FULL_BATCH = Schedule(60, 1000, learning_rate=0.5, weight_decay=0.005, optimizer="sgd")
every_baseline = pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)


@pytest.fixture(autouse=True)
def solvers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conjugate gradients to the last digits, and LiSSA in few terms."""
    for name, value in {"_CG_TOLERANCE": 1e-10, "_LISSA_TERMS": 50, "_LISSA_BATCH": 1000}.items():
        monkeypatch.setattr(f"turnover.research.baselines.hessian.{name}", value)


# Laws of all


@cache
def copied_targets() -> Problem:
    """Training items 0, 1, 2 are copies of the targets, 3, 4, 5 copies with a wrong label."""
    eye = torch.eye(7, dtype=torch.float64)
    targets = Split(2 * eye[:3], torch.tensor([0, 1, 2]))
    others = 0.5 * torch.cat((torch.zeros(24, 3, dtype=torch.float64), randn(24, 4)), 1)
    inputs = torch.cat((targets.inputs, targets.inputs, others))
    wrong, own = (targets.labels + 1) % 3, others[:, 3:6].argmax(1)
    train = Split(inputs, torch.cat((targets.labels, wrong, own)))
    return train_problem(net(7), train, targets, FULL_BATCH)


@pytest.mark.parametrize("baseline", KNOW_THE_TARGET.values(), ids=KNOW_THE_TARGET)
def test_a_copy_helps_most_and_a_wrongly_labelled_copy_hurts_most(baseline: Baseline) -> None:
    scores = baseline.scores(copied_targets()).values
    assert scores.argmax(1).tolist() == [0, 1, 2]
    assert scores.argmin(1).tolist() == [3, 4, 5]
    assert (scores.amax(1) > 0).all() and (scores.amin(1) < 0).all()


@every_baseline
def test_a_few_items_get_what_they_get_among_all(baseline: Baseline) -> None:
    problem, some = net_problem(), torch.tensor([17, 2, 2, 23])
    every, few = baseline.scores(problem), baseline.scores(problem, some)
    assert every.values.shape == (5, 24) and every.instances.tolist() == list(range(24))
    assert few.instances.tolist() == [17, 2, 2, 23]
    check_close(few.values, every.values[:, some], 1e-10)


ORDER = torch.randperm(20, generator=torch.Generator().manual_seed(5))


@cache
def shuffled() -> list[Problem]:
    """The same training items in two orders."""
    train, targets = some_split(20), some_split(4, seed=1)
    return [train_problem(net(), one, targets, FULL_BATCH) for one in (train, train.take(ORDER))]


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "random"])
def test_the_order_of_training_items_is_nothing(name: str) -> None:
    one, other = (BASELINES[name].scores(problem).values for problem in shuffled())
    check_close(other, one[:, ORDER], 1e-9)


def everything(model: nn.Module) -> list[object]:
    """All that could be changed about a model, and the generator's state."""
    own: list[object] = [torch.get_rng_state().tolist()]
    for module in model.modules():
        own += [module.training, list(module._forward_hooks)]
    for value in model.parameters():
        gradient = None if value.grad is None else value.grad.tolist()
        own += [value.requires_grad, value.detach().tolist(), gradient]
    return own


SIZE = 51 * 8
"""Bytes of the net's 51 parameters."""
STORED = {
    "retraining": 24 * SIZE,
    "sgd": 16 * SIZE + 4 * 24 * 8,
    **dict.fromkeys(("tracin", "tracin last"), 4 * SIZE),
    "loss": 24 * 8,
    **dict.fromkeys(("cg", "cg last", "lissa", "similarity", "centred", "random"), 0),
}
"""Of 16 steps, 4 epochs and 24 items."""


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_is_changed_and_the_cost_is_said(name: str) -> None:
    baseline = BASELINES[name]
    problem, told = net_problem(), list[float]()
    problem.model.train()
    problem.model(randn(2, 4)).sum().backward()
    before, inputs = copy.deepcopy(everything(problem.model)), problem.train.inputs.clone()
    initial = {name: value.clone() for name, value in problem.initial.items()}
    scores = baseline.scores(problem, progress=told.append)
    assert everything(problem.model) == before
    assert torch.equal(problem.train.inputs, inputs) and not problem.train.inputs.requires_grad
    assert all(torch.equal(problem.initial[name], value) for name, value in initial.items())
    assert not scores.values.requires_grad and scores.values.isfinite().all()
    assert sum(told) == pytest.approx(1) and min(told) > 0
    assert min(scores.train_seconds, scores.estimate_seconds) >= 0
    assert scores.train_seconds + scores.estimate_seconds > 0
    assert scores.stored_bytes == STORED[name]
    assert baseline.name and "\n" not in baseline.name


class Scaled(nn.Module):
    """A parameter that belongs to no linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


BY_WEIGHTS = [name for name in BASELINES if name not in ("similarity", "centred", "random")]


@pytest.mark.parametrize("name", BY_WEIGHTS)
def test_other_layers_take_part_and_frozen_ones_do_not(name: str) -> None:
    frozen, tail = nn.Linear(4, 6).requires_grad_(False), nn.Linear(6, 3)
    model = nn.Sequential(frozen, nn.Tanh(), Scaled(), tail).double()
    problem = net_problem(model=model)
    scores = BASELINES[name].scores(problem).values
    both = (problem.train, problem.targets)
    train, targets = (Split(model[:2](split.inputs), split.labels) for split in both)
    with_features = train_problem(copy.deepcopy(model[2:]), train, targets, SHORT_SGD)
    known = BASELINES[name].scores(with_features).values
    torch.testing.assert_close(scores, known, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("baseline", [InfluenceFunction(), TrainingLoss()], ids=["cg", "loss"])
def test_a_model_in_training_mode_is_asked_in_evaluation_mode(baseline: Baseline) -> None:
    """Dropout and batch norm forbid training again, but not derivatives of the trained model."""
    layers = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)
    model = nn.Sequential(*layers).double().train()
    problem = Problem(model, {}, some_split(24), some_split(5, seed=1), SHORT_SGD)
    scores = baseline.scores(problem).values
    assert model.training
    model.eval()
    assert torch.equal(baseline.scores(problem).values, scores)
    losses = cross_entropy(model(problem.train.inputs), problem.train.labels)
    assert isinstance(baseline, TrainingLoss) == torch.allclose(scores, -losses)


# Those that know little


def test_the_loss_suspects_what_was_not_learned() -> None:
    problem = copied_targets()
    scores = TrainingLoss().scores(problem).values
    losses = cross_entropy(problem.model(problem.train.inputs), problem.train.labels)
    check_close(scores, -losses.expand(3, -1))
    oddest = sorted(scores[0].argsort()[:6].tolist())
    assert oddest == list(range(6)), "one input with two labels cannot be learned"


def test_random_scores_are_the_same_at_every_call() -> None:
    one, again = (RandomScores().scores(net_problem()).values for _ in range(2))
    assert torch.equal(one, again) and abs(float(one.mean())) < 0.5 < float(one.std()) < 1.5


@pytest.mark.parametrize("centred", [False, True])
def test_similarity_is_a_cosine_with_the_labels_sign(centred: bool) -> None:
    problem = net_problem()
    scores = Similarity(centred).scores(problem)
    inputs, wanted = problem.train.inputs, problem.targets.inputs
    centre = inputs.mean(0) if centred else 0
    pairs = (wanted - centre)[:, None], (inputs - centre)[None]
    same = problem.targets.labels[:, None] == problem.train.labels
    cosine = nn.functional.cosine_similarity(*pairs, dim=2)
    check_close(scores.values, torch.where(same, cosine, -cosine))


# TracIn: gradient dot products


def by_hand(problem: Problem, bias: bool) -> Tensor:
    """Σ η/|S| · ⟨(p − y) ⊗ x, (p' − y') ⊗ x'⟩ over the models after four epochs."""
    schedule, total = problem.schedule, torch.zeros(5, 24, dtype=torch.float64)

    def errors(model: nn.Module, split: Split) -> Tensor:
        wanted = nn.functional.one_hot(split.labels, 3)
        return model(split.inputs).softmax(1).detach() - wanted

    inputs = problem.targets.inputs @ problem.train.inputs.T + bias
    for epoch in (1, 2, 3, 4):
        model = linear()
        plain_loop(model, problem.train, replace(schedule, epochs=epoch))
        products = errors(model, problem.targets) @ errors(model, problem.train).T
        total += schedule.learning_rate / schedule.batch * products * inputs
    return total


@pytest.mark.parametrize("schedule", [SHORT_SGD, replace(SHORT_ADAMW, epochs=4)])
def test_tracin_of_a_linear_model(schedule: Schedule) -> None:
    """That of the last layer leaves the bias out."""
    problem = net_problem(schedule, model=linear())
    for layers, bias in (("all", True), ("last", False)):
        made = TracIn(layers).scores(problem).values  # type: ignore[arg-type]
        check_close(made, by_hand(problem, bias))


def test_the_last_layer_is_that_of_the_whole() -> None:
    first, last = nn.Linear(4, 6).requires_grad_(False), nn.Linear(6, 3, bias=False)
    problem = net_problem(model=nn.Sequential(first, nn.Tanh(), last).double())
    check_close(TracIn("all").scores(problem).values, TracIn("last").scores(problem).values, 1e-13)
    whole, fast = (
        METHODS[f"tracin-{layers}"].scores(net_problem()).values for layers in ("all", "last")
    )
    assert not torch.allclose(whole, fast)


def test_a_batch_is_no_larger_than_the_data() -> None:
    schedules = [replace(SHORT_SGD, batch=batch) for batch in (1000, 24)]
    small, whole = (TracIn().scores(net_problem(schedule)).values for schedule in schedules)
    check_close(small, whole, 1e-13)


def test_tracin_takes_models_of_token_ids() -> None:
    """η/|S| · ⟨∇l_z, ∇L(target)⟩ at the one checkpoint."""
    model = token_member(1).double()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    train = Split(token_rows(6), some_labels(6, 3))
    targets = Split(train.inputs[:2], some_labels(2, 3, seed=1))
    problem = train_problem(model, train, targets, Schedule(1, 3, 0.1, optimizer="sgd"))
    trained = [value for value in problem.model.parameters() if value.requires_grad]

    def gradients(split: Split) -> Tensor:
        made = []
        for row, label in zip(split.inputs, split.labels, strict=True):
            loss = nn.functional.cross_entropy(problem.model(row[None]), label[None])
            made.append(torch.cat([own.flatten() for own in torch.autograd.grad(loss, trained)]))
        return torch.stack(made)

    known = 0.1 / 3 * gradients(targets) @ gradients(train).T
    check_close(METHODS["tracin-all"].scores(problem).values, known, 1e-10)


# Refused

NINE = replace(SHORT_SGD, epochs=9)


def test_hara_s_method_without_plain_sgd_is_refused() -> None:
    with pytest.raises(TurnoverError, match="plain SGD"):
        SgdInfluence().scores(net_problem(SHORT_ADAMW))


@pytest.mark.parametrize("baseline", [TracIn(), Retraining()])
def test_another_model_than_the_schedule_s_is_refused(baseline: Baseline) -> None:
    for other in ({"schedule": SHORT_ADAMW}, {"schedule": NINE}, {"model": net(seed=5)}):
        with pytest.raises(TurnoverError, match="training again gives another model"):
            baseline.scores(replace(net_problem(), **other), torch.tensor([0]))
