"""A training as a user wishes it: checked as far as it can be without its data, and turned into the steps of a job."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from core.data import SOURCES
from core.errors import TurnoverError
from core.pipeline.settings import DEEP_MODELS, IMAGE_MODELS, TEXT_MODELS, TrainSettings

GROUPS = {16: "16 groups", 8: "8 groups", 32: "32 groups", 0: "single units"}
"""What a mask masks, the usual first."""

DEEP_TARGETS = 20
"""Errors that a deep model's influences are computed on: each takes a forward pass of the whole model for every training item."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Wish:
    """What the form says; None and "" mean the data set's own. `noise` is in percent."""

    data: str
    model: str
    name: str
    path: str = ""
    limit: int | None = None
    validation_limit: int | None = None
    members: int | None = None
    groups: int = 16
    epochs: int | None = None
    noise: float | None = None
    seed: int = 0

    @property
    def settings(self) -> TrainSettings:
        """The same as settings of a training, with every default filled in.

        Raises:
            TurnoverError: if they do not go together.
        """
        return TrainSettings(
            self.data,
            limit=self.limit,
            validation_limit=self.validation_limit,
            label_noise=None if self.noise is None else self.noise / 100,
            members=self.members,
            groups=self.groups,
            seed=self.seed,
            model=self.model,
            epochs=self.epochs,
        ).resolved(SOURCES[self.data].kind)


@dataclass(frozen=True)
class Report:
    """What a training would be made of, in a sentence, and its classes as a table."""

    sentence: str
    resumes: str
    table: pd.DataFrame


def models_of(data: str) -> tuple[str, ...]:
    """The models that fit a data set, the usual first."""
    return TEXT_MODELS if SOURCES[data].kind == "text" else IMAGE_MODELS


def free_name(data: str, runs: Path) -> str:
    """A name that no run has."""
    number = 1
    while _taken(f"{data}-{number}", runs):
        number += 1
    return f"{data}-{number}"


def problem_of(wish: Wish, runs: Path) -> str:
    """What is wrong with a wish, in a line; "" if nothing can be seen without the data."""
    if not _NAME.fullmatch(wish.name) or wish.name.endswith(".partial"):
        return "A run's name has letters, digits, dots, dashes and underscores, begins with a letter or a digit, and has at most 80 characters."
    if (runs / wish.name).exists():
        return f"There is a run named {wish.name} already; choose another name."
    source = SOURCES[wish.data]
    if not source.packaged and not wish.path and not source.hub:
        return f"Name the folder with the files of {wish.data}."
    if not source.packaged and wish.path and not Path(wish.path).expanduser().is_dir():
        return f"{wish.path}: no such folder; check the path."
    try:
        _ = wish.settings
    except TurnoverError as error:
        return str(error)
    return ""


def arguments(wish: Wish, runs: Path) -> list[str]:
    """The arguments of `python -m core` that train it."""
    options = {
        "--data": wish.data,
        "--path": "" if SOURCES[wish.data].packaged or not wish.path else str(Path(wish.path).expanduser()),
        "--model": wish.model,
        "--limit": wish.limit,
        "--validation-limit": wish.validation_limit,
        "--members": wish.members,
        "--groups": wish.groups,
        "--epochs": wish.epochs,
        "--label-noise": None if wish.noise is None else f"{wish.noise / 100:g}",
        "--seed": wish.seed,
        "--run": runs / wish.name,
    }
    return ["train", *(f"{part}" for name, value in options.items() if value not in (None, "") for part in (name, value))]


def steps(wish: Wish, runs: Path) -> list[list[str]]:
    """The steps of the job: train, then compute the influences."""
    few = ["--targets", "errors", "--most", str(DEEP_TARGETS)] if wish.model in DEEP_MODELS else []
    return [arguments(wish, runs), ["influence", "--run", str(runs / wish.name), *few]]


def what_follows(wish: Wish) -> str:
    """What is done after training, in a sentence."""
    targets = f"at most {DEEP_TARGETS} errors, since this model is deep" if wish.model in DEEP_MODELS else "all validation items"
    return f"After the training, influences are computed on {targets}. Close this page if you like: the work goes on, and is here when you come back."


def build_report(told: dict[str, Any]) -> Report:
    """What `python -m core train --check` said."""
    wrong = f" {told['planted_labels']:,} training labels are wrong on purpose." if told["planted_labels"] else ""
    sentence = (
        f"{told['data']}: {told['train_size']:,} training and {told['validation_size']:,} validation {told['kind']}s in {len(told['classes'])} classes."
        f"{wrong} {told['model']} with {told['members']} members, at most {told['epochs']} epochs."
    )
    resumes = "A training of this name was stopped earlier; it goes on from there." if told["resumes"] else ""
    table = pd.DataFrame(told["classes"]).rename(columns={"name": "Class", "train": "Training items", "validation": "Validation items"})
    return Report(sentence, resumes, table)


def _taken(name: str, runs: Path) -> bool:
    return (runs / name).exists() or (runs / f"{name}.partial").exists()
