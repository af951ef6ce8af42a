"""What is measured: a run, its training items, and a seeded sample of its targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from turnover.attribution.device import choose_device
from turnover.attribution.ensemble import Members
from turnover.attribution.masks import derive_seed
from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.models.registry import TrainSettings
from turnover.research.baselines.base import Problem, Schedule
from turnover.research.baselines.retraining import plain_classifier, train_problem
from turnover.runs.model import load_model, run_settings, run_split
from turnover.runs.run import Run
from turnover.storage.artifacts import Parts, fingerprint
from turnover.training.fit import Split

TARGETS = 100
_TARGETS = 10
_KEY_DIGITS = 16


@dataclass(frozen=True)
class EvaluationTask:
    """A run with targets: the validation items at `positions`, under their true labels (`truth`) or
    the predicted ones (`prediction`). Models are trained again on the Ray `cluster` at an
    address, or on this machine.
    """

    run: Run
    device: torch.device
    positions: list[int]
    meaning: str = "truth"
    cluster: str | None = None

    @classmethod
    def of(
        cls,
        run: Run,
        device: str | None = None,
        count: int = TARGETS,
        meaning: str = "truth",
        cluster: str | None = None,
    ) -> EvaluationTask:
        """Up to `count` random targets from those with influences; errors only for `prediction`.

        Raises:
            TurnoverError: if the run has no influence, or makes no error where errors are
                requested.
        """
        candidates = run.influence.targets if meaning == "truth" else run.influence.misclassified
        if not candidates:
            raise TurnoverError(
                f"{run.folder}: no validation item with influences is misclassified, so there is no"
                " error to explain"
            )
        drawn = np.random.default_rng(derive_seed(0, _TARGETS)).choice(
            candidates, min(count, len(candidates)), replace=False
        )
        return cls(run, choose_device(device), sorted(drawn.tolist()), meaning, cluster)

    @property
    def asked(self) -> dict[str, Any]:
        """Identity of the targets, by which stored intermediate results are found."""
        return {"targets": self.positions, "meaning": self.meaning}

    def store(self, name: str, settings: Mapping[str, Any]) -> Parts:
        """Where intermediate results are kept that depend on the run's weights and these settings
        alone: RUN/fidelity/NAME-KEY.
        """
        made_with = {"run": self.run.weights_hash, **settings}
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
        name = "kept_epoch" if masked else "plain_kept_epoch"
        if name not in results:
            raise TurnoverError(
                f"{self.run.folder}: the manifest says nothing of {name!r}, it is from an earlier "
                "version; train it again"
            )
        if results["plain_accuracy"] is None:
            raise TurnoverError(
                f"{self.run.folder}: trained elsewhere, nobody knows how, so it cannot be trained "
                "again; use a run that was trained here"
            )
        return int(results[name])

    def untrained(self, members: int) -> Members:
        """New members of the run's architecture, as they are before training."""
        model = replace(self.settings, members=members).build(
            len(self.run.classes), tuple(self.train.inputs.shape[1:])
        )
        return model.to(self.device)

    def problem(self, member: int = 0) -> Problem:
        """The run's plain twin, one member of it, trained now for baselines.

        Raises:
            TurnoverError: if a model like this cannot be trained again step by step.
        """
        model = plain_classifier(self.untrained(member + 1), member)
        return train_problem(
            model, self.train, self.targets, Schedule.of(self.recipe, self.epochs(), member)
        )
