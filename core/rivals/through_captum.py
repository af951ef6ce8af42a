"""What our methods that stand on captum share: a copy of the model, a loss in captum's form, silence.

captum 0.9 sets a model's weights and its parameters' `requires_grad`, seeds the global random generator, and warns on every
call; so it is given a copy, and the generators' states are put back afterwards. Linear and convolution layers get their
gradients row by row in one pass (captum's `sample_wise_grads_per_batch`), any other model one row after the other, and so
does a model of token ids: captum hooks each layer's input, which must have a gradient, and whole numbers pass none on.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from turnover.engine.plain import device_of
from turnover.rivals.base import Problem, RowLoss, Told, take
from turnover.training import Split

_JACOBIAN_BYTES = 2**27
_TARGET_BYTES = 2**29


@contextmanager
def quietly(problem: Problem) -> Iterator[None]:
    """Without warnings inside; random generators are put back after it."""
    device = device_of(problem.model)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def model_copy(problem: Problem) -> nn.Module:
    """The model in evaluation mode, to be changed at will."""
    return copy.deepcopy(problem.model).eval()


def batch_loss(loss: RowLoss, reduction: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss with the attribute that captum looks for: "sum" over the batch, or "none", a row at a time."""

    def summed(logits: Tensor, labels: Tensor) -> Tensor:
        rows = loss(logits, labels)
        return rows.sum() if reduction == "sum" else rows

    summed.reduction = reduction  # type: ignore[attr-defined]
    return summed


def trained_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that own trained parameters, by name."""
    return {name: module for name, module in model.named_modules() if any(own.requires_grad for own in module.parameters(recurse=False))}


def dataset(split: Split) -> TensorDataset:
    """The split in captum's form."""
    return TensorDataset(split.inputs, split.labels)


def influence(method: Any, targets: Split, bytes_each: int, progress: Told) -> Tensor:
    """captum's scores `(targets, instances)`, so many targets at a time that what it keeps of each, `bytes_each`, fits into memory."""
    parts = []
    for rows in torch.arange(len(targets.labels)).split(max(1, _TARGET_BYTES // bytes_each)):
        some = take(targets, rows)
        parts.append(method.influence((some.inputs, some.labels)).detach())
        progress(len(rows) / len(targets.labels) / 2)
    return torch.cat(parts)


def common_options(problem: Problem, size: int) -> dict[str, Any]:
    """Options of every captum class that takes gradients of `size` parameters."""
    layers = trained_layers(problem.model)
    at_once = all(isinstance(module, nn.Linear | nn.Conv2d) for module in layers.values()) and problem.train.inputs.is_floating_point()
    frozen = not all(own.requires_grad for own in problem.model.parameters())
    bytes_each = size * next(problem.model.parameters()).element_size()
    return {
        "model": model_copy(problem),
        "loss_fn": batch_loss(problem.loss, "sum" if at_once else "none"),
        "sample_wise_grads_per_batch": at_once,
        "layers": list(layers) if frozen else None,
        "batch_size": max(1, min(256, _JACOBIAN_BYTES // bytes_each)),
    }
