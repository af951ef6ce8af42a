"""Data sets of the hub as tables, through `datasets`.

They are read only when the user names one: the only part here that needs a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnover.data.base import Origin
from turnover.data.tables.arrow import arrow_table
from turnover.data.tables.checks import check_column
from turnover.data.tables.spec import HUB, OwnData
from turnover.data.tables.table import Table
from turnover.errors import TurnoverError

_REMEDY = "give a local folder with --path"


def hub_data(
    name: str, title: str, remedy: str = _REMEDY, configuration: str | None = None
) -> Mapping[str, Any]:
    """All splits of a hub data set, by name; `title` and `remedy` appear in the error.

    Raises:
        TurnoverError: if it cannot be loaded.
    """
    import datasets

    try:
        return datasets.load_dataset(name, *([configuration] if configuration else []))
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TurnoverError(
            f"{title} cannot be loaded from the hub as {name} ({reason}); {remedy}"
        ) from None


def hub_splits(
    name: str, title: str, splits: tuple[str, ...], columns: tuple[str, ...]
) -> list[Any]:
    """These splits of a hub data set, each with at least these columns.

    Raises:
        TurnoverError: if the hub cannot be reached, or a split or a column does not exist.
    """
    loaded = hub_data(name, title)
    for split in splits:
        if split not in loaded:
            raise TurnoverError(
                f"{name}: no split {split!r} (there are: {', '.join(map(str, loaded))}); {_REMEDY}"
            )
        for column in columns:
            check_column(column, loaded[split].column_names, f"{name}, split {split}", _REMEDY)
    return [loaded[split] for split in splits]


# A data set that the user names

_TRAINING, _VALIDATION = ("train", "training"), ("validation", "valid", "val", "dev", "test")


def read_hub(data: str, spec: OwnData) -> tuple[Table, Table | None]:
    """The training table and, if there is a validation split, the validation table.

    Raises:
        TurnoverError: if the hub cannot be reached, or a split does not exist.
    """
    name, _, configuration = data.removeprefix(HUB).partition(":")
    loaded = hub_data(name, name, "download it and give files with --train", configuration or None)
    training = spec.train_split or next((split for split in _TRAINING if split in loaded), "train")
    others = (split for split in _VALIDATION if split in loaded and split != training)
    validation = spec.validation_split or next(others, None)
    for split, option in ((training, "train"), (validation, "validation")):
        if split and split not in loaded:
            there = ", ".join(map(str, loaded))
            raise TurnoverError(
                f"{name}: no split {split!r} (there are: {there}); name one with --{option}-split"
            )
    tables = [_table(data, name, split, loaded) for split in (training, validation) if split]
    return tables[0], tables[1] if validation else None


def _table(data: str, name: str, split: str, loaded: Mapping[str, Any]) -> Table:
    import datasets
    from datasets.table import embed_table_storage

    rows = loaded[split]
    arrow = rows.with_format("arrow")[:]
    if any(isinstance(feature, datasets.Image) for feature in rows.features.values()):
        # images that are in files beside the table
        arrow = embed_table_storage(arrow.cast(rows.features.arrow_schema))
    return arrow_table(arrow, f"{name}, split {split}", split, Origin(data))
