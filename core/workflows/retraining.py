"""The models of a cleansing, trained again as tasks: each from a seed, as a condition says.

Until all are trained, RUN/.cleanse.partial holds their measures and, for other processes, the items
that are not the run's, the scores and the decisions. A model's measures depend on the run, the
items, the scores, its condition, share and seed, and those on flags on the decisions; not on which
other models are wanted, so that a cleansing that was stopped goes on with other shares or seeds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from turnover.attribution.ensemble import Members
from turnover.data.recipe import Recipe
from turnover.jobs.tasks import Task
from turnover.runs.model import recipe_key, run_settings, run_split
from turnover.runs.run import Run
from turnover.storage.artifacts import Parts
from turnover.storage.progress import Advance
from turnover.training.fit import Split, fit, validate
from turnover.workflows.cleansing import (
    FLAGGED,
    Decisions,
    Retrained,
    count_removed,
    given_labels,
    kept_rows,
)

_DATA = "data"
_SPLITS = ("targets", "measured")


def retrain(
    model: Members,
    recipe: Recipe,
    train: Split,
    stopping: Split,
    measured: Split,
    scores: np.ndarray,
    count: int,
    condition: str,
    decisions: Decisions | None = None,
) -> Retrained:
    """Train a new model as a condition says, and measure it.

    Args:
        model: built from the recipe's seed, by which random removal draws as well.
        recipe: how it is trained; turn-over dropout off.
        train: all training items.
        stopping: items whose loss ends the training early.
        measured: items that no choice depends on.
        scores: `(N,)`, low = remove first.
        count: how many items go.
        condition: one of `turnover.workflows.cleansing.WITH_FLAGS`.
        decisions: what people decided, for the condition `FLAGGED`.
    """
    device = train.labels.device
    kept = kept_rows(condition, scores, count, recipe.seed, decisions)
    rows = torch.from_numpy(kept).to(device)
    given = given_labels(condition, train.labels.cpu().numpy(), decisions)
    labels = torch.from_numpy(given).to(device)
    history = fit(model, Split(train.inputs[rows], labels[rows]), stopping, recipe)
    losses, share_right = validate(model, measured)
    stopped = history.curves["validation"][history.kept]
    return Retrained(condition, recipe.seed, share_right, float(losses.mean()), stopped)


@dataclass(frozen=True)
class Retraining:
    """What the models of a cleansing are trained and measured on."""

    run: Run
    targets: Split
    measured: Split
    scores: np.ndarray
    decisions: Decisions | None

    @cached_property
    def train(self) -> Split:
        """The run's training items."""
        return run_split(self.run, "train", self.targets.labels.device)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """What another process needs beside the run."""
        splits = {
            f"{name}_{part}": getattr(getattr(self, name), part).cpu().numpy()
            for name in _SPLITS
            for part in ("inputs", "labels")
        }
        return splits | {"scores": self.scores}

    @cached_property
    def made_with(self) -> dict[str, Any]:
        """All that the models depend on, but for condition, share, seed and decisions."""
        named = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        hashes = {name: hashlib.sha256(array.data).hexdigest() for name, array in named.items()}
        return {"run": self.run.weights_hash, **recipe_key(self.run), **hashes}

    @cached_property
    def parts(self) -> Parts:
        """The finished models' measures."""
        return Parts(self.run.folder / ".cleanse.partial", self.made_with)

    def begin(self, known: Iterable[Retrained] = ()) -> None:
        """Make the parts ready for tasks in any process; this one has all of it. `known` models are
        not trained again.
        """
        if _DATA not in self.parts:
            self.parts.remove()
            self.parts.save(_DATA, self.arrays)
        if self.decisions:
            self.parts.save(self.decisions.digest, asdict(self.decisions))
        for model in known:
            task = self.task(model.condition, model.share, model.seed)
            self.parts.save(task.result.stem, {}, **asdict(model))
        _here.clear()
        _here[json.dumps(self.facts)] = self

    def end(self) -> None:
        """Forget what this process had for its tasks."""
        _here.clear()

    @property
    def facts(self) -> dict[str, Any]:
        """What a process without this object makes it of."""
        return {
            "run": str(self.run.folder.absolute()),
            "made_with": self.made_with,
            "device": str(self.targets.labels.device),
            "decisions": self.decisions.digest if self.decisions else "",
        }

    def task(self, condition: str, share: float, seed: int) -> Task:
        """The training of a model."""
        which = f"-{self.facts['decisions']}" if condition == FLAGGED else ""
        name = f"{condition.replace(' ', '-')}{which}-{share:g}-{seed}"
        asked = {"condition": condition, "share": share, "seed": seed}
        return Task("cleanse", {**self.facts, **asked}, self.parts.path(name))

    def model(self, seed: int) -> Members:
        """A new model of one member."""
        settings = replace(run_settings(self.run), members=1, seed=seed)
        shape = tuple(self.train.inputs.shape[1:])
        return settings.build(len(self.run.classes), shape).to(self.train.labels.device)

    def retrain(self, condition: str, share: float, seed: int) -> None:
        """Train a model and keep its measures."""
        recipe = run_settings(self.run).recipe
        recipe = replace(recipe, masked=False, keep="best", seed=seed)
        retrained = retrain(
            self.model(seed),
            recipe,
            self.train,
            self.targets,
            self.measured,
            self.scores,
            count_removed(len(self.scores), share),
            condition,
            self.decisions,
        )
        facts = asdict(replace(retrained, share=share))
        self.parts.save(self.task(condition, share, seed).result.stem, {}, **facts)


_here: dict[str, Retraining] = {}
"""What this process retrains for."""


def retrain_model(arguments: Mapping[str, Any], advance: Advance) -> None:
    """Train a model and keep its measures."""
    facts = dict(arguments)
    asked = [facts.pop(name) for name in ("condition", "share", "seed")]
    key = json.dumps(facts)
    if key not in _here:
        _here.clear()
        _here[key] = _loaded(facts)
    _here[key].retrain(*asked)
    advance(1)


def _loaded(facts: Mapping[str, Any]) -> Retraining:
    run, device = Run(Path(facts["run"])), torch.device(facts["device"])
    parts = Parts(run.folder / ".cleanse.partial", facts["made_with"])
    arrays, _ = parts.load(_DATA)
    targets, measured = (
        Split(
            torch.from_numpy(arrays[f"{name}_inputs"]).to(device),
            torch.from_numpy(arrays[f"{name}_labels"]).to(device),
        )
        for name in _SPLITS
    )
    decisions = Decisions(**parts.load(facts["decisions"])[0]) if facts["decisions"] else None
    return Retraining(run, targets, measured, arrays["scores"], decisions)
