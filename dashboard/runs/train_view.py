"""The view model of a new run: a training request, its checks, and the steps of its job.

A `TrainingRequest` holds the values of the form. `problem_of` checks it as far as possible without
reading the data; `arguments` and `steps` turn it into commands of `turnover`; `build_report` shows
the output of `turnover train --check`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from turnover.dashboard.runs.train_model_view import (
    SHARED,
    SUITS,
    fields_of,
    module_problem,
    problems,
    sent,
)
from turnover.dashboard.shared.own_data_view import (
    data_options,
    own_name,
    own_problem,
    path_problem,
    title_of,
)
from turnover.data.sources import SOURCES
from turnover.data.tables import FILES, HUB, OwnData, is_own
from turnover.errors import TurnoverError
from turnover.models.family import Family
from turnover.models.names import ALLOW
from turnover.models.options import KINDS
from turnover.models.registry import TrainSettings, families, find_family, source_of

DEEP_TARGETS = 20
"""Errors for which a deep model's influences are computed: each needs a forward pass of the whole
model for every training item.
"""

_UNREAD = "not read yet"
"""Stands for the checksum of a file that only the training reads."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class TrainingRequest:
    """The values of the form; "" means the default of the data set or the model. `model` is a value
    of `--model`; `own` applies if `data` is files or a hub data set; `options` are cleaned ones
    (`turnover.dashboard.runs.train_model_view`).
    """

    data: str
    model: str
    name: str
    path: str = ""
    own: OwnData | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def named(self) -> bool:
        """Whether the data are named at all."""
        own = self.own or OwnData()
        return bool(own.train) if self.data == FILES else self.data != HUB

    @property
    def title(self) -> str:
        """The title of the job."""
        options = sent(self.options, fields_of(self.model, ""))
        words = [self.model or SUITS, *(f"{flag} {value}" for flag, value in options.items())]
        return f"Train {self.name}: {title_of(self.data)}, {' '.join(words)}"

    @property
    def family(self) -> Family:
        """The model's family, with the options of the form."""
        family = find_family(self.model) or families(self._kind)[0]
        mine = {option.name for option in family.options()}
        return family(**{name: value for name, value in self.options.items() if name in mine})

    @property
    def settings(self) -> TrainSettings:
        """The settings of the training, with all defaults filled in.

        Raises:
            TurnoverError: if the settings are inconsistent.
        """
        return TrainSettings.of(
            self.data,
            own=self.own,
            model=self.model or None,
            source=_UNREAD,
            **self.options,
        ).resolved(self._kind)

    @property
    def _kind(self) -> str:
        """`text` or `image`; for a user's own data, not read yet, a kind that the model takes."""
        family = find_family(self.model) if self.model else None
        return kind_of(self.data) or (family.kinds[0] if family else "text")


@dataclass(frozen=True)
class Report:
    """The result of a check: the kind of the data, a sentence, remarks, and the classes as a
    table.
    """

    kind: str
    sentence: str
    lines: tuple[str, ...]
    table: pd.DataFrame


def kind_of(data: str) -> str:
    """`text` or `image`; "" for a user's own data, which must be read first."""
    return "" if is_own(data) else SOURCES[data].kind


def is_remote(request: TrainingRequest) -> bool:
    """Whether looking at the data may download them."""
    source = SOURCES.get(request.data)
    return request.data.startswith(HUB) or bool(source and source.hub and not request.path)


def free_name(data: str, runs: Path, own_data: OwnData | None = None) -> str:
    """A name that no run or training has."""
    number, name = 1, own_name(data, own_data or OwnData()) if is_own(data) else data
    while _taken(f"{name}-{number}", runs):
        number += 1
    return f"{name}-{number}"


def usual_values(
    data: str, model: str, options: Mapping[str, Any], kind: str = ""
) -> dict[str, str]:
    """The values that empty fields stand for, for data of a kind, as far as that is known."""
    request, kind = TrainingRequest(data, model, "x", options=options), kind or kind_of(data)
    family, kinds = request.family, (kind,) if kind else KINDS
    first, *others = (source_of(data, kind) for kind in kinds if kind in family.kinds)
    members = [f"{1 if family.deep else source.members}" for source in (first, *others)]
    return {
        "members": members[0] if len({*members}) == 1 else f"{members[0]}, images {members[1]}",
        "epochs": f"{(family.recipe or first.recipe).epochs}",
        "label_noise": f"{first.label_noise:g}",
    }


def name_problem(name: str, runs: Path) -> str:
    """What is wrong with the name of a run, in a line; "" if nothing is."""
    if not _NAME.fullmatch(name) or name.endswith(".partial"):
        return (
            "A run's name has letters, digits, dots, dashes and underscores, begins with a letter "
            "or a digit, and has at most 80 characters."
        )
    if (runs / name).exists():
        return f"There is a run named {name} already; choose another name."
    return ""


def data_problem(request: TrainingRequest) -> str:
    """What is wrong with the data, in a line, short of reading them; "" if nothing is."""
    if is_own(request.data):
        return own_problem(request.data, request.own or OwnData())
    return _path_problem(request)


def problem_of(request: TrainingRequest, runs: Path) -> str:
    """What is wrong with a request, in a line; "" if nothing is, short of reading the data."""
    if wrong := (
        module_problem(request.model) or name_problem(request.name, runs) or data_problem(request)
    ):
        return wrong
    if marked := problems(request.model, request.options, kind_of(request.data)):
        return next(iter(marked.values()))
    try:
        _ = request.settings
    except TurnoverError as error:
        return str(error)
    return ""


def _path_problem(request: TrainingRequest) -> str:
    source = SOURCES[request.data]
    if source.packaged:
        return ""
    if request.path:
        return path_problem(request.path, Path.is_dir, "folder")
    return "" if source.hub else f"Name the folder with the files of {request.data}."


def arguments(request: TrainingRequest, runs: Path) -> list[str]:
    """The arguments of `turnover` for the training."""
    options = {
        **data_options(request.data, request.path, request.own),
        "--model": request.model,
        **sent(request.options, (*fields_of(request.model, ""), *SHARED)),
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


def steps(request: TrainingRequest, runs: Path) -> list[list[str]]:
    """The steps of the job: train, then compute the influences."""
    targets = ["--targets", "errors", "--most", str(DEEP_TARGETS)] if request.family.deep else []
    code = ["--model", request.model] if request.family.code else []
    return [
        arguments(request, runs),
        ["influence", "--run", str(runs / request.name), *targets, *code],
    ]


def what_follows(request: TrainingRequest) -> str:
    """What the job does after training, in a sentence."""
    targets = (
        f"at most {DEEP_TARGETS} errors, since this model "
        f"{'may be' if request.family.code else 'is'} deep"
        if request.family.deep
        else "all validation items"
    )
    later = (
        f" Only a dashboard that was started with {ALLOW}={request.model}, as this one, "
        "retrains it, tries inputs or marks regions."
    )
    return (
        f"After the training, influences are computed on {targets}. Close this page if you like: "
        "the work goes on, and is here when you come back."
        f"{later if request.family.code else ''}"
    )


def build_report(checked: dict[str, Any], own: OwnData | None = None) -> Report:
    """The report in the output of `turnover train --check --json`; files of a user are named
    without their folder.
    """
    folder = f"{Path(own.train).parent}/" if own and own.train else "\0"
    wrong = (
        f" {checked['injected_labels']:,} training labels are wrong on purpose."
        if checked["injected_labels"]
        else ""
    )
    sentence = (
        f"{checked['data'].replace(folder, '')}: {checked['train_size']:,} training and "
        f"{checked['validation_size']:,} validation {checked['kind']}s in "
        f"{len(checked['classes'])} classes.{wrong}"
    )
    table = pd.DataFrame(checked["classes"]).rename(
        columns={"name": "Class", "train": "Training items", "validation": "Validation items"}
    )
    lines = tuple(line.replace(folder, "") for line in checked["data_report"])
    return Report(checked["kind"], sentence, lines, table)


def _taken(name: str, runs: Path) -> bool:
    return (runs / name).exists() or (runs / f"{name}.partial").exists()
