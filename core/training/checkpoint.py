"""Members in training, and checkpoints: one file with all that the next epoch needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from turnover.attribution.dropout import turnover_layers
from turnover.attribution.ensemble import Members
from turnover.attribution.state import load_trained, trained_state
from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.storage.atomic import write_atomic


def new_optimizer(model: nn.Module, recipe: Recipe, **options: Any) -> torch.optim.Optimizer:
    """A new optimizer of a recipe for all that is trained; `options` are of torch's class."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    options |= {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    if recipe.momentum is None:
        return torch.optim.AdamW(parameters, **options)
    return torch.optim.SGD(parameters, momentum=recipe.momentum, **options)


class Trainee:
    """A model in training: its optimizer, and its weights after the epoch that is kept so far.

    Attributes:
        first: the number of its first member among all that are trained.
    """

    def __init__(self, model: Members, recipe: Recipe, first: int = 0) -> None:
        self.model, self.recipe, self.first = model, recipe, first
        with model.failing():
            self.optimizer = new_optimizer(model, recipe)
        self.keep()

    def keep(self) -> None:
        """Keep the current weights in place of those kept so far."""
        state = trained_state(self.model)
        self._kept = {name: value.clone() for name, value in state.items()}

    def finish(self) -> None:
        """Give the model the kept weights."""
        load_trained(self.model, self._kept)
        self.model.eval()

    @property
    def made_with(self) -> dict[str, Any]:
        """Identity that a checkpoint must have to be resumed from."""
        return {
            "recipe": asdict(self.recipe),
            "first": self.first,
            "shapes": {name: list(value.shape) for name, value in self._kept.items()},
            "masks": [repr(mask) for mask in turnover_layers(self.model)],
        }

    def tensors(self) -> dict[str, Tensor]:
        """All that the next epoch needs."""
        tensors = {f"model.{name}": value for name, value in trained_state(self.model).items()}
        tensors |= {f"best.{name}": value for name, value in self._kept.items()}
        moments = self.optimizer.state_dict()["state"]
        for number, name in enumerate(self._trained()):
            tensors |= {
                f"optimizer.{name}.{moment}": value
                for moment, value in moments.get(number, {}).items()
            }
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to where `tensors` were taken; others among them are ignored."""
        named = {
            kind: {
                name.removeprefix(kind): value
                for name, value in tensors.items()
                if name.startswith(kind)
            }
            for kind in ("model.", "best.", "optimizer.")
        }
        moments: dict[str, dict[str, Tensor]] = {}
        for name, value in named["optimizer."].items():
            parameter, _, moment = name.rpartition(".")
            moments.setdefault(parameter, {})[moment] = value
        load_trained(self.model, named["model."])
        numbers = enumerate(self._trained())
        state = {number: moments[name] for number, name in numbers if name in moments}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        device = next(self.model.parameters()).device
        self._kept = {name: value.to(device) for name, value in named["best."].items()}

    def _trained(self) -> list[str]:
        """Names of the parameters that the optimizer changes, in its order."""
        named = self.model.named_parameters()
        return [name for name, parameter in named if parameter.requires_grad]


def save_checkpoint(
    path: Path, made_with: Mapping[str, Any], tensors: Mapping[str, Tensor], **facts: Any
) -> None:
    """Save tensors and facts, whole or not at all.

    Raises:
        TurnoverError: if the disk is full.
    """
    metadata = {"facts": json.dumps({"made_with": made_with, **facts})}
    content = save({name: value.contiguous() for name, value in tensors.items()}, metadata)
    write_atomic(path, lambda beside: beside.write_bytes(content))


def load_checkpoint(
    path: Path, made_with: Mapping[str, Any], needed: Sequence[str] = (), only: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of a checkpoint, which has the `needed` ones; if `only`, no others.

    Raises:
        TurnoverError: if it was made by another recipe or model, or is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            names = needed if only else list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
        same = facts["made_with"] == made_with
        if missing := same and set(needed) - {*tensors, *facts}:
            raise KeyError(min(missing))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise TurnoverError(
            f"{path}: the checkpoint is damaged ({error}); delete it to train from the beginning"
        ) from None
    if not same:
        raise TurnoverError(
            f"{path}: the checkpoint was made with other settings; use the same settings to resume,"
            " or delete it"
        )
    return tensors, facts
