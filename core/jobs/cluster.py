"""Tasks on a Ray cluster (https://docs.ray.io), whose nodes share a disk with this machine.

Ray gives each task its cores and GPU, and runs again elsewhere what a lost node had taken along.
Its usage statistics are off, and a cluster that is started here (`--cluster local`) has no
dashboard and listens on 127.0.0.1 only. Every node needs this package.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from turnover.errors import TurnoverError, missing_package
from turnover.jobs.tasks import Task, do_message
from turnover.storage.progress import Advance, silent

LOCAL = "local"
"""In place of an address: a cluster that is started here, for as long as the command runs."""
_RETRIES = 10
"""How often a task is begun anew after its node or process was lost."""


def answered(message: str) -> str:
    """Do the task of a message; returns the error in one line, "" if it is done."""
    try:
        do_message(message)
    except TurnoverError as error:
        return str(error)
    return ""


@contextmanager
def connected(address: str, threads: int, gpus: int) -> Iterator[Cluster]:
    """The cluster at an address; each task gets so many threads and GPUs.

    Raises:
        TurnoverError: if Ray is not installed, no cluster answers, or none of its nodes has a GPU.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ModuleNotFoundError as error:
        raise missing_package(error) or error from None
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, address)
    try:
        largest = int(max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]))
        if ray.cluster_resources().get("GPU", 0) < gpus:
            raise TurnoverError(f"--cluster {address}: no node has a GPU; choose --device cpu")
        threads = max(1, min(threads, largest))
        yield Cluster(ray, threads, gpus, largest // threads)
    finally:
        if ours:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
    if address == LOCAL:
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise TurnoverError(
            f"--cluster {address}: no Ray cluster answers there ({str(error).splitlines()[0]}); "
            "start one with `ray start --head`, and give its address"
        ) from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray puts its own there


class Cluster:
    """A cluster that runs tasks, as `turnover.jobs.tasks.Workers`."""

    elsewhere = True

    def __init__(self, ray: Any, threads: int, gpus: int, together: int) -> None:
        self._ray, self._threads, self.together = ray, threads, together
        options = {"num_cpus": threads, "num_gpus": gpus, "max_retries": _RETRIES}
        self._answered = ray.remote(**options)(answered)

    def run(self, tasks: Sequence[Task], advance: Advance = silent) -> Iterator[Task]:
        """As `turnover.jobs.tasks.Workers`."""
        ray, waiting = self._ray, {}
        try:
            for task in tasks:
                waiting[self._answered.remote(task.message(self._threads))] = task
            while waiting:
                (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
                task = waiting.pop(ready)
                self._check(ready, task)
                advance(task.size)
                yield task
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)

    def _check(self, ready: Any, task: Task) -> None:
        try:
            error = self._ray.get(ready)
        except self._ray.exceptions.RayError as failure:
            error = (
                f"the cluster gave {task.result.name} up: {str(failure).strip().splitlines()[-1]}"
            )
        if error:
            raise TurnoverError(error)
        if not task.result.exists():
            raise TurnoverError(
                f"{task.result}: written by the cluster, but not to be seen here; its nodes must "
                "share this disk, under the same path"
            )
