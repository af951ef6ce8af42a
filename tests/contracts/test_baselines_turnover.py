"""Turn-over dropout as one of the methods compared, and the catalogue of them all."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tests.contracts.test_baselines_problems import (
    SHORT_ADAMW,
    SHORT_SGD,
    check_close,
    net,
    net_problem,
    some_split,
)
from tests.helpers.builders import ALGEBRA, PLAIN, naive_influence, some_labels
from turnover.attribution.dropout import TurnoverDropout, turnover_layers
from turnover.attribution.ensemble import Ensemble, MemberModel, Members
from turnover.attribution.influence import Influence, influence
from turnover.attribution.scope import turnover
from turnover.errors import TurnoverError
from turnover.research.baselines.base import Problem, Schedule
from turnover.research.baselines.catalog import (
    METHODS,
    TurnoverInfluence,
    masked_model,
    methods,
    train_masked,
)
from turnover.research.baselines.losses import RowLosses
from turnover.research.baselines.retraining import train_problem
from turnover.training.fit import Split


def relu_net() -> nn.Module:
    """Linear, relu, linear: what becomes one batched program."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()


def own_masks() -> nn.Module:
    """A net that has a mask already."""
    torch.manual_seed(0)
    mask = TurnoverDropout(6, groups=3, seed=9, layer=4)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), mask, nn.Linear(6, 3)).double()


BUILDS: dict[str, Callable[[], nn.Module]] = {
    "heads": relu_net,
    "chain": net,
    "own masks": own_masks,
    "linear": lambda: nn.Linear(4, 3).double(),
}


@pytest.fixture(params=BUILDS)
def problem(request: pytest.FixtureRequest) -> Problem:
    """A problem for each kind of model that can be masked."""
    return net_problem(SHORT_ADAMW, rows=20, targets=3, model=BUILDS[request.param]())


def alone(model: Members) -> nn.Module:
    """The one member as a model of its own, with its masks."""
    if isinstance(model, Ensemble):
        return copy.deepcopy(model.models[0])
    assert isinstance(model, MemberModel)
    head, linears, masks = model.head, [], []
    for layer in (head.linear_in, head.linear_out):
        linear = nn.Linear(*layer.weight.shape[1:]).double()
        linear.weight.data = layer.weight.detach()[0].T.clone()
        linear.bias.data = layer.bias.detach()[0, 0].clone()
        linears.append(linear)
    for mask in (head.mask_in, head.mask_hidden):
        named = {"groups": mask.groups, "seed": mask.seeds[0], "layer": mask.layer}
        masks.append(TurnoverDropout(mask.width, **named))
    return nn.Sequential(masks[0], linears[0], nn.ReLU(), masks[1], linears[1])


def test_before_training_the_masked_model_is_the_problem_s_start(problem: Problem) -> None:
    model, inputs = masked_model(problem, None), problem.targets.inputs
    start = RowLosses(problem.model)
    start.model.load_state_dict(dict(problem.initial))
    check_close(model(inputs)[0], start.model(inputs))
    masks = turnover_layers(alone(model))
    assert masks and len({(mask.seed, mask.layer) for mask in masks}) == len(masks)


@pytest.mark.parametrize("schedule", [SHORT_SGD, SHORT_ADAMW])
def test_it_trains_as_a_plain_loop_does(problem: Problem, schedule: Schedule) -> None:
    problem = replace(problem, schedule=schedule)
    made, train = masked_model(problem, None), problem.train
    model, inputs = alone(made), problem.targets.inputs
    train_masked(made, problem)
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[schedule.optimizer]
    rate, decay = schedule.learning_rate, schedule.weight_decay
    optimizer = kind(model.parameters(), lr=rate, weight_decay=decay)
    for rows in schedule.batches(len(train.labels)):
        with turnover(rows):
            logits = model(train.inputs[rows])
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, train.labels[rows]).backward()
        optimizer.step()
    check_close(made(inputs)[0], model(inputs), 1e-10)


def test_scores_are_equation_2_of_the_trained_model(problem: Problem) -> None:
    asked, targets = torch.tensor([7, 0, 19]), problem.targets
    before = copy.deepcopy(problem.model.state_dict())
    model = train_masked(masked_model(problem, None), problem)
    (expected,) = naive_influence(alone(model), targets.inputs, targets.labels, asked.tolist())
    for plain in (False, True):
        scores = TurnoverInfluence(plain=plain).scores(problem, asked)
        check_close(scores.values, expected, 1e-9)
        assert scores.instances.tolist() == asked.tolist()
        weights = sum(value.numel() for value in problem.initial.values())
        assert scores.stored_bytes == 8 * weights
    assert expected.abs().max() > 1e-3
    after = problem.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_what_cannot_be_masked_or_trained_is_one_line() -> None:
    images = Split(torch.randn(8, 1, 3, 3).double(), some_labels(8, 2))
    convolutions = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()).double()
    unmasked = train_problem(convolutions, images, images, SHORT_SGD)
    fast = replace(net_problem(), schedule=replace(SHORT_SGD, learning_rate=1e300))
    for problem, message in (
        (unmasked, "nobody knows where a Sequential wants its masks"),
        (fast, r"training diverged with learning rate 1e\+300"),
    ):
        with pytest.raises(TurnoverError, match=rf"^{message}; [^\n]*$"):
            TurnoverInfluence().scores(problem)


# The catalogue


@pytest.mark.parametrize("name", [name for name in METHODS if name != "influence-lissa"])
def test_a_method_explains_the_targets_and_items_that_it_is_given(name: str) -> None:
    problem, other, some = net_problem(), some_split(2, seed=7), torch.tensor([4, 1])
    scores = METHODS[name].scores(replace(problem, targets=other), some)
    assert scores.values.shape == (2, 2)
    assert not torch.equal(
        scores.values, METHODS[name].scores(problem, some).values[:2]
    ) or name in (
        "loss",
        "random",
    )


def test_only_hara_s_method_follows_the_schedule_that_is_named() -> None:
    problem = net_problem(SHORT_ADAMW)
    named = methods(sgd=SHORT_SGD)
    by_sgd = METHODS["sgd-influence"].scores(replace(problem, schedule=SHORT_SGD)).values
    assert torch.equal(named["sgd-influence"].scores(problem).values, by_sgd)
    for name in ("turnover", "retraining", "tracin-all"):
        assert torch.equal(named[name].scores(problem).values, METHODS[name].scores(problem).values)
    assert len({method.name for method in METHODS.values()}) == len(METHODS)


def test_the_two_ways_of_turn_over_dropout_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published way takes the plain path, and both have the groups asked for."""
    paths: list[str] = []

    def noted(*arguments: Any, **options: Any) -> Influence:
        made = influence(*arguments, **options)
        paths.append(made.backend)
        return made

    monkeypatch.setattr("turnover.research.baselines.catalog.influence", noted)
    problem, found = net_problem(model=relu_net()), []
    for compared in (METHODS, methods(groups=2)):
        engine, plain = (
            compared[f"turnover{way}"].scores(problem).values for way in ("", "-plain")
        )
        check_close(engine, plain, 1e-9)
        found.append(engine)
    assert all(path.startswith((ALGEBRA, PLAIN)[place % 2]) for place, path in enumerate(paths))
    assert not torch.allclose(*found)
    for build in (relu_net, net):
        model = masked_model(net_problem(model=build()), 2)
        assert [mask.units for mask in turnover_layers(model)] == [2, 2]
