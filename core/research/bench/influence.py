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
from itertools import product
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from turnover.attribution.device import choose_device
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
from turnover.research.bench.growth import describe_growth, measure_growth
from turnover.research.bench.networks import convolutions, trunk
from turnover.research.bench.timing import (
    MATMUL_FLOPS,
    interleaved_medians,
    matmul_peak,
    peak_memory,
    threads,
)
from turnover.research.evaluate.results import markdown_table
from turnover.storage.progress import bar

_REPEATS = 5
_PEAK, _PEAK_LOW = "matrix product, float32", "matrix product, bfloat16"
_MASKS, _FEWER_MASKS = 64, 16
_BERT_REPEATS = 1
GROWTH = "growth"


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
    """All contests whose case contains `only`, on one thread and on all cores (on a GPU once);
    without `only`, or where it says so, also the growth of the engine's cost.
    """
    device = choose_device()
    counts = sorted({1, torch.get_num_threads()}) if device.type == "cpu" else [1]
    rows = _measured(contests(device), counts, device, _REPEATS, only) if only != GROWTH else []
    return {"rows": rows, **(measure_growth() if only in ("", GROWTH) else {})}


def measure_bert() -> dict[str, Any]:
    """BERT-base on all cores."""
    device, count = choose_device(), torch.get_num_threads()
    return {"rows": _measured(bert_contests(device), [count], device, _BERT_REPEATS, "")}


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
    peaks = {_PEAK: matmul_peak(torch.float32, device)}
    if ENGINE_LOW in contest.ways:
        peaks[_PEAK_LOW] = matmul_peak(torch.bfloat16, device)
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
    return "\n\n".join([speeds] + ([describe_growth(result)] if "growth" in result else []))
