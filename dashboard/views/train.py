"""A training as a user wishes it: checked as far as it can be without its data, and turned into the
steps of a job.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from turnover.dashboard.views.own_data import (
    own_name,
    own_options,
    own_problem,
    path_problem,
    title_of,
    whole,
)
from turnover.dashboard.views.train_model import (
    MODULE,
    NETWORK,
    NOT_OFFERED,
    PRETRAINED,
    USUAL,
    Details,
    encoder_of,
    name_of,
    options_of,
    problems,
)
from turnover.data.sources import SOURCES
from turnover.data.tables import OwnData, is_own
from turnover.errors import TurnoverError, counted
from turnover.models.names import ALLOW
from turnover.models.registry import DEEP_MODELS, IMAGE_MODELS, TEXT_MODELS, TrainSettings

GROUPS = {16: "16 groups", 8: "8 groups", 32: "32 groups", 0: "single units"}
"""What a mask masks, the usual first."""

DEEP_TARGETS = 20
"""Errors that a deep model's influences are computed on: each takes a forward pass of the whole
model for every training item.
"""

SUITS = "what suits the data"
"""In the place of a model, where data of one's own decide."""

_UNREAD = "not read yet"
"""In the place of the checksum of a file that the training reads."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class TrainingRequest:
    """What the form says; None and "" mean the data set's own. `noise` is in percent; `own` counts
    where `data` are files or of the hub.
    """

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
    own: OwnData | None = None
    details: Details = USUAL

    @property
    def title(self) -> str:
        """What a job that trains it is called."""
        start = f" from {self.details.from_layer}" if self.details.from_layer else ""
        return (
            f"Train {self.name}: {title_of(self.data)}, {name_of(self.model, self.details)}{start}"
        )

    @property
    def deep(self) -> bool:
        """Whether a forward pass of the whole model is needed for every training item; taken for
        granted of a user's own.
        """
        return self.model in (*DEEP_MODELS, MODULE) or bool(self.details.from_layer)

    @property
    def settings(self) -> TrainSettings:
        """The same as settings of a training, with every default filled in.

        Raises:
            TurnoverError: if they do not go together.
        """
        return TrainSettings(
            self.data,
            own=self.own,
            limit=self.limit,
            validation_limit=self.validation_limit,
            label_noise=None if self.noise is None else self.noise / 100,
            members=self.members,
            groups=None if self.model == MODULE else self.groups,
            seed=self.seed,
            encoder=encoder_of(self.details),
            model=None if self.model == SUITS else name_of(self.model, self.details),
            layers=self.details.layers,
            epochs=self.epochs,
            source=_UNREAD,
            weights=self.details.weights or None,
            pretrained=self.details.source == PRETRAINED,
            from_layer=self.details.from_layer or None,
        ).resolved(self._kind)

    @property
    def _kind(self) -> str:
        """`text` or `image`; of data of one's own it is not known before they are read, so the one
        that the model reads.
        """
        return kind_of(self.data) or (
            "image"
            if self.model in (*IMAGE_MODELS, NETWORK) and self.model not in TEXT_MODELS
            else "text"
        )


@dataclass(frozen=True)
class Report:
    """What a training would be made of: a sentence, what a person should know of the data in lines,
    and the classes as a table.
    """

    sentence: str
    lines: tuple[str, ...]
    resumes: str
    table: pd.DataFrame


def kind_of(data: str) -> str:
    """`text` or `image`; "" of data of one's own, which have to be read first."""
    return "" if is_own(data) else SOURCES[data].kind


def models_of(data: str, own_code: bool = False) -> tuple[str, ...]:
    """The models that fit a data set, the usual first; a module of the user's own where there is
    one that may be run.
    """
    known = {
        "text": TEXT_MODELS,
        "image": (*IMAGE_MODELS, NETWORK),
        "": (SUITS, *dict.fromkeys((*TEXT_MODELS, *IMAGE_MODELS)), NETWORK),
    }
    return (*known[kind_of(data)], MODULE) if own_code else known[kind_of(data)]


def free_name(data: str, runs: Path, own: OwnData | None = None) -> str:
    """A name that no run has."""
    number, name = 1, own_name(data, own or OwnData()) if is_own(data) else data
    while _taken(f"{name}-{number}", runs):
        number += 1
    return f"{name}-{number}"


def usual_values(data: str, model: str, details: Details = USUAL) -> dict[str, str]:
    """What empty fields mean, as far as it is known before the data are read."""
    wish = TrainingRequest(
        data,
        model,
        "x",
        details=(
            replace(details, weights="", layers=None) if model != MODULE else Details(module="a:b")
        ),
    )
    known = wish.settings
    if is_own(data) and not wish.deep:
        members = "16, images 8" if model in (SUITS, "heads") else f"{known.members}"
        return {"members": members, "epochs": f"{known.recipe.epochs}", "noise": "0"}
    return {
        "members": f"{known.members}",
        "epochs": f"{known.recipe.epochs}",
        "noise": f"{100 * (known.label_noise or 0):g}",
    }


def problem_of(wish: TrainingRequest, runs: Path, modules: Sequence[str] = ()) -> str:
    """What is wrong with a wish, in a line; "" if nothing can be seen without the data. `modules`
    of the user's own may be run.
    """
    if wish.model == MODULE and wish.details.module not in modules:
        return NOT_OFFERED
    if not _NAME.fullmatch(wish.name) or wish.name.endswith(".partial"):
        return (
            "A run's name has letters, digits, dots, dashes and underscores, begins with a letter "
            "or a digit, and has at most 80 characters."
        )
    if (runs / wish.name).exists():
        return f"There is a run named {wish.name} already; choose another name."
    if wrong := (
        own_problem(wish.data, wish.own or OwnData()) if is_own(wish.data) else _path_problem(wish)
    ):
        return wrong
    if marked := problems(wish.model, wish.details):
        return next(iter(marked.values()))
    try:
        _ = wish.settings
    except TurnoverError as error:
        return str(error)
    return ""


def _path_problem(wish: TrainingRequest) -> str:
    source = SOURCES[wish.data]
    if not source.packaged and not wish.path and not source.hub:
        return f"Name the folder with the files of {wish.data}."
    return (
        "" if source.packaged or not wish.path else path_problem(wish.path, Path.is_dir, "folder")
    )


def arguments(wish: TrainingRequest, runs: Path) -> list[str]:
    """The arguments of `turnover` that train it."""
    options = {
        **(
            own_options(wish.data, wish.own or OwnData())
            if is_own(wish.data)
            else _named_options(wish)
        ),
        "--model": "" if wish.model == SUITS else name_of(wish.model, wish.details),
        **options_of(wish.model, wish.details),
        "--limit": wish.limit,
        "--validation-limit": wish.validation_limit,
        "--members": wish.members,
        "--groups": None if wish.model == MODULE else wish.groups,
        "--epochs": wish.epochs,
        "--label-noise": None if wish.noise is None else f"{wish.noise / 100:g}",
        "--seed": wish.seed,
        "--run": runs / wish.name,
    }
    return [
        "train",
        *(
            f"{part}"
            for name, value in options.items()
            if value not in (None, "")
            for part in ((name,) if value is True else (name, value))
        ),
    ]


def _named_options(wish: TrainingRequest) -> dict[str, object]:
    """Which of the known data sets, and where its files are."""
    return {
        "--data": wish.data,
        "--path": "" if SOURCES[wish.data].packaged or not wish.path else whole(wish.path),
    }


def steps(wish: TrainingRequest, runs: Path) -> list[list[str]]:
    """The steps of the job: train, then compute the influences."""
    few = ["--targets", "errors", "--most", str(DEEP_TARGETS)] if wish.deep else []
    code = ["--model", wish.details.module] if wish.model == MODULE else []
    return [arguments(wish, runs), ["influence", "--run", str(runs / wish.name), *few, *code]]


def what_follows(wish: TrainingRequest) -> str:
    """What is done after training, in a sentence."""
    targets = (
        f"at most {DEEP_TARGETS} errors, since this model "
        f"{'may be' if wish.model == MODULE else 'is'} deep"
        if wish.deep
        else "all validation items"
    )
    code = (
        f" Only a dashboard that was started with {ALLOW}={wish.details.module}, as this one, "
        "retrains it, tries inputs or marks regions."
    )
    later = code if wish.model == MODULE else ""
    return (
        f"After the training, influences are computed on {targets}. Close this page if you like: "
        f"the work goes on, and is here when you come back.{later}"
    )


def build_report(told: dict[str, Any]) -> Report:
    """What `turnover train --check` said."""
    wrong = (
        f" {told['injected_labels']:,} training labels are wrong on purpose."
        if told["injected_labels"]
        else ""
    )
    sentence = (
        f"{told['data']}: {told['train_size']:,} training and {told['validation_size']:,} "
        f"validation {told['kind']}s in {len(told['classes'])} classes.{wrong} {told['model']} "
        f"with {counted(told['members'], 'member')}, at most {counted(told['epochs'], 'epoch')}."
    )
    resumes = (
        "A training of this name was stopped earlier; it goes on from there."
        if told["resumes"]
        else ""
    )
    table = pd.DataFrame(told["classes"]).rename(
        columns={"name": "Class", "train": "Training items", "validation": "Validation items"}
    )
    return Report(sentence, tuple(told["data_report"]), resumes, table)


def _taken(name: str, runs: Path) -> bool:
    return (runs / name).exists() or (runs / f"{name}.partial").exists()
