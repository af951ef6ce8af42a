"""How the engine's cost grows: with training items, with targets, and where items share masks.

Where instances share masks, the passes of a target take as long for a million training items as for
ten thousand; what grows is finding the items' cohorts and spreading a target's values to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

from turnover.attribution.device import choose_device, synchronize
from turnover.attribution.ensemble import member_cohorts
from turnover.attribution.influence import Influence, influence, top_influences
from turnover.models.adapters import AdapterClassifier, new_encoder
from turnover.models.encoders import DEFAULT_ENCODER
from turnover.models.heads import turnover_heads
from turnover.research.bench.timing import (
    COPY_BYTES,
    interleaved_medians,
    large_copy,
    peak_memory,
)
from turnover.research.evaluate.results import markdown_table

_REPEATS = 5
_GROWTH = (2500, 5000, 10_000, 20_000, 40_000)
_TARGET_GROWTH = (16, 32, 64, 128, 256)
_SHARED_GROWTH = (10_000, 100_000, 1_000_000)
_MASKS, _MEMBERS, _TOKENS = 64, 16, 32


@dataclass(frozen=True)
class GrowthRow:
    """How the engine's seconds and peak memory grow: seconds are proportional to size to the power
    of the exponent.
    """

    growing: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    peak_memory_mb: tuple[float, ...]
    exponent: float


def measure_growth() -> dict[str, Any]:
    """How seconds and memory grow, and the rate of a large copy."""
    device = choose_device()
    copied = interleaved_medians({"copy": large_copy(device)}, _REPEATS, device)["copy"]
    growth = [asdict(row) for row in (*_plain_growth(), *_shared_growth())]
    return {"growth": growth, "copy_bytes_per_second": COPY_BYTES / copied}


def _plain_growth() -> Iterator[GrowthRow]:
    """Text heads with streamed top-k, growing in training instances and in targets."""
    device = choose_device()
    model = turnover_heads((384,), 2, members=4, groups=32, seed=0).to(device).eval()

    def run(instances: int, targets: int) -> None:
        features = torch.randn(targets, 384, generator=torch.Generator().manual_seed(0))
        top_influences(
            model,
            features,
            torch.zeros(targets, dtype=torch.int64),
            torch.arange(instances),
            memory=2**28,
        )

    yield _growth("training instances, 100 targets", _GROWTH, lambda size: run(size, 100), device)
    yield _growth(
        "targets, 5,000 training instances", _TARGET_GROWTH, lambda size: run(5000, size), device
    )


def _shared_growth() -> Iterator[GrowthRow]:
    """One target and more and more training items that share 64 masks: the passes of MiniLM with
    adapters, and how long 16 members take to find the items' cohorts and to spread a target's
    values to the items.
    """
    device = choose_device()
    yield _passes(device)
    model = turnover_heads((384,), 2, members=_MEMBERS, groups=32, seed=0, masks=_MASKS)
    by_mask = torch.randn(_MEMBERS, 1, _MASKS)
    results = {
        size: Influence(by_mask, ids, "", member_cohorts(model, ids))
        for size, ids in ((size, torch.arange(size)) for size in _SHARED_GROWTH)
    }
    yield _growth(
        f"the same: cohorts of {_MEMBERS} members",
        _SHARED_GROWTH,
        lambda size: member_cohorts(model, results[size].train_ids),
        device,
    )
    yield _growth(
        f"the same: mean of {_MEMBERS} members for a target",
        _SHARED_GROWTH,
        lambda size: results[size].mean,
        device,
    )


def _passes(device: torch.device) -> GrowthRow:
    """Seconds that MiniLM with adapters in all layers spends in its forward passes for one target
    of 32 tokens.
    """
    encoder = new_encoder(DEFAULT_ENCODER)
    model = AdapterClassifier(encoder, 2, layers=None, groups=None, seed=0, masks=_MASKS)
    model.to(device).eval()
    begun: list[float] = []
    spent: list[float] = []

    def ended(*_: object) -> None:
        synchronize(device)
        spent.append(perf_counter() - begun.pop())

    model.register_forward_pre_hook(lambda *_: begun.append(perf_counter()))
    model.register_forward_hook(ended)
    target = {"input_ids": torch.full((1, _TOKENS), 7)}

    def run(size: int) -> float:
        spent.clear()
        influence(model, target, torch.zeros(1, dtype=torch.int64), torch.arange(size))
        return sum(spent)

    seconds: dict[int, list[float]] = {size: [] for size in _SHARED_GROWTH}
    for _ in range(_REPEATS + 1):
        for size in _SHARED_GROWTH:
            seconds[size].append(run(size))
    times = tuple(median(seconds[size][1:]) for size in _SHARED_GROWTH)
    return GrowthRow(
        f"training items, {_MASKS} shared masks: passes of MiniLM for a target",
        _SHARED_GROWTH,
        times,
        _peaks(_SHARED_GROWTH, run, device),
        _slope(_SHARED_GROWTH, times),
    )


def _growth(
    growing: str, sizes: tuple[int, ...], run: Callable[[int], object], device: torch.device
) -> GrowthRow:
    """Seconds and peak memory of runs of growing size."""
    seconds = interleaved_medians(
        {str(size): partial(run, size) for size in sizes}, _REPEATS, device
    )
    times = tuple(seconds[str(size)] for size in sizes)
    return GrowthRow(growing, sizes, times, _peaks(sizes, run, device), _slope(sizes, times))


def _peaks(
    sizes: Sequence[int], run: Callable[[int], object], device: torch.device
) -> tuple[float, ...]:
    """Peak memory of runs of each size."""
    peaks = []
    for size in sizes:
        with peak_memory(device) as peak:
            run(size)
        peaks.append(peak[0])
    return tuple(peaks)


def _slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Least-squares slope of log seconds on log size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def describe_growth(result: dict[str, Any]) -> str:
    """The rows as a Markdown table."""
    growth = markdown_table(
        ("growing", "sizes", "seconds", "peak memory, MB", "exponent", "ns each, of the most"),
        (
            (
                row.growing,
                ", ".join(f"{value:,}" for value in row.sizes),
                _listed(row.seconds),
                _listed(row.peak_memory_mb),
                f"{row.exponent:.2f}",
                f"{1e9 * row.seconds[-1] / row.sizes[-1]:,.3g}",
            )
            for row in (GrowthRow(**row) for row in result["growth"])
        ),
        right=[4, 5],
    )
    copied = f"A large copy moves {result['copy_bytes_per_second'] / 1e9:.1f} GB/s."
    return f"{growth}\n\n{copied}"


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
