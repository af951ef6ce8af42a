"""Targets of a run, and how models like its own are trained on its items again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from turnover.attribution.ensemble import Members
from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.models.registry import TrainSettings
from turnover.runs.model import load_model, recipe_key, run_settings, run_split
from turnover.runs.run import Run
from turnover.storage.artifacts import Parts, fingerprint
from turnover.training.fit import Split

_KEY_DIGITS = 16


@dataclass(frozen=True)
class Targets:
    """A run with targets: the validation items at `positions`, under their true labels (`truth`) or
    the predicted ones (`prediction`). Models are trained again on the Ray `cluster` at an
    address, or on this machine.
    """

    run: Run
    device: torch.device
    positions: list[int]
    meaning: str = "truth"
    cluster: str | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """Identity of the targets, by which stored intermediate results are found."""
        return {"targets": self.positions, "meaning": self.meaning}

    def store(self, name: str, settings: Mapping[str, Any]) -> Parts:
        """Where intermediate results are kept that depend on the run's weights and these settings
        alone: RUN/fidelity/NAME-KEY.
        """
        made_with = {"run": self.run.weights_hash, **recipe_key(self.run), **settings}
        key = fingerprint(made_with)[:_KEY_DIGITS]
        return Parts(self.run.folder / "fidelity" / f"{name}-{key}", made_with)

    @cached_property
    def settings(self) -> TrainSettings:
        """The settings that the run was trained with."""
        return run_settings(self.run)

    @cached_property
    def train(self) -> Split:
        """All training items."""
        return run_split(self.run, "train", self.device)

    @cached_property
    def targets(self) -> Split:
        """The targets, each with the label whose loss is meant."""
        items = run_split(self.run, "validation", self.device, self.positions)
        if self.meaning == "truth":
            return items
        predicted = self.run.validation["predicted"].loc[self.positions]
        return Split(items.inputs, torch.tensor(predicted.tolist()).to(self.device))

    @cached_property
    def model(self) -> Members:
        """The run's own members."""
        return load_model(self.run, self.device)

    @property
    def recipe(self) -> Recipe:
        """How the run was trained."""
        return self.settings.recipe

    def epochs(self, masked: bool = False) -> int:
        """The kept epoch of the run's model (`masked`) or of its plain twin.

        Raises:
            TurnoverError: if the manifest does not record it.
        """
        results = self.run.manifest["results"]
        if self.run.untrainable:
            raise TurnoverError(self.run.untrainable)
        if results["plain_accuracy"] is None and self.settings.epochs and not self.run.scored:
            return self.settings.epochs
        name = "kept_epoch" if masked and not self.run.scored else "plain_kept_epoch"
        if name not in results:
            raise TurnoverError(
                f"{self.run.folder}: the manifest says nothing of {name!r}, it is from an earlier "
                "version; train it again"
            )
        if results["plain_accuracy"] is None:
            raise TurnoverError(
                f"{self.run.folder}: trained elsewhere, nobody knows how, so it cannot be trained "
                "again; use a run that was trained here, or say how with --epochs and "
                "--learning-rate"
            )
        return int(results[name])

    def untrained(self, members: int) -> Members:
        """New members of the run's architecture, as they are before training."""
        model = replace(self.settings, members=members).build(
            len(self.run.classes), tuple(self.train.inputs.shape[1:])
        )
        return model.to(self.device)
