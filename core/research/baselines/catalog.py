"""All compared methods, by name: `METHODS[name](problem, schedule, targets)` gives `Scores`.

Choices that the methods' own modules leave open are made here once, the same for every comparison.
A method that needs plain SGD (Hara et al.) trains by the `schedule` that the caller names, or by
the problem's own if that is plain SGD; all others explain the problem's own model.

Turn-over dropout has the same interface here, so that one table can hold everything. The problem's
plain model is trained once more from the same start, with the same schedule and loss, with masks on
the input of each linear layer; equation (2) of Kobayashi et al. (2020) gives the scores
(`turnover.attribution.influence`). A model with turn-over layers of its own keeps them. K members
differ in masks and batch order; a score is their mean. Scale: nats, of the sub-network: the effect
of leaving z out on a model of half the width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from turnover.attribution.dropout import TurnoverDropout
from turnover.attribution.ensemble import Ensemble, MemberHead, MemberModel, Members
from turnover.attribution.influence import influence
from turnover.attribution.masks import derive_seed
from turnover.attribution.scope import turnover
from turnover.attribution.state import trained_state
from turnover.errors import TurnoverError
from turnover.research.baselines.base import (
    Baseline,
    Clock,
    Problem,
    Schedule,
    Scores,
    cross_entropy,
)
from turnover.research.baselines.hessian import CaptumInfluence, InfluenceFunction
from turnover.research.baselines.losses import ConjugateGradient, Lissa
from turnover.research.baselines.retraining import Retraining
from turnover.research.baselines.simple import RandomScores, Similarity, TrainingLoss
from turnover.research.baselines.tracin import SgdInfluence, TracIn
from turnover.storage.progress import Advance, silent
from turnover.training.fit import Split

# Turn-over dropout as a method

_MASKS = 2


@dataclass(frozen=True)
class TurnoverInfluence:
    """The paper's own method.

    Attributes:
        plain: by two forward passes for each pair, as published; otherwise by the engine.
        members: models that are trained and averaged.
        groups: mask this many groups of units; None means single units.
        seed: of the masks.
    """

    plain: bool = False
    members: int = 1
    groups: int | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """The method in a few words."""
        return (
            f"turn-over dropout, {'two passes a pair' if self.plain else 'engine'} (Kobayashi et "
            "al. 2020)"
        )

    def scores(
        self, problem: Problem, instances: torch.Tensor | None = None, progress: Advance = silent
    ) -> Scores:
        """Scores in nats of the named training items, by one training of K members.

        Raises:
            TurnoverError: if it is unclear where the model needs masks, or training diverges.
        """
        chosen, clock = problem.chosen(instances), Clock.of(problem)
        with clock.spent("train"):
            model = train_members(
                masked_members(problem, self.members, self.groups, self.seed), problem
            )
        progress(0.5)
        with clock.spent("estimate"):
            targets = problem.targets
            # the engine knows cross-entropy, and computes it with fewer copies
            loss = None if problem.loss is cross_entropy else problem.loss
            values = influence(
                model, targets.inputs, targets.labels, chosen, loss, plain=self.plain
            ).mean
        progress(0.5)
        stored = sum(value.nbytes for value in trained_state(model).values())
        return clock.scores(values.to(targets.labels.device), chosen, stored)


def masked_members(problem: Problem, members: int, groups: int | None, seed: int) -> Members:
    """The problem's model before training, K times, with masks; linear, relu, linear becomes one
    batched model.

    Raises:
        TurnoverError: if the model has no turn-over layers and is no chain of layers with a linear
            one.
    """
    start = copy.deepcopy(problem.model)
    start.load_state_dict(dict(problem.initial), strict=False)
    match layers := list(start) if isinstance(start, nn.Sequential) else [start]:
        case [nn.Linear() as first, nn.ReLU(), nn.Linear() as last]:
            return _heads(first, last, members, groups, seed)
    models = [
        _masked(start, layers, groups, derive_seed(seed, member, _MASKS))
        for member in range(members)
    ]
    with torch.no_grad():
        classes = models[0](problem.train.inputs[:1]).shape[-1]
    return Ensemble(models, classes, [])


def _heads(
    first: nn.Linear, last: nn.Linear, members: int, groups: int | None, seed: int
) -> MemberModel:
    """Linear, relu, linear as a K-member model with the layers' weights."""
    head = MemberHead(
        first.in_features,
        first.out_features,
        last.out_features,
        groups=groups,
        seed=seed,
        members=members,
    ).to(first.weight)
    for member_layer, layer in ((head.linear_in, first), (head.linear_out, last)):
        member_layer.weight.data = layer.weight.detach().T.repeat(members, 1, 1)
        if layer.bias is None:
            member_layer.bias.requires_grad_(False)
        else:
            member_layer.bias.data = layer.bias.detach().repeat(members, 1, 1)
    return MemberModel(nn.Identity(), head, ("the output bias",))


def _masked(start: nn.Module, layers: list[nn.Module], groups: int | None, seed: int) -> nn.Module:
    """One member: a copy of the model with its own masks under another seed, or with masks before
    its linear layers.
    """
    member = copy.deepcopy(start)
    masks = [module for module in member.modules() if isinstance(module, TurnoverDropout)]
    for mask in masks:
        mask.seed = derive_seed(mask.seed, seed)
    if masks:
        return member
    chain: list[nn.Module] = []
    for number, layer in enumerate(copy.deepcopy(layers)):
        if isinstance(layer, nn.Linear):
            chain.append(TurnoverDropout(layer.in_features, groups=groups, seed=seed, layer=number))
        chain.append(layer)
    if len(chain) == len(layers):
        raise TurnoverError(
            f"nobody knows where a {type(start).__name__} wants its masks; give it TurnoverDropout "
            "layers of its own"
        )
    return nn.Sequential(*chain)


def train_members(model: Members, problem: Problem) -> Members:
    """Train K members in place, each row under its instance's mask, by the problem's schedule and
    loss.

    Raises:
        TurnoverError: if training diverges.
    """
    schedule, train = problem.schedule, problem.train
    optimizer = schedule.build(
        [parameter for parameter in model.parameters() if parameter.requires_grad]
    )
    orders = [
        replace(schedule, member=schedule.member + member).batches(len(train.labels))
        for member in range(model.members)
    ]
    model.eval()
    for rows in zip(*orders, strict=True):
        ids = torch.stack(rows)
        there = ids.to(train.labels.device)
        with turnover(ids):
            logits = model.member_rows(train.inputs[there])
        losses = problem.loss(logits.flatten(0, 1), train.labels[there].flatten())
        optimizer.zero_grad()
        (losses.sum() / ids.shape[1]).backward()
        optimizer.step()
    if not all(value.isfinite().all() for value in trained_state(model).values()):
        raise TurnoverError(
            f"training diverged with learning rate {schedule.learning_rate:g}; choose a smaller one"
        )
    return model


# The catalogue


@dataclass(frozen=True)
class Method:
    """One method, to be called with a problem.

    Attributes:
        name: the method in a few words, with its source.
        make: the baseline, given a plain SGD schedule for those that need it (None: the problem's
            own).
        asks: whether it starts from the problem's trained model, whose training is then part of its
            cost.
        keeps: whether it needs that model again to explain another target.
        each: whether its cost is per training item, so that a few of them give the cost of all.
    """

    name: str
    make: Callable[[Schedule | None], Baseline]
    asks: bool = False
    keeps: bool = False
    each: bool = False

    def __call__(
        self,
        problem: Problem,
        schedule: Schedule | None = None,
        targets: Split | None = None,
        instances: Tensor | None = None,
        progress: Advance = silent,
    ) -> Scores:
        """Scores `(targets, instances)`, positive = the training item lowers the target's loss.

        Args:
            problem: one plain trained model and its data.
            schedule: plain SGD, for a method that needs it; by default the problem's own.
            targets: what is explained in place of the problem's own targets.
            instances: numbers of training items; all by default.
            progress: called with the share of the work just finished.

        Raises:
            TurnoverError: if the method cannot treat this problem; the message gives the reason.
        """
        question = problem if targets is None else replace(problem, targets=targets)
        return self.make(schedule).scores(question, instances, progress)


def _method(baseline: Baseline, **facts: bool) -> Method:
    """A method without a schedule of its own."""
    return Method(baseline.name, lambda schedule: baseline, **facts)


def methods(members: int = 1, groups: int | None = None) -> dict[str, Method]:
    """Every method by its short name; turn-over dropout with so many members and groups of units
    (None: single units).
    """
    return {
        "turnover": _method(TurnoverInfluence(members=members, groups=groups)),
        "turnover-plain": _method(TurnoverInfluence(plain=True, members=members, groups=groups)),
        "retraining": _method(Retraining(), keeps=True, each=True),
        "sgd-influence": Method(SgdInfluence().name, SgdInfluence, keeps=True),
        "influence-cg": _method(InfluenceFunction(ConjugateGradient()), asks=True, keeps=True),
        "influence-lissa": _method(InfluenceFunction(Lissa()), asks=True, keeps=True),
        "influence-captum": _method(CaptumInfluence("arnoldi"), asks=True, keeps=True),
        "tracin-last": _method(TracIn("last")),
        "tracin-all": _method(TracIn("all")),
        "similarity": _method(Similarity()),
        "loss": _method(TrainingLoss(), asks=True),
        "random": _method(RandomScores()),
    }


METHODS: Mapping[str, Method] = methods()
"""Every method by its short name, turn-over dropout as in the paper: one member, masks of single
units.
"""
