"""Shared by measurements: fair times, memory in use, and the machine's own limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

from turnover.attribution.device import synchronize

_SIZE = 2048
MATMUL_FLOPS, COPY_BYTES = 2 * _SIZE**3, 2**28
_EVERY_SECONDS = 0.002


def interleaved_medians(
    works: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of functions called in turns, so that a busy moment of the machine affects
    all; one warm-up round first.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            synchronize(device)
            if turn:
                seconds[name].append(time.perf_counter() - begun)
    return {name: median(values) for name, values in seconds.items()}


def matmul_peak(dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    """A large matrix product to time; it makes `MATMUL_FLOPS` operations."""
    left, right = (torch.randn(_SIZE, _SIZE, device=device).to(dtype) for _ in range(2))
    return lambda: left @ right


def large_copy(device: torch.device) -> Callable[[], object]:
    """A copy too large for caches; it moves `COPY_BYTES`, half of them read and half written."""
    source = torch.zeros(COPY_BYTES // 8, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float]]:
    """Peak memory in MB, beyond what was in use before, appended on leaving; NaN where the system
    does not report it (macOS).
    """
    peaks: list[float] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peaks
        peaks.append((torch.cuda.max_memory_allocated(device) - before) / 2**20)
        return
    first = _resident()
    highest, done = [first], threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY_SECONDS):
            highest[0] = max(highest[0], _resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        done.set()
        watcher.join()
    peaks.append((highest[0] - first) / 2**20)


def _resident() -> float:
    """Bytes of memory that this process holds."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return float("nan")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run torch on that many CPU threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
