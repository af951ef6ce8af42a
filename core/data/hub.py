"""Data sets by hub name, through `datasets`: read only when the user names one, and the only part here that needs a network."""

from __future__ import annotations

from typing import Any

from core.errors import TurnoverError


def hub_splits(name: str, title: str, splits: tuple[str, ...], columns: tuple[str, ...]) -> list[Any]:
    """These splits of a hub data set, each with at least these columns.

    Raises:
        TurnoverError: if the hub cannot be reached, or a split or a column is not there.
    """
    import datasets

    try:
        loaded = datasets.load_dataset(name)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TurnoverError(f"{title} cannot be loaded from the hub as {name} ({reason}); give a local folder with --path") from None
    for split in splits:
        if split not in loaded:
            raise TurnoverError(f"{name}: no split {split!r} (there are: {', '.join(map(str, loaded))}); give a local folder with --path")
        for column in columns:
            if column not in loaded[split].column_names:
                there = ", ".join(loaded[split].column_names)
                raise TurnoverError(f"{name}, split {split}: no column {column!r} (there are: {there}); give a local folder with --path")
    return [loaded[split] for split in splits]
