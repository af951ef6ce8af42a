"""What a training run is about to do: settings and data, checked before torch is loaded.

The work directory of a run is `RUN.partial`. An interrupted training is resumed from there, with
the same settings and data only.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from turnover.data.base import WRONG_LABEL, Dataset, limit_items, plant_label_noise
from turnover.data.report import look_at
from turnover.data.sources import load_data
from turnover.data.sources.images import pairs_between
from turnover.data.tables import OwnData, is_own, load_own
from turnover.errors import TurnoverError
from turnover.models.encoders import encoder_limit, encoder_pieces
from turnover.models.registry import TrainSettings
from turnover.storage.atomic import check_free, disk_error, sweep, write_atomic


@dataclass(frozen=True)
class TrainingPlan:
    """A run to be made: its settings with every default filled in, its data, and its folder."""

    settings: TrainSettings
    data: Dataset
    folder: Path

    @property
    def partial(self) -> Path:
        """The work directory."""
        return self.folder.with_name(self.folder.name + ".partial")

    @property
    def lock(self) -> Path:
        """The lock held by the process that makes the run (`turnover.storage.lock.alone`)."""
        return self.folder.with_name(f".{self.folder.name}.lock")

    @cached_property
    def wanted(self) -> str:
        """Identity that a partial run must have to be resumed."""
        return json.dumps({**self.settings.saved, "fingerprint": self.data.fingerprint()})

    @cached_property
    def data_report(self) -> list[str]:
        """Notes on the data for a person, in lines."""
        return replace(look_at(self.data), **self._cut_texts()).lines

    def _cut_texts(self) -> dict[str, Any]:
        """What the report says of texts that are longer than the model's window; nothing where the
        encoder is not on this machine.
        """
        texts, options = self.data.train.texts, self.settings.options
        if not texts or not (window := options.get("max_tokens")):
            return {}
        if (pieces := encoder_pieces(options["encoder"], window)) is None:
            return {}
        widest = encoder_limit(options["encoder"]) or 0
        return {"cut": pieces.share_cut(texts), "window": window, "widest": widest}

    @property
    def resumes(self) -> bool:
        """Whether a partial run exists that this plan resumes."""
        settings = self.partial / "settings.json"
        return settings.exists() and settings.read_text(encoding="utf-8") == self.wanted


def plan_run(settings: TrainSettings, folder: Path) -> TrainingPlan:
    """Load the data and check that everything fits together.

    Raises:
        TurnoverError: for bad settings or data, a folder that exists, or a partial run that was
            begun with other settings.
    """
    check_free(folder, "another --run")
    data = _limited(_loaded(settings), settings)
    settings = settings.resolved(data.kind)
    assert settings.label_noise is not None
    if settings.label_noise:
        data = plant_label_noise(data, settings.label_noise, settings.seed)
    family = settings.family
    if data.train.images is not None:
        shape = data.train.images.shape[1:]
        family = family.for_images(str(settings.model), settings.data, shape)
    settings = settings.with_family(family.fitted_to(len(data.train)))
    plan = TrainingPlan(settings, data, folder)
    _check_resumable(plan)
    return plan


def _check_resumable(plan: TrainingPlan) -> None:
    if not plan.resumes and has_checkpoint(plan.partial):
        raise TurnoverError(
            f"{plan.partial} was begun with other settings or data; give the same again to resume, "
            "or delete it"
        )


def open_partial(plan: TrainingPlan) -> Path:
    """The work directory, new or begun earlier with the same settings and data; no other process
    may work in it (`TrainingPlan.lock`).

    Raises:
        TurnoverError: if it cannot be written, or since planning the run was made or another one
            begun there.
    """
    check_free(plan.folder, "another --run")
    _check_resumable(plan)
    if plan.resumes:
        sweep(plan.partial)
        return plan.partial
    try:
        shutil.rmtree(plan.partial, ignore_errors=True)
        plan.partial.mkdir(parents=True)
    except OSError as error:
        raise disk_error(plan.partial, error) from None
    settings = plan.partial / "settings.json"
    write_atomic(settings, lambda beside: beside.write_text(plan.wanted, encoding="utf-8"))
    return plan.partial


def has_checkpoint(partial: Path) -> bool:
    """Whether a partial run holds training worth resuming."""
    return any(partial.glob("*.checkpoint"))


def report(plan: TrainingPlan) -> dict[str, Any]:
    """What `turnover train --check --json` prints: sizes, classes, injected labels, and the main
    settings.
    """
    data, settings = plan.data, plan.settings
    counts = {
        split: np.bincount(items.labels, minlength=len(data.classes)).tolist()
        for split, items in (("train", data.train), ("validation", data.validation))
    }
    return {
        "run": str(plan.folder),
        "data": data.source,
        "kind": data.kind,
        "train_size": len(data.train),
        "validation_size": len(data.validation),
        "classes": [
            {"name": name, **{split: by_class[number] for split, by_class in counts.items()}}
            for number, name in enumerate(data.classes)
        ],
        "data_report": plan.data_report,
        "injected_labels": data.train.injected.count(WRONG_LABEL),
        "model": settings.model,
        "caution": settings.family.caution,
        "members": settings.members,
        "masks": None,
        **settings.options,
        "epochs": settings.recipe.epochs,
        "resumes": plan.resumes,
    }


def _loaded(settings: TrainSettings) -> Dataset:
    """The data that settings name."""
    if not is_own(settings.data):
        if settings.own:
            settings.own.check(settings.data)
        return load_data(settings.data, Path(settings.path) if settings.path else None)
    if settings.path:
        raise TurnoverError("--path is for data sets with files of their own form; leave it out")
    return load_own(settings.data, settings.own or OwnData(), settings.seed)


def _limited(data: Dataset, settings: TrainSettings) -> Dataset:
    """As many items of both splits as the settings want, with the near duplicates that they
    keep.
    """
    pairs = (
        pairs_between(Path(settings.keep), data.validation.ids, data.train.ids)
        if settings.keep
        else []
    )
    limits = {"validation": settings.validation_limit, "train": settings.limit}
    for column, (split, limit) in enumerate(limits.items()):
        if limit is not None:
            kept = {getattr(data, split).ids[pair[column]] for pair in pairs}
            data = limit_items(data, limit, settings.seed, kept, split)
    return data
