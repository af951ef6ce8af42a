"""Paths as fields of a form name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from turnover.errors import TurnoverError
from turnover.paths import user_path


def whole(text: str) -> str:
    """The whole path, since the work is done in another folder; what can be none stays as it is, and `path_problem` says why."""
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
