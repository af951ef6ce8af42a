"""Masks made when needed, against masks stored: units a second and bytes."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from turnover.bench.row import Row
from turnover.bench.timing import interleaved_medians
from turnover.masks import instance_masks

_INSTANCES, _UNITS, _BATCH, _REPEATS = 20_000, 384, 256, 5


def measure_masks() -> Iterator[Row]:
    """Hashing against looking up, on the CPU and, where there is one, on CUDA."""
    for name in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        device = torch.device(name)
        ids = torch.randperm(_INSTANCES, device=device)
        batches = ids.split(_BATCH)
        stored = instance_masks(torch.arange(_INSTANCES, device=device), _UNITS, _UNITS // 2, seed=0, layer=0)

        def hashed(batches: tuple[torch.Tensor, ...] = batches) -> None:
            for batch in batches:
                instance_masks(batch, _UNITS, _UNITS // 2, seed=0, layer=0)

        def looked_up(batches: tuple[torch.Tensor, ...] = batches, stored: torch.Tensor = stored) -> None:
            for batch in batches:
                stored[batch]

        for measure, seconds in interleaved_medians({"hashed": hashed, "stored, looked up": looked_up}, _REPEATS, device).items():
            yield Row(f"masks, {name}", f"{measure}: units a second", _INSTANCES * _UNITS / seconds, "1/s")
        yield Row(f"masks, {name}", f"memory to store {_INSTANCES:,} x {_UNITS} (hashed: 0)", stored.numel() / 2**20, "MB")
