"""`bench influence`: the published way, the masked part alone, and the engine, on every contest.

Ways of one contest take turns on the same weights and masks; seconds are medians. Beside them stand
the floating-point operations that a way needs for its pairs, counted by torch, and the peak of the
machine's matrix product, measured in the same turns: their ratio shows how near a way is to the
machine's limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from turnover.attribution.device import choose_device
from turnover.attribution.influence import top_influences
from turnover.models.heads import turnover_heads
from turnover.research.bench.contests import (
    ENGINE_LOW,
    Contest,
    Way,
    adapters,
    bert_base,
    example_network,
    heads,
    images,
)
from turnover.research.bench.timing import (
    COPY_BYTES,
    MATMUL_FLOPS,
    interleaved_medians,
    large_copy,
    matmul_peak,
    peak_memory,
    threads,
)
from turnover.research.evaluate.results import markdown_table
from turnover.storage.progress import bar

_REPEATS = 5
_PEAK, _PEAK_LOW = "matrix product, float32", "matrix product, bfloat16"
_GROWTH = (2500, 5000, 10_000, 20_000, 40_000)
_TARGET_GROWTH = (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class BackendRow:
    """One way in one contest; differences are to the published way, in nats; operations are those
    of the pairs timed.

    `mask_seconds`: seconds to make the masks alone on one thread, where measured.
    """

    case: str
    backend: str
    threads: int
    pairs: int
    seconds: float
    pairs_per_second: float
    max_abs_difference: float
    peak_memory_mb: float
    flops_per_second: float
    matmul_peak_flops_per_second: float
    mask_seconds: float | None


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


def contests(device: torch.device) -> Iterator[Callable[[], Contest]]:
    """All contests, each made when its turn comes."""
    for groups in (32, None):
        yield from (partial(heads, targets, groups, device) for targets in (1, 10, 100))
    yield from (partial(adapters, layers, device) for layers in (2, None))
    yield from (partial(images, groups, device) for groups in (32, None))
    yield from (partial(example_network, groups, device) for groups in (32, None))
    if device.type == "cuda":
        yield partial(bert_base, device)


def measure_influence() -> dict[str, Any]:
    """All contests, on one thread and on all cores (on a GPU once); the growth of the engine's
    cost; the rate of a large copy.
    """
    device = choose_device()
    counts = sorted({1, torch.get_num_threads()}) if device.type == "cpu" else [1]
    rows: list[BackendRow] = []
    makers = list(contests(device))
    with bar(len(makers) * len(counts), "influence", "contests") as advance:
        for make in makers:
            contest = make()
            for count in counts:
                with threads(count):
                    rows += measure(contest, count, device)
                advance(1)
    copied = interleaved_medians({"copy": large_copy(device)}, _REPEATS, device)["copy"]
    growth = [asdict(row) for row in measure_growth()]
    return {
        "rows": [asdict(row) for row in rows],
        "growth": growth,
        "copy_bytes_per_second": COPY_BYTES / copied,
    }


def measure(
    contest: Contest, count: int, device: torch.device, repeats: int = _REPEATS
) -> Iterator[BackendRow]:
    """The rows of one contest."""
    peaks = {
        _PEAK: matmul_peak(torch.float32, device),
        _PEAK_LOW: matmul_peak(torch.bfloat16, device),
    }
    masks = {_masks_of(name): way.masks for name, way in contest.ways.items() if way.masks}
    seconds = interleaved_medians(
        {**{name: way.run for name, way in contest.ways.items()}, **masks, **peaks}, repeats, device
    )
    reference = next(iter(contest.ways.values())).sample()
    for name, way in contest.ways.items():
        with peak_memory(device) as peak:
            flops = _flops(way)
        difference = float((way.sample()[0] - reference[0]).abs().max())
        best = MATMUL_FLOPS / seconds[_PEAK_LOW if name == ENGINE_LOW else _PEAK]
        rate = way.pairs / seconds[name]
        yield BackendRow(
            contest.case,
            name,
            count,
            way.pairs,
            seconds[name],
            rate,
            difference,
            peak[0],
            flops / seconds[name],
            best,
            seconds.get(_masks_of(name)),
        )


def _masks_of(way: str) -> str:
    return f"masks of {way}"


def _flops(way: Way) -> int:
    """Floating-point operations of a way's run; on one thread, since torch counts those of the
    calling thread.
    """
    with threads(1), FlopCounterMode(display=False) as counter:
        way.run()
    return int(counter.get_total_flops())


def measure_growth() -> Iterator[GrowthRow]:
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


def _growth(
    growing: str, sizes: tuple[int, ...], run: Callable[[int], object], device: torch.device
) -> GrowthRow:
    """Seconds and peak memory of runs of growing size."""
    seconds = interleaved_medians(
        {str(size): partial(run, size) for size in sizes}, _REPEATS, device
    )
    peaks = []
    for size in sizes:
        with peak_memory(device) as peak:
            run(size)
        peaks.append(peak[0])
    times = tuple(seconds[str(size)] for size in sizes)
    return GrowthRow(growing, sizes, times, tuple(peaks), _slope(sizes, times))


def _slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Least-squares slope of log seconds on log size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def describe_influence(result: dict[str, Any]) -> str:
    """The rows as Markdown tables; "× (a)" is how many times more pairs a second a way does than
    the published one.

    "Masks alone" is the share of the seconds that making the masks would take, spread evenly over
    the threads.
    """
    slow: dict[tuple[str, int], float] = {}

    def speed(row: BackendRow) -> tuple[object, ...]:
        base = slow.setdefault((row.case, row.threads), row.pairs_per_second)
        masks = row.mask_seconds
        return (
            row.case,
            row.threads,
            row.backend,
            f"{row.pairs_per_second:,.0f}",
            f"{row.pairs_per_second / base:,.1f}",
            f"{row.max_abs_difference:.1g}",
            f"{row.peak_memory_mb:,.0f}",
            f"{row.flops_per_second / row.matmul_peak_flops_per_second:.0%}",
            "" if masks is None else f"{masks / row.threads / row.seconds:.0%}",
        )

    speeds = markdown_table(
        (
            *("case", "threads", "way", "pairs/s", "× (a)", "max difference, nats"),
            *("peak memory, MB", "share of matmul peak", "masks alone"),
        ),
        (speed(BackendRow(**row)) for row in result["rows"]),
        right=(1, *range(3, 9)),
    )
    growth = markdown_table(
        ("growing", "sizes", "seconds", "peak memory, MB", "exponent"),
        (
            (
                row.growing,
                ", ".join(f"{value:,}" for value in row.sizes),
                _listed(row.seconds),
                _listed(row.peak_memory_mb),
                f"{row.exponent:.2f}",
            )
            for row in (GrowthRow(**row) for row in result["growth"])
        ),
        right=[4],
    )
    copied = f"A large copy moves {result['copy_bytes_per_second'] / 1e9:.1f} GB/s."
    return f"{speeds}\n\n{growth}\n\n{copied}"


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
