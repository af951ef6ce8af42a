"""Checkpoints of a training run: one file for all members, with all that the next epoch needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from turnover.attribution.dropout import turnover_layers
from turnover.attribution.ensemble import Members
from turnover.attribution.state import load_trained, trained_state
from turnover.errors import TurnoverError
from turnover.models.registry import Recipe
from turnover.storage.atomic import write_atomic


@dataclass(frozen=True)
class Trainee:
    """What is trained, and how."""

    model: Members
    optimizer: torch.optim.Optimizer
    recipe: Recipe

    @property
    def made_with(self) -> dict[str, Any]:
        """Identity that a checkpoint must have to be resumed from."""
        state = trained_state(self.model)
        return {
            "recipe": asdict(self.recipe),
            "shapes": {name: list(value.shape) for name, value in state.items()},
            "masks": [repr(mask) for mask in turnover_layers(self.model)],
        }


def save_checkpoint(
    path: Path,
    trainee: Trainee,
    best: Mapping[str, Tensor],
    items: Mapping[str, Tensor],
    facts: Mapping[str, Any],
) -> None:
    """Save the state of all members, their best state so far, each item's losses, and facts."""
    model = trainee.model
    tensors = {f"model.{name}": value for name, value in trained_state(model).items()} | {
        f"best.{name}": value for name, value in best.items()
    }
    moments = trainee.optimizer.state_dict()["state"]
    for number, name in enumerate(_trained(model)):
        tensors |= {
            f"adamw.{name}.{moment}": value for moment, value in moments.get(number, {}).items()
        }
    metadata = json.dumps({"made_with": trainee.made_with, **facts})
    content = {name: value.contiguous() for name, value in (tensors | dict(items)).items()}
    write_atomic(path, lambda beside: beside.write_bytes(save(content, {"facts": metadata})))


def load_checkpoint(
    path: Path, trainee: Trainee, items: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Load the members; returns the facts, the best state, and the items' losses.

    Raises:
        TurnoverError: if the checkpoint was made by another recipe or model, or is damaged.
    """
    model, optimizer = trainee.model, trainee.optimizer
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
            losses = {name: tensors.pop(name) for name in items}
            made_with, *_ = facts["made_with"], facts["curves"], facts["accuracy"]
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise TurnoverError(
            f"{path}: the checkpoint is damaged ({error}); delete it to train from the beginning"
        ) from None
    if made_with != trainee.made_with:
        raise TurnoverError(
            f"{path}: the checkpoint was made with other settings; use the same settings to resume,"
            " or delete it"
        )
    named = {
        kind: {
            name.removeprefix(kind): value
            for name, value in tensors.items()
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
