"""`bench influence`: the published way, the masked part alone, and the engine, on every contest.

Ways of one contest take turns on the same weights and masks; seconds are medians. Beside them stand
the floating-point operations that a way needs for its pairs, counted by torch, and the peak of the
machine's matrix product, measured in the same turns: their ratio shows how near a way is to the
machine's limit.

Where instances share masks, growth rows show that the passes of a target take as long for a million
training items as for ten thousand, and what it costs to spread their values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from turnover.attribution.device import choose_device, synchronize
from turnover.attribution.ensemble import member_cohorts
from turnover.attribution.influence import Influence, influence, top_influences
from turnover.models.adapters import AdapterClassifier, new_encoder
from turnover.models.encoders import DEFAULT_ENCODER
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
    sharing,
)
from turnover.research.bench.networks import convolutions, trunk
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
_SHARED_GROWTH = (10_000, 100_000, 1_000_000)
_MASKS, _FEWER_MASKS, _MEMBERS = 64, 16, 16
_TOKENS, _BERT_REPEATS = 32, 1


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
    for masks in (None, _MASKS):
        for groups in (32, None):
            yield from (partial(heads, targets, groups, device, masks) for targets in (1, 10, 100))
        yield from (partial(adapters, layers, device, masks) for layers in (2, None))
        yield from (partial(images, groups, device, masks) for groups in (32, None))
    yield from (partial(example_network, groups, device) for groups in (32, None))
    for make, opaque, shared, groups, targets in product(
        (trunk, convolutions), (False, True), (None, _MASKS), (True, False), (1, 10, 100)
    ):
        yield partial(make, targets, groups, opaque, shared, device)
    if device.type == "cuda":
        yield partial(bert_base, device)


def bert_contests(device: torch.device) -> Iterator[Callable[[], Contest]]:
    """BERT-base on texts of two lengths, with two numbers of shared masks; on the shorter texts
    also with masks of each instance's own.
    """
    yield partial(bert_base, device)
    for tokens, masks in product((32, 128), (_MASKS, _FEWER_MASKS)):
        yield partial(bert_base, device, tokens, masks)


def measure_influence(only: str = "") -> dict[str, Any]:
    """All contests whose case contains `only`, on one thread and on all cores (on a GPU once).
    Without `only` also the growth of the engine's cost, and the rate of a large copy.
    """
    device = choose_device()
    counts = sorted({1, torch.get_num_threads()}) if device.type == "cpu" else [1]
    rows = _measured(contests(device), counts, device, _REPEATS, only)
    if only:
        return {"rows": rows, "growth": []}
    copied = interleaved_medians({"copy": large_copy(device)}, _REPEATS, device)["copy"]
    growth = [asdict(row) for row in (*measure_growth(), *measure_sharing())]
    return {"rows": rows, "growth": growth, "copy_bytes_per_second": COPY_BYTES / copied}


def measure_bert() -> dict[str, Any]:
    """BERT-base on all cores."""
    device = choose_device()
    count = torch.get_num_threads()
    return {
        "rows": _measured(bert_contests(device), [count], device, _BERT_REPEATS, ""),
        "growth": [],
    }


def _measured(
    makers: Iterator[Callable[[], Contest]],
    counts: Sequence[int],
    device: torch.device,
    repeats: int,
    only: str,
) -> list[dict[str, Any]]:
    """The rows of contests, each on these numbers of threads."""
    rows: list[BackendRow] = []
    waiting = list(makers)
    with bar(len(waiting), "influence", "contests") as advance:
        for make in waiting:
            contest = make()
            for count in counts if only in contest.case else ():
                with threads(count):
                    rows += measure(contest, count, device, repeats)
            advance(1)
    return [asdict(row) for row in rows]


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


def measure_sharing() -> Iterator[GrowthRow]:
    """One target and more and more training items that share 64 masks: the passes of MiniLM with
    adapters, and how long 16 members take to find the items' cohorts and to spread a target's
    values to the items.
    """
    device = choose_device()
    yield _passes(device)
    model = sharing(turnover_heads((384,), 2, members=_MEMBERS, groups=32, seed=0), _MASKS)
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
    model = sharing(AdapterClassifier(encoder, 2, layers=None, groups=None, seed=0), _MASKS)
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
            f"{row.pairs:,}",
            f"{row.seconds:.3g}",
            f"{row.pairs_per_second:,.0f}",
            f"{row.pairs_per_second / base:,.1f}",
            f"{row.max_abs_difference:.1g}",
            f"{row.peak_memory_mb:,.0f}",
            f"{row.flops_per_second / row.matmul_peak_flops_per_second:.0%}",
            "" if masks is None else f"{masks / row.threads / row.seconds:.0%}",
        )

    speeds = markdown_table(
        (
            *("case", "threads", "way", "pairs", "seconds", "pairs/s", "× (a)"),
            *("max difference, nats", "peak memory, MB", "share of matmul peak", "masks alone"),
        ),
        (speed(BackendRow(**row)) for row in result["rows"]),
        right=(1, *range(3, 11)),
    )
    if not result["growth"]:
        return speeds
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
    return f"{speeds}\n\n{growth}\n\n{copied}"


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
