"""The device to compute on, and the precision of floating-point products there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from turnover.errors import TurnoverError

Model = TypeVar("Model", bound=nn.Module)
_KINDS = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
_changing = threading.Lock()
_saved: list[list[str]] = []


def choose_device(name: str | None = None) -> torch.device:
    """The named device, or the best one available: CUDA, then MPS, then CPU.

    Raises:
        TurnoverError: if the named device is not on this machine.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name is None:
        return torch.device(next(kind for kind, present in available.items() if present))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise TurnoverError(f"--device {name}: unknown; choose cuda, mps or cpu") from None
    if not available.get(device.type, False):
        raise TurnoverError(
            f"--device {name}: there is no such device here; available: "
            f"{', '.join(kind for kind, present in available.items() if present)}"
        )
    return device


def synchronize(device: torch.device) -> None:
    """Wait until an accelerator has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """The name for the manifest: `cpu`, or the accelerator's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def placed(model: Model, device: torch.device) -> Model:
    """The model on a device; on a GPU with the channels of convolutions last, as its fastest
    kernels read them.
    """
    for module in model.to(device).modules() if device.type == "cuda" else ():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return model


HALF = (torch.bfloat16, torch.float16)
"""Number types in which different losses may round to the same value."""


def at_least_float32(values: Tensor) -> Tensor:
    """Values of a half-precision type as float32; others unchanged."""
    return values.float() if values.dtype in HALF else values


@contextmanager
def exact_products() -> Iterator[None]:
    """Full float32 precision in products on a GPU, whose convolutions drop 13 of 23 mantissa bits
    by default (TensorFloat-32), until the last thread leaves.
    """
    with _changing:
        _saved.append([kind.fp32_precision for kind in _KINDS])
        for kind in _KINDS:
            kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        with _changing:
            first = _saved[0]
            _saved.pop()
            if not _saved:
                for kind, precision in zip(_KINDS, first, strict=True):
                    kind.fp32_precision = precision


def row_bytes(model: nn.Module, inputs: Tensor) -> int:
    """Bytes of all layers' outputs for one row, measured by running the model on one."""
    sizes: list[int] = []

    def note(_: nn.Module, __: object, output: object) -> None:
        sizes.append(output.nbytes if isinstance(output, Tensor) else 0)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    with torch.no_grad():
        model(inputs[:1])
    for hook in hooks:
        hook.remove()
    return sum(sizes)
