"""Where to compute."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from turnover.errors import TurnoverError
from turnover.storage.progress import world

Model = TypeVar("Model", bound=nn.Module)
_KINDS = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
_changing = threading.Lock()
_asked: list[list[str]] = []


def choose_device(name: str | None = None) -> torch.device:
    """The named device, or the best one there is: CUDA, then MPS, then CPU. Of several ranks on a
    machine each has a GPU of its own while there are enough.

    Raises:
        TurnoverError: if the named device is not on this machine.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name is None:
        return _own(torch.device(next(kind for kind, present in there.items() if present)))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise TurnoverError(f"--device {name}: unknown; choose cuda, mps or cpu") from None
    if not there.get(device.type, False):
        raise TurnoverError(
            f"--device {name}: there is no such device here; available: "
            f"{', '.join(kind for kind, present in there.items() if present)}"
        )
    return _own(device)


def _own(device: torch.device) -> torch.device:
    """This rank's GPU; any other device as it is."""
    place = world()
    if device.type != "cuda" or device.index is not None or place.size == 1:
        return device
    return torch.device("cuda", place.local_rank % torch.cuda.device_count())


def synchronize(device: torch.device) -> None:
    """Wait until an accelerator has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """What the manifest says: `cpu`, or the accelerator's own name."""
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
"""Number types in which losses that differ may come out alike."""


def at_least_float32(values: Tensor) -> Tensor:
    """Values of a half-precision type as float32; others as they are."""
    return values.float() if values.dtype in HALF else values


@contextmanager
def exact_products() -> Iterator[None]:
    """All bits of float32 in products on a GPU, whose convolutions drop 13 of 23 by default
    (TensorFloat-32), until the last thread leaves.
    """
    with _changing:
        _asked.append([kind.fp32_precision for kind in _KINDS])
        for kind in _KINDS:
            kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        with _changing:
            first = _asked[0]
            _asked.pop()
            if not _asked:
                for kind, precision in zip(_KINDS, first, strict=True):
                    kind.fp32_precision = precision
