"""All compared methods, by name: `METHODS[name].scores(problem)`.

Turn-over dropout has the same interface here, so that one table can hold everything. The problem's
plain model is trained once more from the same start, with the same schedule, with masks on the
input of each linear layer; equation (2) of Kobayashi et al. (2020) gives the scores
(`turnover.attribution.influence`). A model with turn-over layers of its own keeps them. Scale:
nats, of the sub-network: the effect of leaving z out on a model of half the width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from turnover.attribution.dropout import TurnoverDropout
from turnover.attribution.ensemble import Ensemble, MemberHead, MemberModel, Members
from turnover.attribution.influence import influence
from turnover.attribution.masks import derive_seed
from turnover.attribution.scope import turnover
from turnover.attribution.state import trained_state
from turnover.errors import TurnoverError
from turnover.research.baselines.base import Baseline, Clock, Problem, Schedule, cross_entropy
from turnover.research.baselines.hessian import InfluenceFunction
from turnover.research.baselines.retraining import Retraining
from turnover.research.baselines.simple import RandomScores, Similarity, TrainingLoss
from turnover.research.baselines.tracin import SgdInfluence, TracIn
from turnover.storage.progress import Advance

_MASKS, _SHARED = 2, 64


@dataclass(frozen=True)
class TurnoverInfluence(Baseline):
    """The paper's own method.

    Attributes:
        plain: by two forward passes for each pair, as published; otherwise by the engine.
        groups: mask this many groups of units; None means single units.
        masks: how many masks the training items share; None as in the paper, one each.
    """

    plain: bool = False
    groups: int | None = None
    masks: int | None = None

    @property
    def name(self) -> str:
        if self.masks:
            return f"turn-over dropout, {self.masks} shared masks"
        way = "two passes a pair" if self.plain else "engine"
        return f"turn-over dropout, {way} (Kobayashi et al. 2020)"

    def values(
        self, problem: Problem, chosen: Tensor, clock: Clock, progress: Advance
    ) -> tuple[Tensor, int]:
        with clock.spent("train"):
            model = train_masked(masked_model(problem, self.groups, self.masks), problem)
        progress(0.5)
        targets = problem.targets
        with clock.spent("estimate"):
            values = influence(model, targets.inputs, targets.labels, chosen, plain=self.plain).mean
        progress(0.5)
        stored = sum(value.nbytes for value in trained_state(model).values())
        return values.to(targets.labels.device), stored


def masked_model(problem: Problem, groups: int | None, masks: int | None = None) -> Members:
    """The problem's model before training, with masks, as one member; linear, relu, linear becomes
    a `MemberHead`.

    Raises:
        TurnoverError: if the model has no turn-over layers and is no chain of layers with a linear
            one.
    """
    start = copy.deepcopy(problem.model)
    start.load_state_dict(dict(problem.initial), strict=False)
    match layers := list(start) if isinstance(start, nn.Sequential) else [start]:
        case [nn.Linear() as first, nn.ReLU(), nn.Linear() as last]:
            return _heads(first, last, groups, masks)
    model = _masked(start, layers, groups, masks)
    with torch.no_grad():
        classes = model(problem.train.inputs[:1]).shape[-1]
    return Ensemble([model], classes, [])


def _heads(first: nn.Linear, last: nn.Linear, groups: int | None, masks: int | None) -> MemberModel:
    """Linear, relu, linear as a one-member model with the layers' weights."""
    sizes = first.in_features, first.out_features, last.out_features
    head = MemberHead(*sizes, groups=groups, seed=0, members=1, masks=masks).to(first.weight)
    for member_layer, layer in ((head.linear_in, first), (head.linear_out, last)):
        member_layer.weight.data = layer.weight.detach().T.repeat(1, 1, 1)
        if layer.bias is None:
            member_layer.bias.requires_grad_(False)
        else:
            member_layer.bias.data = layer.bias.detach()[None, None].clone()
    return MemberModel(nn.Identity(), head, ("the output bias",))


def _masked(
    start: nn.Module, layers: list[nn.Module], groups: int | None, masks: int | None
) -> nn.Module:
    """The model with its own masks under another seed, or with masks before its linear layers."""
    seed = derive_seed(0, 0, _MASKS)
    present = [module for module in start.modules() if isinstance(module, TurnoverDropout)]
    for mask in present:
        mask.seed, mask.masks = derive_seed(mask.seed, seed), masks or mask.masks
    if present:
        return start
    chain: list[nn.Module] = []
    for number, layer in enumerate(layers):
        if isinstance(layer, nn.Linear):
            chain.append(
                TurnoverDropout(
                    layer.in_features, groups=groups, seed=seed, masks=masks, layer=number
                )
            )
        chain.append(layer)
    if len(chain) == len(layers):
        raise TurnoverError(
            f"nobody knows where a {type(start).__name__} wants its masks; give it TurnoverDropout "
            "layers of its own"
        )
    return nn.Sequential(*chain)


def train_masked(model: Members, problem: Problem) -> Members:
    """Train a one-member model in place, each row under its instance's mask, by the problem's
    schedule.

    Raises:
        TurnoverError: if training diverges.
    """
    schedule, train = problem.schedule, problem.train
    optimizer = schedule.build(
        [parameter for parameter in model.parameters() if parameter.requires_grad]
    )
    model.eval()
    for rows in schedule.batches(len(train.labels)):
        ids = rows[None]
        there = ids.to(train.labels.device)
        with turnover(ids):
            logits = model.member_rows(train.inputs[there])
        optimizer.zero_grad()
        (
            cross_entropy(logits.flatten(0, 1), train.labels[there].flatten()).sum() / len(rows)
        ).backward()
        optimizer.step()
    if not all(value.isfinite().all() for value in trained_state(model).values()):
        raise TurnoverError(
            f"training diverged with learning rate {schedule.learning_rate:g}; choose a smaller one"
        )
    return model


def methods(groups: int | None = None, sgd: Schedule | None = None) -> dict[str, Baseline]:
    """Every method by its short name; `groups` of `TurnoverInfluence`, and the schedule of
    `SgdInfluence`.
    """
    return {
        "turnover": TurnoverInfluence(groups=groups),
        "turnover-plain": TurnoverInfluence(plain=True, groups=groups),
        "turnover-shared": TurnoverInfluence(groups=groups, masks=_SHARED),
        "retraining": Retraining(),
        "sgd-influence": SgdInfluence(sgd),
        "influence-cg": InfluenceFunction(),
        "influence-lissa": InfluenceFunction("LiSSA"),
        "tracin-last": TracIn("last"),
        "tracin-all": TracIn("all"),
        "similarity": Similarity(),
        "loss": TrainingLoss(),
        "random": RandomScores(),
    }


METHODS: Mapping[str, Baseline] = methods()
"""Every method as in the paper: masks of single units."""
