"""Work that falls apart by itself, as a list of tasks, and the ways to run it.

A task is a name, which stands for one of `FUNCTIONS`, and arguments that JSON can hold. Its result
is a file in a run's folder: the file is whole or absent, and where it exists the task is done. So
whatever stops the work, the same list goes on with what is missing, here or elsewhere.

- On this machine: in this process, or in several (`turnover.jobs.processes`) that each have a share
  of the cores, or a GPU.
- On a Ray cluster (`turnover.jobs.cluster`) whose nodes share a disk with this machine.

What a function loads it may keep for the next task (`functools.lru_cache`).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from turnover.models.names import allow, names_allowed
from turnover.storage.progress import Advance, silent

if TYPE_CHECKING:
    import torch

FUNCTIONS = {
    "cleanse": "turnover.workflows.retraining:retrain_model",
    "influence": "turnover.workflows.influence:compute_part",
    "retrain": "turnover.workflows.subsets:retrain_block",
    "train": "turnover.workflows.members:train_member",
}
"""The function of each task; it is called with the arguments and with `Advance`."""

ADDRESS = "RAY_ADDRESS"
"""Environment variable with the address of a Ray cluster, as Ray itself reads it."""


@dataclass(frozen=True)
class Task:
    """A name in `FUNCTIONS` with arguments, and the file that exists once it is done.

    Attributes:
        size: units of progress that it reports.
    """

    name: str
    arguments: Mapping[str, Any]
    result: Path
    size: float = 1

    def message(self, threads: int) -> str:
        """All that another process needs to do the task with so many threads."""
        return json.dumps(
            {
                "name": self.name,
                "arguments": self.arguments,
                "threads": threads,
                "path": [str(Path(part).absolute()) for part in sys.path],
                "allowed": names_allowed(),
            }
        )


def do_message(message: str, advance: Advance = silent) -> None:
    """Do the task of a `Task.message` in this process."""
    import torch

    told = json.loads(message)
    sys.path += [part for part in told["path"] if part not in sys.path]
    for name in told["allowed"]:
        allow(name)
    torch.set_num_threads(told["threads"])
    _do(told["name"], told["arguments"], advance)


def _do(name: str, arguments: Mapping[str, Any], advance: Advance) -> None:
    module, _, function = FUNCTIONS[name].partition(":")
    getattr(importlib.import_module(module), function)(arguments, advance)


class Workers(Protocol):
    """What runs tasks.

    Attributes:
        together: how many tasks share a machine's memory at a time.
        elsewhere: whether they run in other processes.
    """

    together: int
    elsewhere: bool

    def run(self, tasks: Sequence[Task], advance: Advance = silent) -> Iterator[Task]:
        """Run tasks, in any order; yields each one that is done.

        Raises:
            TurnoverError: if a task fails, or whatever runs it is lost.
        """
        ...


class _ThisProcess:
    together, elsewhere = 1, False

    def run(self, tasks: Sequence[Task], advance: Advance = silent) -> Iterator[Task]:
        for task in tasks:
            _do(task.name, task.arguments, advance)
            yield task


@contextmanager
def open_workers(
    count: int, device: torch.device, cluster: str | None = None, cores: bool = True
) -> Iterator[Workers]:
    """What runs lists of up to `count` tasks: a process for each GPU or, for tasks that use a CPU's
    `cores` badly, for each core; or the Ray cluster at this address or at RAY_ADDRESS.

    The number of threads of a task, and so its bits, depend on `count` and not on what is missing.

    Raises:
        TurnoverError: if Ray is not installed, or no such cluster answers.
    """
    import torch

    on_gpu, threads = device.type == "cuda", torch.get_num_threads()
    parts = torch.cuda.device_count() if on_gpu else threads
    usual = device.index is None and device.type in ("cpu", "cuda") and (cores or on_gpu)
    processes = max(1, min(count, parts)) if usual else 1
    threads = max(1, threads // processes)
    if count > 1 and (cluster or os.environ.get(ADDRESS)):
        from turnover.jobs.cluster import connected

        with connected(cluster or os.environ[ADDRESS], threads, int(on_gpu)) as workers:
            yield workers
    elif processes > 1:
        from turnover.jobs.processes import Processes

        with Processes(processes, threads, on_gpu) as processes_here:
            yield processes_here
    else:
        yield _ThisProcess()
