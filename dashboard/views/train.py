"""The view model of the Train page: a training request, its checks, and the steps of its job.

A `TrainingRequest` holds the values of the form. `problem_of` checks it as far as possible without
reading the data; `arguments` and `steps` turn it into commands of `turnover`; `build_report` shows
the output of `turnover train --check`.
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
"""Groups of units that a mask switches, the default first."""

DEEP_TARGETS = 20
"""Errors for which a deep model's influences are computed: each needs a forward pass of the whole
model for every training item.
"""

SUITS = "what suits the data"
"""Stands for the default model of a user's own data, which depends on their kind."""

_UNREAD = "not read yet"
"""Stands for the checksum of a file that only the training reads."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class TrainingRequest:
    """The values of the form; None and "" mean the data set's defaults. `noise` is in percent;
    `own` applies if `data` is files or a hub data set.
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
        """The title of the job."""
        start = f" from {self.details.from_layer}" if self.details.from_layer else ""
        return (
            f"Train {self.name}: {title_of(self.data)}, {name_of(self.model, self.details)}{start}"
        )

    @property
    def deep(self) -> bool:
        """Whether influences need a forward pass of the whole model for every training item;
        assumed of a user's own module.
        """
        return self.model in (*DEEP_MODELS, MODULE) or bool(self.details.from_layer)

    @property
    def settings(self) -> TrainSettings:
        """The settings of the training, with all defaults filled in.

        Raises:
            TurnoverError: if the settings are inconsistent.
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
        """`text` or `image`; for a user's own data, not read yet, the kind that the model takes."""
        return kind_of(self.data) or (
            "image"
            if self.model in (*IMAGE_MODELS, NETWORK) and self.model not in TEXT_MODELS
            else "text"
        )


@dataclass(frozen=True)
class Report:
    """The result of a check: a sentence, remarks on the data, whether the training resumes an
    earlier one, and the classes as a table.
    """

    sentence: str
    lines: tuple[str, ...]
    resumes: str
    table: pd.DataFrame


def kind_of(data: str) -> str:
    """`text` or `image`; "" for a user's own data, which must be read first."""
    return "" if is_own(data) else SOURCES[data].kind


def models_of(data: str, own_code: bool = False) -> tuple[str, ...]:
    """The models that fit a data set, the default first; with `own_code`, also a user's module."""
    known = {
        "text": TEXT_MODELS,
        "image": (*IMAGE_MODELS, NETWORK),
        "": (SUITS, *dict.fromkeys((*TEXT_MODELS, *IMAGE_MODELS)), NETWORK),
    }
    return (*known[kind_of(data)], MODULE) if own_code else known[kind_of(data)]


def free_name(data: str, runs: Path, own_data: OwnData | None = None) -> str:
    """A name that no run or training has."""
    number, name = 1, own_name(data, own_data or OwnData()) if is_own(data) else data
    while _taken(f"{name}-{number}", runs):
        number += 1
    return f"{name}-{number}"


def usual_values(data: str, model: str, details: Details = USUAL) -> dict[str, str]:
    """The values that empty fields stand for, as far as known before the data are read."""
    request = TrainingRequest(
        data,
        model,
        "x",
        details=(
            replace(details, weights="", layers=None) if model != MODULE else Details(module="a:b")
        ),
    )
    known = request.settings
    if is_own(data) and not request.deep:
        members = "16, images 8" if model in (SUITS, "heads") else f"{known.members}"
        return {"members": members, "epochs": f"{known.recipe.epochs}", "noise": "0"}
    return {
        "members": f"{known.members}",
        "epochs": f"{known.recipe.epochs}",
        "noise": f"{100 * (known.label_noise or 0):g}",
    }


def problem_of(request: TrainingRequest, runs: Path, modules: Sequence[str] = ()) -> str:
    """What is wrong with a request, in a line; "" if nothing is, short of reading the data.
    `modules` are the user's modules that may run.
    """
    if request.model == MODULE and request.details.module not in modules:
        return NOT_OFFERED
    if not _NAME.fullmatch(request.name) or request.name.endswith(".partial"):
        return (
            "A run's name has letters, digits, dots, dashes and underscores, begins with a letter "
            "or a digit, and has at most 80 characters."
        )
    if (runs / request.name).exists():
        return f"There is a run named {request.name} already; choose another name."
    if wrong := (
        own_problem(request.data, request.own or OwnData())
        if is_own(request.data)
        else _path_problem(request)
    ):
        return wrong
    if marked := problems(request.model, request.details):
        return next(iter(marked.values()))
    try:
        _ = request.settings
    except TurnoverError as error:
        return str(error)
    return ""


def _path_problem(request: TrainingRequest) -> str:
    source = SOURCES[request.data]
    if not source.packaged and not request.path and not source.hub:
        return f"Name the folder with the files of {request.data}."
    return (
        ""
        if source.packaged or not request.path
        else path_problem(request.path, Path.is_dir, "folder")
    )


def arguments(request: TrainingRequest, runs: Path) -> list[str]:
    """The arguments of `turnover` for the training."""
    options = {
        **(
            own_options(request.data, request.own or OwnData())
            if is_own(request.data)
            else _named_options(request)
        ),
        "--model": "" if request.model == SUITS else name_of(request.model, request.details),
        **options_of(request.model, request.details),
        "--limit": request.limit,
        "--validation-limit": request.validation_limit,
        "--members": request.members,
        "--groups": None if request.model == MODULE else request.groups,
        "--epochs": request.epochs,
        "--label-noise": None if request.noise is None else f"{request.noise / 100:g}",
        "--seed": request.seed,
        "--run": runs / request.name,
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


def _named_options(request: TrainingRequest) -> dict[str, object]:
    """The options for a known data set and its folder."""
    return {
        "--data": request.data,
        "--path": "" if SOURCES[request.data].packaged or not request.path else whole(request.path),
    }


def steps(request: TrainingRequest, runs: Path) -> list[list[str]]:
    """The steps of the job: train, then compute the influences."""
    targets = ["--targets", "errors", "--most", str(DEEP_TARGETS)] if request.deep else []
    code = ["--model", request.details.module] if request.model == MODULE else []
    return [
        arguments(request, runs),
        ["influence", "--run", str(runs / request.name), *targets, *code],
    ]


def what_follows(request: TrainingRequest) -> str:
    """What the job does after training, in a sentence."""
    targets = (
        f"at most {DEEP_TARGETS} errors, since this model "
        f"{'may be' if request.model == MODULE else 'is'} deep"
        if request.deep
        else "all validation items"
    )
    code = (
        f" Only a dashboard that was started with {ALLOW}={request.details.module}, as this one, "
        "retrains it, tries inputs or marks regions."
    )
    later = code if request.model == MODULE else ""
    return (
        f"After the training, influences are computed on {targets}. Close this page if you like: "
        f"the work goes on, and is here when you come back.{later}"
    )


def build_report(checked: dict[str, Any]) -> Report:
    """The report in the output of `turnover train --check --json`."""
    wrong = (
        f" {checked['injected_labels']:,} training labels are wrong on purpose."
        if checked["injected_labels"]
        else ""
    )
    sentence = (
        f"{checked['data']}: {checked['train_size']:,} training and "
        f"{checked['validation_size']:,} validation {checked['kind']}s in "
        f"{len(checked['classes'])} classes.{wrong} {checked['model']} with "
        f"{counted(checked['members'], 'member')}, at most {counted(checked['epochs'], 'epoch')}."
    )
    resumes = (
        "A training of this name was stopped earlier; it goes on from there."
        if checked["resumes"]
        else ""
    )
    table = pd.DataFrame(checked["classes"]).rename(
        columns={"name": "Class", "train": "Training items", "validation": "Validation items"}
    )
    return Report(sentence, tuple(checked["data_report"]), resumes, table)


def _taken(name: str, runs: Path) -> bool:
    return (runs / name).exists() or (runs / f"{name}.partial").exists()
