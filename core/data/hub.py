"""Data sets by hub name, through `datasets`: read only when the user names one, and the only part here that needs a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnover.errors import TurnoverError

_REMEDY = "give a local folder with --path"


def hub_data(name: str, title: str, remedy: str = _REMEDY, configuration: str | None = None) -> Mapping[str, Any]:
    """All splits of a hub data set, by name; `title` and `remedy` are for the error.

    Raises:
        TurnoverError: if it cannot be loaded.
    """
    import datasets

    try:
        return datasets.load_dataset(name, *([configuration] if configuration else []))
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TurnoverError(f"{title} cannot be loaded from the hub as {name} ({reason}); {remedy}") from None


def hub_splits(name: str, title: str, splits: tuple[str, ...], columns: tuple[str, ...]) -> list[Any]:
    """These splits of a hub data set, each with at least these columns.

    Raises:
        TurnoverError: if the hub cannot be reached, or a split or a column is not there.
    """
    loaded = hub_data(name, title)
    for split in splits:
        if split not in loaded:
            raise TurnoverError(f"{name}: no split {split!r} (there are: {', '.join(map(str, loaded))}); {_REMEDY}")
        for column in columns:
            if column not in loaded[split].column_names:
                there = ", ".join(loaded[split].column_names)
                raise TurnoverError(f"{name}, split {split}: no column {column!r} (there are: {there}); {_REMEDY}")
    return [loaded[split] for split in splits]
