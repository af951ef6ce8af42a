"""Many small tasks on all cores of a CPU.

The engine's tiles are small, to stay in a core's cache. One operator on such a tile is too short to be split among threads:
they would wait for each other after each of thousands of operators. So whole tasks are spread instead, one thread a core,
each with operators of a single thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
_spreading = threading.Lock()


def spread(work: Callable[[Item], object], items: Sequence[Item], device: torch.device) -> None:
    """Call `work` on every item, without gradients; on a CPU in as many threads as torch uses there.

    The first error of a task is raised. The number of threads that torch uses is what it was, afterwards.
    """
    threads = min(torch.get_num_threads(), len(items))
    if device.type != "cpu" or threads <= 1 or not _spreading.acquire(blocking=False):
        for item in items:
            work(item)
        return
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, "turnover", torch.set_num_threads, (1,)) as pool:
            list(pool.map(torch.no_grad()(work), items))
    finally:
        torch.set_num_threads(before)
        _spreading.release()
