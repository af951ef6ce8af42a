"""Inputs and labels in any usual form: tensors, NumPy arrays, lists, torch data sets, loaders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from turnover.attribution.engine.naive import Inputs
from turnover.errors import TurnoverError


def batch_of(inputs: Any, labels: Any = None) -> tuple[Inputs, Tensor]:
    """Inputs and labels as one batch.

    Args:
        inputs: a tensor, a NumPy array, the named ones of a Hugging Face model, or a `Dataset` or
            `DataLoader` that yields pairs (input, label).
        labels: class numbers, one per input, in any form that NumPy reads; None if the data set has
            them.

    Raises:
        TurnoverError: for anything else, or labels that are missing.
    """
    if isinstance(inputs, Dataset | DataLoader):
        inputs, known = _collected(inputs)
        labels = known if labels is None else labels
    if labels is None:
        raise TurnoverError("no labels are given; name the label of each input whose loss is meant")
    named = (
        {name: _tensor(value, name) for name, value in inputs.items()}
        if isinstance(inputs, Mapping)
        else _tensor(inputs, "inputs")
    )
    known = _tensor(labels, "labels")
    return named, known if known.is_floating_point() else known.to(torch.int64)


def _tensor(values: Any, name: str) -> Tensor:
    if isinstance(values, Tensor):
        return values
    try:
        array = np.asarray(values)
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=True))
    except (TypeError, ValueError) as error:
        raise TurnoverError(
            f"{name}: a {type(values).__name__} cannot be read as a tensor "
            f"({str(error).splitlines()[0]}); give a tensor or a numpy array"
        ) from None


def _collected(data: Dataset[Any] | DataLoader[Any]) -> tuple[Any, Any]:
    """All inputs and labels of a data set or loader, in its order."""
    if isinstance(data, DataLoader):
        batches = list(data)
    else:
        count = len(data)  # type: ignore[arg-type]
        batches = [default_collate([data[index] for index in range(count)])]
    if not batches or not all(
        isinstance(batch, list | tuple) and len(batch) == 2 for batch in batches
    ):
        raise TurnoverError(
            f"a {type(data).__name__} that gives pairs (input, label) is meant, and at least one of"
            " them; give inputs and labels instead"
        )
    inputs, labels = ([batch[index] for batch in batches] for index in (0, 1))
    if isinstance(inputs[0], Mapping):
        return {name: torch.cat([part[name] for part in inputs]) for name in inputs[0]}, torch.cat(
            labels
        )
    return torch.cat(inputs), torch.cat(labels)
