"""The reference path: any model, two forward passes for every pair.

Rows of a batch are pairs: target t repeated once for every training instance, each row under that instance's mask. This
is the published method (Kobayashi et al. 2020, equation 2) and every faster path is tested against it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from core.dropout import turnover, turnover_layers
from core.errors import TurnoverError
from core.models.members import MemberModel

Inputs = Tensor | Mapping[str, Tensor]
"""A batch: one tensor, or the named tensors of a Hugging Face model; rows first."""

_ROWS = 256


def row_count(inputs: Inputs) -> int:
    """How many rows a batch has.

    Raises:
        TurnoverError: if the named tensors differ in length.
    """
    if isinstance(inputs, Tensor):
        return len(inputs)
    lengths = {len(value) for value in inputs.values()}
    if len(lengths) != 1:
        raise TurnoverError(f"the named inputs have {sorted(lengths)} rows; all must have the same number")
    return lengths.pop()


def take_rows(inputs: Inputs, rows: Tensor, device: torch.device) -> Inputs:
    """Some rows of a batch, on a device."""
    if isinstance(inputs, Tensor):
        return inputs[rows.to(inputs.device)].to(device)
    return {name: value[rows.to(value.device)].to(device) for name, value in inputs.items()}


def run_model(model: nn.Module, inputs: Inputs) -> Tensor:
    """Logits `(K, rows, …)`: a plain model counts as one member; a Hugging Face output gives its `.logits`."""
    output: Any = model(inputs) if isinstance(inputs, Tensor) else model(**inputs)
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits if isinstance(model, MemberModel) else logits.unsqueeze(0)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter lies (CPU if it has none)."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


@dataclass
class _Evaluated:
    """A model in use: the modules to put back into training mode, and how many threads are at work."""

    training: list[nn.Module]
    threads: int = 0


_changing_mode = threading.Lock()
_evaluated: WeakKeyDictionary[nn.Module, _Evaluated] = WeakKeyDictionary()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; when the last thread leaves, every module's own mode is put back."""
    with _changing_mode:
        if model not in _evaluated:
            _evaluated[model] = _Evaluated([module for module in model.modules() if module.training])
        use = _evaluated[model]
        use.threads += 1
        for module in use.training:
            module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        with _changing_mode:
            use.threads -= 1
            if not use.threads:
                del _evaluated[model]
                for module in use.training:
                    module.training = True


def both_halves(model: nn.Module, inputs: Inputs, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Masked and flipped logits of rows under one instance each: two forward passes."""
    with turnover(ids):
        masked = run_model(model, inputs)
    with turnover(ids, flipped=True):
        flipped = run_model(model, inputs)
    return masked, flipped


class PlainPath:
    """Two forward passes per pair, for any model with `TurnoverDropout` layers."""

    name = "plain: two forward passes per pair"

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        turnover_layers(model)
        self.model, self.inputs, self.device = model, inputs, device_of(model)
        self.members = model.members if isinstance(model, MemberModel) else 1
        self.targets_per_tile, self.instances_per_tile = 1, _ROWS

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(K, targets, ids, classes)`."""
        rows = torch.arange(targets.start, targets.stop)
        batch = take_rows(self.inputs, rows.repeat_interleave(len(ids)), self.device)
        masked, flipped = both_halves(self.model, batch, ids.repeat(len(rows)))
        shape = (self.members, len(rows), len(ids), *masked.shape[2:])
        return masked.view(shape), flipped.view(shape)
