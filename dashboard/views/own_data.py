"""Data of one's own on the Train page: what can be seen of them without reading them, and the
options that train on them.

Paths as fields of a form name them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from turnover.data.tables import FILES, HUB, OwnData
from turnover.data.tables.formats import ENDINGS
from turnover.errors import TurnoverError
from turnover.storage.atomic import user_path


def whole(text: str) -> str:
    """The whole path, since the work is done in another folder; what can be none stays as it is,
    and `path_problem` says why.
    """
    try:
        return str(user_path(text))
    except TurnoverError:
        return text


def path_problem(text: str, is_there: Callable[[Path], bool], what: str) -> str:
    """Why a path cannot be used, in a line; "" if `is_there` says that it names a `what`."""
    try:
        return "" if is_there(user_path(text)) else f"{text}: no such {what}; check the path."
    except TurnoverError as error:
        return str(error)


OWN = {FILES: "your own files", HUB: "any data set of the hub"}
"""What the form calls data that are not in `turnover.data.sources.NAMES`."""
_PATHS = ("train", "validation", "test", "classes")
_NAME = 40


def title_of(data: str) -> str:
    """What to call a training's data."""
    return OWN[FILES] if data == FILES else data


def clean(wish: OwnData) -> OwnData:
    """The same without blank fields, and with whole paths: the work is done in another folder."""
    said: dict[str, Any] = {
        name: value.strip() or None if isinstance(value, str) else value
        for name, value in asdict(wish).items()
    }
    for name in _PATHS:
        said[name] = whole(said[name]) if said[name] else None
    return OwnData(**said)


def own_problem(data: str, wish: OwnData) -> str:
    """What is wrong with a wish, in a line; "" if nothing can be seen without reading the data."""
    if data == FILES and not wish.train:
        return "Name the file or folder with the training items."
    if data == HUB:
        return "Name the data set as on the hub, such as stanfordnlp/sst2."
    for name in _PATHS:
        named = getattr(wish, name)
        if not named:
            continue
        if wrong := path_problem(named, Path.exists, "file or folder"):
            return wrong
        path = Path(named)
        if name != "classes" and not path.is_dir() and path.suffix.lower() not in ENDINGS:
            return (
                f"{path}: neither a folder nor a file that ends with {', '.join(ENDINGS)}; convert "
                "or rename it."
            )
    try:
        wish.check(data)
    except TurnoverError as error:
        return str(error)
    return ""


def own_options(data: str, wish: OwnData) -> dict[str, object]:
    """The options of `train` that say the same."""
    own = {
        f"--{name.replace('_', '-')}": value
        for name, value in asdict(replace(wish, kind=None)).items()
    }
    return own if data == FILES else {"--data": data, **own}


def own_name(data: str, wish: OwnData) -> str:
    """What a run on the data may be called."""
    known = Path(wish.train or "").stem if data == FILES else data.removeprefix(HUB)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", known).strip("-._")[:_NAME].strip("-._") or "own"
