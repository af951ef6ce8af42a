"""The user's own data for a new run: checks without reading the data, and training options.

`clean` and `whole` make paths absolute, since a job runs in another folder. `own_problem` finds
what is wrong with the fields; `data_options` turns them into options of `turnover train`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from turnover.data.sources import SOURCES
from turnover.data.tables import FILES, HUB, OwnData, is_own
from turnover.data.tables.formats import ENDINGS
from turnover.errors import TurnoverError
from turnover.models.options import flag_of
from turnover.storage.atomic import user_path

OWN = {FILES: "Your own file", HUB: "A data set of the hub"}
"""Names in the form for data that are not in `turnover.data.sources.NAMES`."""
_PATHS = ("train", "validation", "test", "classes")
_NAME = 40


def whole(text: str) -> str:
    """The absolute path; text that cannot be a path stays as it is, and `path_problem` says why."""
    try:
        return str(user_path(text))
    except TurnoverError:
        return text


def path_problem(text: str, is_there: Callable[[Path], bool], what: str) -> str:
    """Why a path cannot be used, in a line; "" if `is_there` accepts it as a `what`."""
    try:
        return "" if is_there(user_path(text)) else f"{text}: no such {what}; check the path."
    except TurnoverError as error:
        return str(error)


def title_of(data: str) -> str:
    """The name of the data in the title of a training job."""
    return OWN[FILES] if data == FILES else data


def clean(own_data: OwnData) -> OwnData:
    """The settings with blank fields as None and paths absolute."""
    fields: dict[str, Any] = {
        name: value.strip() or None if isinstance(value, str) else value
        for name, value in asdict(own_data).items()
    }
    for name in _PATHS:
        fields[name] = whole(fields[name]) if fields[name] else None
    return OwnData(**fields)


def own_problem(data: str, own_data: OwnData) -> str:
    """What is wrong with the settings, in a line; "" if nothing is, short of reading the data."""
    if data == FILES and not own_data.train:
        return "Name the file or folder with the training items."
    if data == HUB:
        return "Name the data set as on the hub, such as stanfordnlp/sst2."
    for name in _PATHS:
        path_text = getattr(own_data, name)
        if not path_text:
            continue
        if wrong := path_problem(path_text, Path.exists, "file or folder"):
            return wrong
        path = Path(path_text)
        if name != "classes" and not path.is_dir() and path.suffix.lower() not in ENDINGS:
            return (
                f"{path}: neither a folder nor a file that ends with {', '.join(ENDINGS)}; convert "
                "or rename it."
            )
    try:
        own_data.check(data)
    except TurnoverError as error:
        return str(error)
    return ""


def data_options(data: str, path: str, own_data: OwnData | None) -> dict[str, object]:
    """The options of `turnover train` for the data: a known data set and its folder, or a user's
    own.
    """
    if not is_own(data):
        read = path and not SOURCES[data].packaged
        return {"--data": data, "--path": whole(path) if read else ""}
    own = replace(own_data or OwnData(), kind=None)
    options = {flag_of(name): value for name, value in asdict(own).items()}
    return options if data == FILES else {"--data": data, **options}


def own_name(data: str, own_data: OwnData) -> str:
    """A name for a run on the data."""
    name = Path(own_data.train or "").stem if data == FILES else data.removeprefix(HUB)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:_NAME].strip("-._") or "own"
