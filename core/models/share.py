"""Some of K members as a model of their own, and tensors of such parts cut out of the whole's and put together again.

Members never mix, so ranks may train some each (`turnover.ranks`). In a `MemberModel` every tensor has the members first; the
tensors of an `Ensemble`'s members carry the member's number in their names.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from turnover.dropout import TurnoverDropout, turnover_layers
from turnover.models.ensemble import Ensemble
from turnover.models.members import Members, MemberTurnoverDropout
from turnover.models.state import NUMBERED, trained_state


def part_of(model: Members, members: range) -> Members:
    """The members with these numbers; the model itself if these are all."""
    if len(members) == model.members:
        return model
    if isinstance(model, Ensemble):
        return model.of([model.models[member] for member in members])
    part = copy.deepcopy(model)
    part.members = len(members)
    for tensor in (*part.parameters(), *part.buffers()):
        tensor.data = tensor.data[members.start : members.stop].clone()
    for module in part.modules():
        if isinstance(module, MemberTurnoverDropout):
            module.seeds = module.seeds[members.start : members.stop]
    return part


def descriptions(model: Members) -> list[str]:
    """What each member is, but for its weights: shapes and masks."""

    def described(state: Mapping[str, Tensor], first: int, masks: Sequence[str]) -> str:
        return json.dumps([{name: list(value.shape[first:]) for name, value in state.items()}, list(masks)])

    if isinstance(model, Ensemble):
        return [described(trained_state(own), 0, [repr(mask) for mask in turnover_layers(own)]) for own in model.models]
    masks = [mask for mask in turnover_layers(model) if isinstance(mask, MemberTurnoverDropout)]
    return [
        described(trained_state(model), 1, [f"{TurnoverDropout.extra_repr(mask)}, seed={mask.seeds[member]}" for mask in masks])
        for member in range(model.members)
    ]


def joined_tensors(model: Members, parts: Sequence[Mapping[str, Tensor]], counts: Sequence[int]) -> dict[str, Tensor]:
    """The whole's tensors from those of its parts, of so many members each, by names in which the model's occur; numbers are any part's."""
    if len(parts) == 1:
        return dict(parts[0])
    if not isinstance(model, Ensemble):
        return {name: torch.cat([part[name] for part in parts]) if first.dim() else first for name, first in parts[0].items()}
    firsts = [sum(counts[:place]) for place in range(len(counts))]
    return {_moved(name, first): value for part, first in zip(parts, firsts, strict=True) for name, value in part.items()}


def cut_tensors(model: Members, tensors: Mapping[str, Tensor], members: range) -> dict[str, Tensor]:
    """Those of some members, as their part `model` names them, from the whole's."""
    if not isinstance(model, Ensemble):
        return {name: value[members.start : members.stop] if value.dim() else value for name, value in tensors.items()}
    found = {name: NUMBERED.search(name) for name in tensors}
    return {_moved(name, -members.start): tensors[name] for name, number in found.items() if number is not None and int(number[1]) in members}


def _moved(name: str, by: int) -> str:
    """A tensor's name after its member's number has changed."""
    return NUMBERED.sub(lambda number: f"models.{int(number[1]) + by}.", name, count=1)
