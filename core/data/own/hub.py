"""A data set of the hub as tables; `datasets` reads it, by a name that the user gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from turnover.data.hub import hub_data
from turnover.data.own.files import arrow_table
from turnover.data.own.table import Table
from turnover.data.own.wish import HUB, OwnData
from turnover.errors import TurnoverError

_REMEDY = "name one with --{}-split"
_TRAINING, _VALIDATION = ("train", "training"), ("validation", "valid", "val", "dev", "test")


def read_hub(data: str, wish: OwnData) -> tuple[Table, Table | None]:
    """The training table and, if there is a split for it, that of the validation.

    Raises:
        TurnoverError: if the hub cannot be reached, or a split is not there.
    """
    name, _, configuration = data.removeprefix(HUB).partition(":")
    loaded = hub_data(name, name, "download it and give files with --train", configuration or None)
    training = wish.train_split or next((split for split in _TRAINING if split in loaded), None)
    others = (split for split in _VALIDATION if split in loaded and split != training)
    validation = wish.validation_split or next(others, None)
    for split, option in ((training, "train"), (validation, "validation")):
        if (split or option == "train") and split not in loaded:
            there = ", ".join(map(str, loaded))
            raise TurnoverError(f"{name}: no split {split or 'train'!r} (there are: {there}); {_REMEDY.format(option)}")
    return _table(name, str(training), loaded), _table(name, validation, loaded) if validation else None


def _table(name: str, split: str, loaded: Mapping[str, Any]) -> Table:
    import datasets
    from datasets.table import embed_table_storage

    rows = loaded[split]
    arrow = rows.with_format("arrow")[:]
    if any(isinstance(feature, datasets.Image) for feature in rows.features.values()):
        arrow = embed_table_storage(arrow.cast(rows.features.arrow_schema))  # images that lie in files beside the table
    table = arrow_table(arrow, f"{name}, split {split}", split)
    classes = {column: tuple(feature.names) for column, feature in rows.features.items() if isinstance(feature, datasets.ClassLabel)}
    return replace(table, classes=classes)
