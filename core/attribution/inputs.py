"""Inputs and labels in any usual form: tensors, NumPy arrays, lists, torch data sets, loaders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, default_collate

from turnover.attribution.engine.naive import (
    Inputs,
    device_of,
    evaluating,
    row_count,
    run_model,
    take_rows,
    weights_type,
)
from turnover.attribution.engine.tiling import Loss
from turnover.attribution.forms import array_of, whole_numbers
from turnover.errors import TurnoverError

_LABELS = ("labels", "label")
"""What named inputs call the labels."""


def batch_of(
    model: nn.Module, inputs: Any, labels: Any = None, loss: Loss | None = None
) -> tuple[Inputs, Tensor]:
    """Inputs and labels as one batch that the model reads.

    Args:
        model: what is run on the first of them; floats come in the type of its weights if it reads
            no others.
        inputs: a tensor, a NumPy array, the named ones of a Hugging Face model, or a `Dataset` or
            `DataLoader` that yields pairs (input, label) or named inputs with `labels`.
        labels: class numbers, one per input, in any form that NumPy reads; None if the inputs have
            them.
        loss: of the user's own, who knows what labels it reads; for None they are class numbers.

    Raises:
        TurnoverError: for anything else, labels that are missing or no class's, or inputs that the
            model cannot read.
    """
    if not isinstance(model, nn.Module) or not (loss is None or callable(loss)):
        kinds = f"{type(model).__name__} and {type(loss).__name__}"
        raise TurnoverError(f"model and loss are {kinds}; give a torch.nn.Module and a function")
    _check_norms(model)
    if isinstance(inputs, Dataset | DataLoader):
        inputs, known = _collected(inputs)
        labels = known if labels is None else labels
    if isinstance(inputs, Mapping) and labels is None:
        inputs, labels = _apart(inputs)
    if labels is None:
        raise TurnoverError("no labels are given; name the label of each input whose loss is meant")
    whole = loss is None
    known = _tensor(whole_numbers(labels, "labels") if whole else labels, "labels")
    named = (
        {str(name): _tensor(value, str(name)) for name, value in inputs.items()}
        if isinstance(inputs, Mapping)
        else _tensor(inputs, "inputs")
    )
    return _readable(model, named, known, whole), known


def _tensor(values: Any, name: str) -> Tensor:
    """Values as a tensor of rows."""
    if isinstance(values, Tensor) and values.dim():
        return values
    array = array_of(values, name)
    if array.dtype.kind not in "biufc":
        raise TurnoverError(
            f"{name}: a {type(values).__name__} cannot be read as a tensor (its values are "
            f"{array.dtype}); give numbers"
        )
    return torch.from_numpy(array.copy())


def _check_norms(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise TurnoverError(
                f"batch norm {name!r} keeps no running statistics, so a row's loss depends on the "
                "rows beside it, in evaluation too, and is no row's own; build it with "
                "track_running_stats=True and train again"
            )


def _readable(model: nn.Module, inputs: Inputs, labels: Tensor, whole: bool) -> Inputs:
    """The inputs in a number type that the model reads, tried on the first row.

    Raises:
        TurnoverError: if it reads none, or a label is no class's.
    """
    if not row_count(inputs) or row_count(inputs) != len(labels):
        return inputs  # which is refused, or has nothing to run

    def tried(kind: torch.dtype | None) -> tuple[Inputs, Tensor]:
        read = _cast(inputs, kind)
        row = take_rows(read, torch.zeros(1, dtype=torch.int64), device_of(model))
        return read, run_model(model, row)

    with evaluating(model):
        try:
            read, logits = tried(None)
        except TurnoverError:
            raise
        except Exception as error:
            try:
                read, logits = tried(weights_type(model))
            except Exception:
                raise TurnoverError(
                    f"the model does not run on inputs of shape {_shapes(inputs)} "
                    f"({' '.join(str(error).split())[:160]}); give them as in training, rows first"
                ) from None
    if logits.dim() < 2 or logits.shape[1] != 1 or (whole and logits.dim() > 3):
        raise TurnoverError(
            f"of one input the model makes logits of shape {tuple(logits.shape[1:])}; return one "
            "row of logits an input, (rows, classes)"
        )
    if whole:
        classes = max(2, logits.shape[2] if logits.dim() == 3 else 1)
        for place in ((labels < 0) | (labels >= classes)).nonzero()[:1].flatten().tolist():
            raise TurnoverError(
                f"labels: row {place + 1}, {int(labels[place])}, is none of the model's {classes} "
                "classes, numbered from 0; correct it"
            )
    return read


def _cast(inputs: Inputs, kind: torch.dtype | None) -> Inputs:
    """The inputs with all floats in one number type; None leaves them as they are."""
    if kind is None:
        return inputs
    if isinstance(inputs, Tensor):
        return inputs.to(kind) if inputs.is_floating_point() else inputs
    return {
        name: value.to(kind) if value.is_floating_point() else value
        for name, value in inputs.items()
    }


def _shapes(inputs: Inputs) -> str:
    if isinstance(inputs, Tensor):
        return f"{tuple(inputs.shape)}, {inputs.dtype}"
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in inputs.items())


def _apart(named: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Named inputs without the labels among them, and these; None if there are none."""
    labels = next((named[name] for name in _LABELS if name in named), None)
    return {name: value for name, value in named.items() if name not in _LABELS}, labels


def _collected(data: Dataset[Any] | DataLoader[Any]) -> tuple[Any, Any]:
    """All inputs and labels of a data set or loader, in its order."""
    if isinstance(getattr(data, "sampler", None), RandomSampler):
        raise TurnoverError(
            "the DataLoader shuffles, so that nobody knows which target is which; build it with "
            "shuffle=False"
        )
    try:
        if isinstance(data, DataLoader):
            batches = list(data)
        else:
            batches = [default_collate([data[index] for index in range(len(data))])]  # type: ignore[arg-type]
        pairs = [_apart(each) if isinstance(each, Mapping) else each for each in batches]
        inputs, labels = zip(*((first, second) for first, second in pairs), strict=True)
        known = None if labels[0] is None else torch.cat(labels)
        if not isinstance(inputs[0], Mapping):
            return torch.cat(inputs), known
        return {name: torch.cat([part[name] for part in inputs]) for name in inputs[0]}, known
    except Exception as error:  # the data set's own code among others
        raise TurnoverError(
            f"a {type(data).__name__} that gives pairs (input, label) of tensors is meant, and at "
            f"least one of them ({' '.join(str(error).split())[:100]}); give inputs and labels "
            "instead"
        ) from None
