"""Laws that all rivals keep: the sign, which items they are asked for, the order of items, and that they change nothing."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.rivals.base import Problem, Rival, Schedule
from core.rivals.hessian import CaptumInfluence, InfluenceFunction
from core.rivals.loss import TrainingLoss
from core.rivals.random import RandomScores
from core.rivals.repeat import train_problem
from core.rivals.retraining import Retraining
from core.rivals.sgd_influence import SgdInfluence
from core.rivals.similarity import Similarity
from core.rivals.solvers import ConjugateGradient, Lissa
from core.rivals.tracin import TracIn
from core.training import Split
from tests.contracts.test_rivals_problems import SHORT_SGD, net, net_problem, some_split
from tests.helpers.builders import randn

EXACT = ConjugateGradient(1e-10)
KNOW_THE_TARGET: dict[str, Rival] = {
    "retraining": Retraining(),
    "sgd": SgdInfluence(),
    "cg": InfluenceFunction(EXACT),
    "cg last": InfluenceFunction(EXACT, layers="last"),
    "lissa": InfluenceFunction(Lissa(depth=100, batch=1000)),
    "captum exact": CaptumInfluence(),
    "captum exact last": CaptumInfluence(layers="last"),
    "captum arnoldi": CaptumInfluence("arnoldi"),
    "tracin": TracIn("all"),
    "tracin last": TracIn(),
    "similarity": Similarity(),
}
RIVALS: dict[str, Rival] = {**KNOW_THE_TARGET, "loss": TrainingLoss(), "random": RandomScores()}
FULL_BATCH = Schedule(epochs=60, batch=1000, learning_rate=0.5, weight_decay=0.005, optimizer="sgd")


def copied_targets() -> Problem:
    """A problem whose training items 0, 1, 2 are copies of the targets, and 3, 4, 5 copies with a wrong label; the others have inputs of their own."""
    targets = Split(torch.eye(7, dtype=torch.float64)[:3] * 2, torch.tensor([0, 1, 2]))
    others = 0.5 * torch.cat((torch.zeros(24, 3, dtype=torch.float64), randn(24, 4)), 1)
    inputs = torch.cat((targets.inputs, targets.inputs, others))
    labels = torch.cat((targets.labels, (targets.labels + 1) % 3, others[:, 3:6].argmax(1)))
    return train_problem(net(7), Split(inputs, labels), targets, FULL_BATCH)


@pytest.mark.parametrize("rival", KNOW_THE_TARGET.values(), ids=KNOW_THE_TARGET)
def test_a_copy_helps_most_and_a_wrongly_labelled_copy_hurts_most(rival: Rival) -> None:
    scores = rival.scores(copied_targets()).values
    assert scores.argmax(1).tolist() == [0, 1, 2]
    assert scores.argmin(1).tolist() == [3, 4, 5]
    assert (scores.amax(1) > 0).all() and (scores.amin(1) < 0).all()


def test_the_loss_suspects_what_was_not_learned() -> None:
    problem = copied_targets()
    scores = TrainingLoss().scores(problem).values
    losses = nn.functional.cross_entropy(problem.model(problem.train.inputs), problem.train.labels, reduction="none")
    torch.testing.assert_close(scores, -losses.expand(3, -1), rtol=0, atol=1e-12)
    assert sorted(scores[0].argsort()[:6].tolist()) == [0, 1, 2, 3, 4, 5], "one input with two labels cannot be learned"


def test_random_scores_are_the_seed_s() -> None:
    problem = net_problem()
    one, again, other = (RandomScores(seed).scores(problem).values for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert abs(float(one.mean())) < 0.5 and 0.5 < float(one.std()) < 1.5


def test_similarity_can_be_of_features() -> None:
    problem = net_problem()
    scores = Similarity(lambda inputs: problem.model[1](problem.model[0](inputs))).scores(problem)  # type: ignore[index]
    hidden, wanted = (problem.model[1](problem.model[0](split.inputs)).detach() for split in (problem.train, problem.targets))  # type: ignore[index]
    cosine = nn.functional.cosine_similarity(wanted[:, None], hidden[None], dim=2)
    signs = torch.where(problem.targets.labels[:, None] == problem.train.labels, 1.0, -1.0)
    torch.testing.assert_close(scores.values, cosine * signs, rtol=0, atol=1e-12)
    assert scores.stored_bytes == 24 * 6 * 8


@pytest.mark.parametrize("rival", RIVALS.values(), ids=RIVALS)
def test_a_few_items_get_what_they_get_among_all(rival: Rival) -> None:
    problem, some = net_problem(), torch.tensor([17, 2, 2, 23])
    every, few = rival.scores(problem), rival.scores(problem, some)
    assert every.values.shape == (5, 24) and every.instances.tolist() == list(range(24))
    assert few.instances.tolist() == [17, 2, 2, 23]
    torch.testing.assert_close(few.values, every.values[:, some], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "random"])
def test_the_order_of_training_items_is_nothing(name: str) -> None:
    train, targets, order = some_split(20), some_split(4, seed=1), torch.randperm(20, generator=torch.Generator().manual_seed(5))
    shuffled = Split(train.inputs[order], train.labels[order])
    one, other = (RIVALS[name].scores(train_problem(net(), items, targets, FULL_BATCH)).values for items in (train, shuffled))
    torch.testing.assert_close(other, one[:, order], rtol=0, atol=1e-7 if "arnoldi" in name else 1e-9)


def everything(model: nn.Module) -> list[object]:
    """All that could be changed about a model, and the generator's state."""
    own: list[object] = [module.training for module in model.modules()] + [list(module._forward_hooks) for module in model.modules()]
    for value in model.parameters():
        own += [value.requires_grad, value.detach().tolist(), None if value.grad is None else value.grad.tolist()]
    return [*own, torch.get_rng_state().tolist()]


@pytest.mark.parametrize("rival", RIVALS.values(), ids=RIVALS)
def test_nothing_is_changed(rival: Rival) -> None:
    problem = net_problem()
    problem.model.train()
    problem.model(randn(2, 4)).sum().backward()
    before = copy.deepcopy(everything(problem.model))
    inputs, initial = problem.train.inputs.clone(), {name: value.clone() for name, value in problem.initial.items()}
    scores = rival.scores(problem)
    assert everything(problem.model) == before
    assert torch.equal(problem.train.inputs, inputs) and not problem.train.inputs.requires_grad
    assert all(torch.equal(problem.initial[name], value) for name, value in initial.items())
    assert not scores.values.requires_grad and scores.values.isfinite().all()


@pytest.mark.parametrize("rival", RIVALS.values(), ids=RIVALS)
def test_the_cost_is_said(rival: Rival) -> None:
    told: list[float] = []
    scores = rival.scores(net_problem(), progress=told.append)
    assert sum(told) == pytest.approx(1) and min(told) > 0
    assert scores.train_seconds >= 0 and scores.estimate_seconds >= 0 and scores.train_seconds + scores.estimate_seconds > 0
    assert scores.stored_bytes >= 0
    assert rival.name and "\n" not in rival.name


def test_what_is_stored_is_counted() -> None:
    problem = net_problem()  # 16 steps, 4 epochs, 24 items, 51 parameters of 8 bytes
    stored = {name: rival.scores(problem).stored_bytes for name, rival in RIVALS.items()}
    size = 51 * 8
    assert stored["retraining"] == 24 * size
    assert stored["sgd"] == 16 * size + 4 * 24 * 8
    assert stored["tracin"] == stored["tracin last"] == 4 * size
    assert stored["captum exact"] == stored["captum arnoldi"] == 51 * size
    assert stored["captum exact last"] == 21 * 21 * 8
    assert stored["loss"] == 24 * 8
    assert {stored[name] for name in ("cg", "cg last", "lissa", "similarity", "random")} == {0}


@pytest.mark.parametrize("rival", [SgdInfluence, TracIn])
def test_steps_are_kept_in_memory_or_in_files(rival: type[SgdInfluence] | type[TracIn], tmp_path: Path) -> None:
    problem = net_problem()
    in_memory, in_files = rival().scores(problem), rival(folder=tmp_path).scores(problem)
    assert torch.equal(in_memory.values, in_files.values)
    assert (tmp_path / "trail.npy").stat().st_size > problem_bytes(problem)


def problem_bytes(problem: Problem) -> int:
    """What the model's parameters take."""
    return sum(value.nbytes for value in problem.model.parameters())


class Scaled(nn.Module):
    """A parameter that belongs to no linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


@pytest.mark.parametrize("name", [name for name in RIVALS if name not in ("similarity", "random")])
def test_other_layers_and_frozen_parameters(name: str) -> None:
    """captum's quick way knows linear and convolution layers only; a frozen layer takes no part."""
    frozen, tail = nn.Linear(4, 6), nn.Linear(6, 3)
    model = nn.Sequential(frozen.requires_grad_(False), nn.Tanh(), Scaled(), tail).double()
    problem = net_problem(SHORT_SGD, model=model)
    scores = RIVALS[name].scores(problem).values
    train, targets = (Split(model[:2](split.inputs), split.labels) for split in (problem.train, problem.targets))
    with_features = train_problem(copy.deepcopy(model[2:]), train, targets, SHORT_SGD)
    torch.testing.assert_close(scores, RIVALS[name].scores(with_features).values, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("rival", [InfluenceFunction(EXACT, damping=5.0), CaptumInfluence(damping=5.0), TrainingLoss()], ids=["cg", "captum", "loss"])
def test_a_model_in_training_mode_is_asked_in_evaluation_mode(rival: Rival) -> None:
    """Dropout and batch norm forbid training again, but not derivatives of the trained model."""
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)).double()
    problem = Problem(model.train(), {}, some_split(24), some_split(5, seed=1), SHORT_SGD)
    scores = rival.scores(problem).values
    assert model.training
    model.eval()
    torch.testing.assert_close(rival.scores(problem).values, scores, rtol=0, atol=0)
    losses = nn.functional.cross_entropy(model(problem.train.inputs), problem.train.labels, reduction="none")
    assert isinstance(rival, TrainingLoss) == torch.allclose(scores, -losses)
