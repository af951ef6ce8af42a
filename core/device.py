"""Where to compute."""

from __future__ import annotations

import torch

from core.errors import TurnoverError


def choose_device(name: str | None = None) -> torch.device:
    """The named device, or the best one there is: CUDA, then MPS, then CPU.

    Raises:
        TurnoverError: if the named device is not on this machine.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return torch.device(next(kind for kind, present in there.items() if present))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise TurnoverError(f"--device {name}: unknown; choose cuda, mps or cpu") from None
    if not there.get(device.type, False):
        raise TurnoverError(f"--device {name}: there is no such device here; available: {', '.join(kind for kind, present in there.items() if present)}")
    return device


def synchronize(device: torch.device) -> None:
    """Wait until an accelerator has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """What the manifest says: `cpu`, or the accelerator's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
