"""Checkpoints of a training run: one file for all members, with all that the next epoch needs.

The first rank writes it from what the other ranks send, so training can resume with any number of
ranks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from turnover.attribution.ensemble import Members, cut_tensors, descriptions, joined_tensors
from turnover.attribution.state import load_trained, trained_state
from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.storage.atomic import write_atomic
from turnover.training.teams import Team

_DESCRIBED = "members"


@dataclass(frozen=True)
class Trainee:
    """What is trained: the members of a team, and how."""

    model: Members
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    team: Team


def whole_tensors(model: Members, tensors: Mapping[str, Tensor], team: Team) -> dict[str, Tensor]:
    """The tensors of all teams' members on the first rank, by the names in the whole model; nothing
    on the others.
    """
    if team.ranks.size == 1:
        return dict(tensors)
    parts = team.gather(
        save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
        if team.rank == 0
        else b""
    )
    counts = [int(part) for part in team.gather(str(model.members).encode())]
    return joined_tensors(model, [load(part) for part in parts], counts) if parts else {}


def save_checkpoint(
    path: Path,
    trainee: Trainee,
    best: Mapping[str, Tensor],
    items: Mapping[str, Tensor],
    facts: Mapping[str, Any],
) -> None:
    """Save the state of all members, their best state so far, each item's losses, and facts."""
    model, team = trainee.model, trainee.team
    tensors = {f"model.{name}": value for name, value in trained_state(model).items()} | {
        f"best.{name}": value for name, value in best.items()
    }
    moments = trainee.optimizer.state_dict()["state"]
    for number, name in enumerate(_trained(model)):
        tensors |= {
            f"adamw.{name}.{moment}": value for moment, value in moments.get(number, {}).items()
        }
    whole = whole_tensors(model, tensors, team)
    described = [
        description
        for part in team.gather(json.dumps(descriptions(model)).encode())
        for description in json.loads(part)
    ]
    if not team.ranks.is_first:
        return
    metadata = json.dumps(
        {"made_with": {"recipe": asdict(trainee.recipe), _DESCRIBED: described}, **facts}
    )
    content = {name: value.contiguous() for name, value in (whole | dict(items)).items()}
    write_atomic(path, lambda beside: beside.write_bytes(save(content, {"facts": metadata})))


def load_checkpoint(
    path: Path, trainee: Trainee, items: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Load this rank's members; returns the facts, the best state, and the items' losses.

    Raises:
        TurnoverError: if the checkpoint was made by another recipe or model, or is damaged.
    """
    model, optimizer = trainee.model, trainee.optimizer
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            made_with, described = {**facts["made_with"]}, facts["made_with"][_DESCRIBED]
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
            losses = {name: tensors.pop(name) for name in items}
            _ = facts["curves"], facts["accuracy"]
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise TurnoverError(
            f"{path}: the checkpoint is damaged ({error}); delete it to train from the beginning"
        ) from None
    members = trainee.team.members
    ours = descriptions(model), trainee.team.total, asdict(trainee.recipe)
    if (described[members.start : members.stop], len(described), made_with["recipe"]) != ours:
        raise TurnoverError(
            f"{path}: the checkpoint was made with other settings; use the same settings to resume,"
            " or delete it"
        )
    member_tensors = cut_tensors(model, tensors, members)
    named = {
        kind: {
            name.removeprefix(kind): value
            for name, value in member_tensors.items()
            if name.startswith(kind)
        }
        for kind in ("model.", "best.", "adamw.")
    }
    moments: dict[str, dict[str, Tensor]] = {}
    for name, value in named["adamw."].items():
        parameter, _, moment = name.rpartition(".")
        moments.setdefault(parameter, {})[moment] = value
    load_trained(model, named["model."])
    state = {
        number: moments[name] for number, name in enumerate(_trained(model)) if name in moments
    }
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    device = next(model.parameters()).device
    return facts, {name: value.to(device) for name, value in named["best."].items()}, losses


def _trained(model: Members) -> list[str]:
    """Names of the parameters that the optimizer changes, in its order."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]
