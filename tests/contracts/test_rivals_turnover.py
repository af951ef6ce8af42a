"""Turn-over dropout as one of the methods compared, and the catalogue of them all."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from core.dropout import TurnoverDropout, turnover_layers
from core.errors import TurnoverError
from core.influences import Influence, influence
from core.models.ensemble import Ensemble
from core.models.members import MemberModel, Members
from core.rivals.base import Problem, Schedule
from core.rivals.catalog import METHODS, methods
from core.rivals.losses import RowLosses
from core.rivals.repeat import train_problem
from core.rivals.turnover import TurnoverInfluence, masked_members, train_members
from core.scope import turnover
from core.training import Split
from tests.contracts.test_rivals_problems import SHORT_ADAMW, SHORT_SGD, net, net_problem, some_split, squared_error
from tests.helpers.builders import ALGEBRA, PLAIN, naive_influence, some_labels
from tests.helpers.token_builders import token_member, token_rows


def relu_net() -> nn.Module:
    """Linear, relu, linear: what becomes one batched program."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()


def own_masks() -> nn.Module:
    """A net that has a mask already."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), TurnoverDropout(6, groups=3, seed=9, layer=4), nn.Linear(6, 3)).double()


BUILDS: dict[str, Callable[[], nn.Module]] = {"heads": relu_net, "chain": net, "own masks": own_masks, "linear": lambda: nn.Linear(4, 3).double()}


@pytest.fixture(params=BUILDS)
def problem(request: pytest.FixtureRequest) -> Problem:
    """A problem for each kind of model that can be masked."""
    return net_problem(SHORT_ADAMW, rows=20, targets=3, model=BUILDS[request.param]())


def alone(model: Members, member: int) -> nn.Module:
    """One member as a model of its own, with its masks."""
    if isinstance(model, Ensemble):
        return copy.deepcopy(model.models[member])
    assert isinstance(model, MemberModel)
    head = model.head
    linears = []
    for layer in (head.linear_in, head.linear_out):
        linear = nn.Linear(*layer.weight.shape[1:]).double()
        linear.weight.data, linear.bias.data = layer.weight.detach()[member].T.clone(), layer.bias.detach()[member, 0].clone()
        linears.append(linear)
    masks = [TurnoverDropout(mask.width, groups=mask.groups, seed=mask.seeds[member], layer=mask.layer) for mask in (head.mask_in, head.mask_hidden)]
    return nn.Sequential(masks[0], linears[0], nn.ReLU(), masks[1], linears[1])


def test_before_training_the_members_are_the_problem_s_start(problem: Problem) -> None:
    model, inputs = masked_members(problem, 3, None, 0), problem.targets.inputs
    start = RowLosses(problem.model, problem.loss)
    start.model.load_state_dict(dict(problem.initial))
    for logits in model(inputs):
        torch.testing.assert_close(logits, start.model(inputs), rtol=0, atol=1e-12)
    assert turnover_layers(model), "and they have masks"


@pytest.mark.parametrize("schedule", [SHORT_SGD, SHORT_ADAMW])
def test_members_train_as_a_plain_loop_under_masks_does(problem: Problem, schedule: Schedule) -> None:
    problem = replace(problem, schedule=schedule)
    made, train = masked_members(problem, 2, None, 5), problem.train
    loops = [alone(made, member) for member in range(2)]
    train_members(made, problem)
    for member, model in enumerate(loops):
        kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[schedule.optimizer]
        optimizer = kind(model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
        for rows in replace(schedule, member=member).batches(len(train.labels)):
            with turnover(rows):
                loss = nn.functional.cross_entropy(model(train.inputs[rows]), train.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.testing.assert_close(made(problem.targets.inputs)[member], model(problem.targets.inputs), rtol=0, atol=1e-10)


def test_scores_are_equation_2_of_the_trained_members(problem: Problem) -> None:
    asked = torch.tensor([7, 0, 19])
    before = copy.deepcopy(problem.model.state_dict())
    model = train_members(masked_members(problem, 2, None, 3), problem)
    expected = torch.stack([naive_influence(alone(model, member), *vars(problem.targets).values(), asked.tolist())[0] for member in range(2)]).mean(0)
    for plain in (False, True):
        scores = TurnoverInfluence(plain=plain, members=2, seed=3).scores(problem, asked)
        torch.testing.assert_close(scores.values, expected, rtol=0, atol=1e-9)
        assert scores.instances.tolist() == asked.tolist()
        assert scores.stored_bytes == 2 * 8 * sum(value.numel() for value in problem.initial.values())
    assert expected.abs().max() > 1e-3
    assert all(torch.equal(before[name], value) for name, value in problem.model.state_dict().items())


def test_members_and_seeds_have_masks_of_their_own(problem: Problem) -> None:
    seeds = set()
    for seed in (0, 1):
        model = masked_members(problem, 2, None, seed)
        for member in range(2):
            own = turnover_layers(alone(model, member))
            assert len({(mask.seed, mask.layer) for mask in own}) == len(own)
            seeds |= {mask.seed for mask in own}
    assert len(seeds) == 4


def test_groups_are_those_asked_for() -> None:
    for build in (relu_net, net):
        model = masked_members(net_problem(model=build()), 1, 2, 0)
        assert [mask.units for mask in turnover_layers(model)] == [2, 2]


def test_another_loss_is_trained_and_explained() -> None:
    torch.manual_seed(0)
    inputs = some_split(16).inputs
    split = Split(inputs, inputs[:, 0])
    problem = train_problem(nn.Linear(4, 1).double(), split, Split(inputs[:2], inputs[:2, 1]), SHORT_SGD, squared_error)
    model = train_members(masked_members(problem, 1, None, 0), problem)
    expected = naive_influence(alone(model, 0), *vars(problem.targets).values(), list(range(16)), squared_error)[0]
    torch.testing.assert_close(TurnoverInfluence().scores(problem).values, expected, rtol=0, atol=1e-9)


def test_what_cannot_be_masked_or_trained_is_one_line() -> None:
    images = Split(torch.randn(8, 1, 3, 3).double(), some_labels(8, 2))
    convolutions = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()).double()
    with pytest.raises(TurnoverError, match=r"^nobody knows where a Sequential wants its masks; [^\n]*$"):
        TurnoverInfluence().scores(train_problem(convolutions, images, images, SHORT_SGD))
    with pytest.raises(TurnoverError, match=r"^training diverged with learning rate 1e\+300; [^\n]*$"):
        TurnoverInfluence().scores(replace(net_problem(), schedule=replace(SHORT_SGD, learning_rate=1e300)))


# The catalogue


QUICK = [name for name in METHODS if name != "influence-lissa"]


@pytest.mark.parametrize("name", QUICK)
def test_a_method_explains_the_targets_and_items_that_it_is_given(name: str) -> None:
    problem, other = net_problem(), some_split(2, seed=7)
    scores = METHODS[name](problem, targets=other, instances=torch.tensor([4, 1]))
    assert scores.values.shape == (2, 2)
    assert torch.equal(scores.values, METHODS[name](replace(problem, targets=other), instances=torch.tensor([4, 1])).values)


def test_only_hara_s_method_follows_the_schedule_that_is_named() -> None:
    problem = net_problem(SHORT_ADAMW)
    with pytest.raises(TurnoverError, match="needs plain SGD"):
        METHODS["sgd-influence"](problem)
    by_sgd = METHODS["sgd-influence"](replace(problem, schedule=SHORT_SGD)).values
    assert torch.equal(METHODS["sgd-influence"](problem, SHORT_SGD).values, by_sgd)
    for name in ("turnover", "retraining", "tracin-all"):
        assert torch.equal(METHODS[name](problem, SHORT_SGD).values, METHODS[name](problem).values)


def test_the_published_way_takes_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[str] = []

    def noted(*arguments: Any, **options: Any) -> Influence:
        made = influence(*arguments, **options)
        paths.append(made.path)
        return made

    monkeypatch.setattr("core.rivals.turnover.influence", noted)
    for name in ("turnover", "turnover-plain"):
        METHODS[name](net_problem(model=relu_net()))
    assert paths[0].startswith(ALGEBRA) and paths[1].startswith(PLAIN)


def test_the_two_ways_of_turn_over_dropout_agree_and_take_members() -> None:
    problem = net_problem(model=relu_net())
    one, four = METHODS, methods(members=4, groups=2)
    for compared in (one, four):
        engine, plain = (compared[name](problem).values for name in ("turnover", "turnover-plain"))
        torch.testing.assert_close(engine, plain, rtol=0, atol=1e-9)
    assert not torch.allclose(one["turnover"](problem).values, four["turnover"](problem).values)
    assert len({method.name for method in METHODS.values()}) == len(METHODS)


def test_captum_takes_models_of_token_ids() -> None:
    """Their inputs have no gradients, so captum goes row by row: η/|S| · ⟨∇l_z, ∇L(target)⟩ at the one checkpoint."""
    model = token_member(1).double()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    tokens, schedule = token_rows(6), Schedule(1, batch=3, learning_rate=0.1, optimizer="sgd")
    problem = train_problem(model, Split(tokens, some_labels(6, 3)), Split(tokens[:2], some_labels(2, 3, seed=1)), schedule)
    gradients = []
    for split in (problem.targets, problem.train):
        rows = [nn.functional.cross_entropy(problem.model(split.inputs[row, None]), split.labels[row, None]) for row in range(len(split.labels))]
        trained = [value for value in problem.model.parameters() if value.requires_grad]
        gradients.append(torch.stack([torch.cat([part.flatten() for part in torch.autograd.grad(row, trained)]) for row in rows]))
    torch.testing.assert_close(METHODS["tracin-all"](problem).values, 0.1 / 3 * gradients[0] @ gradients[1].T, rtol=0, atol=1e-10)
