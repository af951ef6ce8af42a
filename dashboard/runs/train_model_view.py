"""The model fields of a new run: the options of its family, their errors, and what is sent.

A form's options are a flat dictionary by name, of the settings and of the model's family
(`turnover.models.options`). `cleaned` keeps what is chosen; `problems` and `notes` check it without
loading a model or running code; `sent` turns it into options of `turnover train`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from turnover.dashboard.shared.own_data_view import path_problem, whole
from turnover.errors import TurnoverError
from turnover.models.family import Family
from turnover.models.names import ALLOW
from turnover.models.options import Option, options_of
from turnover.models.registry import TrainSettings, families, find_family

SUITS = "what suits the data"
"""Stands for the default model of a user's own data, which depends on their kind."""
NOT_OFFERED = (
    f"Your own module is offered if the dashboard is started with {ALLOW}=FILE.py:function; "
    "whoever reaches this page, from any account of this machine, can run that code as you."
)
SHARED = tuple(option for option in options_of(TrainSettings) if option.label)
"""The options on the page that all models have."""


def titles_of(kind: str) -> dict[str, type[Family] | None]:
    """The families for data of a kind by their names on the page, the default first: `text`,
    `image`, or "" if the kind is known only once the data are read. The user's code is among them
    only where it may run.
    """
    offered = [family for family in families(kind) if family.choices()]
    titles: dict[str, type[Family] | None] = {} if kind else {SUITS: None}
    return titles | {family.title or family.name: family for family in offered}


def fields_of(model: str, kind: str) -> tuple[Option, ...]:
    """The options on the page that a value of `--model` has for data of a kind, all by default."""
    family = find_family(model) if model else None
    return tuple(option for option in family.options(kind) if option.label) if family else ()


def cleaned(values: Mapping[str, Any], options: Iterable[Option]) -> dict[str, Any]:
    """The options that are chosen, with absolute paths, since the job runs in another folder."""
    chosen: dict[str, Any] = {}
    for option in options:
        value: Any = values.get(option.name)
        value = value.strip() if isinstance(value, str) else value
        if value in (None, "", option.default):
            continue
        if option.path == "file" or (
            option.path and not path_problem(value, Path.is_dir, "folder")
        ):
            value = whole(value)
        chosen[option.name] = value
    return chosen


def sent(chosen: Mapping[str, Any], options: Iterable[Option]) -> dict[str, object]:
    """The options of `turnover train` for chosen ones; True stands for an option without a
    value.
    """
    return {
        option.flag: True if option.type is bool else chosen[option.name]
        for option in options
        if option.name in chosen
    }


def problems(model: str, chosen: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Errors in cleaned fields of a model, one line each, by field, as far as they can be found
    without loading a model or running code.
    """
    lines = {}
    for option in fields_of(model, kind):
        value = chosen.get(option.name)
        if value and option.path == "file" and (wrong := path_problem(value, Path.is_file, "file")):
            lines[option.name] = wrong
            continue
        try:
            option.check(chosen)
            if value and option.path:
                notes(model, {option.name: value})
        except TurnoverError as error:
            lines[option.name] = str(error)
    return lines


def notes(model: str, chosen: Mapping[str, Any]) -> dict[str, str]:
    """What valid cleaned fields of a model download from other machines, one line each, by
    field.
    """
    family = find_family(model)
    return family(**chosen).downloads() if family else {}


def module_problem(model: str) -> str:
    """Why code of the user's own cannot be used, in a line; errors that need running it are left to
    `train --check`, which builds the model.
    """
    family = find_family(model)
    if family is None or not family.code:
        return ""
    if model not in family.choices():
        return NOT_OFFERED
    file, _, _ = model.partition(":")
    return path_problem(file, Path.is_file, "file") if file.endswith(".py") else ""
