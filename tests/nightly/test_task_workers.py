"""Every work that is cut into tasks, in two processes and on two nodes of a Ray cluster, one of
which is lost on the way: the bits of one process, and nothing lost.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.cluster_utils import Cluster

from tests.helpers.builders import ONE_THREAD, ROOT
from tests.helpers.task_works import WORKS, cleanse_command, copied
from turnover.jobs import cluster as cluster_module
from turnover.jobs.tasks import open_workers


@pytest.mark.parametrize("name", WORKS)
def test_two_processes_give_the_bits_of_one(
    name: str, of_one_process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one thread each, as this one has; also where one process would keep all cores busy."""
    whole = of_one_process(name)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    by_core = lambda count, device, cluster=None, cores=True: open_workers(count, device)  # noqa: E731
    monkeypatch.setattr("turnover.workflows.influence.open_workers", by_core)
    assert WORKS[name](tmp_path, None) == whole


# A cluster


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """A cluster whose head does no tasks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(os.path.abspath, sys.path)))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 0, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=head)
        yield made
        made.shutdown()


@pytest.mark.parametrize("name", WORKS)
def test_what_a_lost_node_had_taken_along_is_done_by_the_other(
    name: str, of_one_process: Any, nodes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node is lost after the first task, when both are at one."""
    whole = of_one_process(name)
    kept, lost = (nodes.add_node(num_cpus=1) for _ in range(2))
    real, left = cluster_module.Cluster.run, [kept, lost]

    def run(*arguments: Any) -> Iterator[Any]:
        for task in real(*arguments):
            if lost in left:
                left.remove(lost)
                nodes.remove_node(lost, allow_graceful=False)
            yield task

    monkeypatch.setattr(cluster_module.Cluster, "run", run)
    try:
        assert WORKS[name](tmp_path, nodes.address) == whole
        assert left == [kept] and not lost.any_processes_alive()
    finally:
        nodes.remove_node(kept, allow_graceful=False)


def test_a_cluster_is_started_here_for_the_time_of_a_command(
    tmp_path: Path, of_one_process: Any
) -> None:
    run = copied(tmp_path)
    command = [sys.executable, "-m", "turnover", *cleanse_command(run.folder)]
    done = subprocess.run(
        [*command, "--cluster", "local"], env=ONE_THREAD, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"'{run.folder}'" not in done.stderr and "retraining" in done.stderr


# Stopped


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_ended_takes_its_processes_along_and_goes_on(
    end: signal.Signals, tmp_path: Path
) -> None:
    run = copied(tmp_path)
    command = [sys.executable, "-m", "turnover", *cleanse_command(run.folder, 9)]
    environment = {**ONE_THREAD, "OMP_NUM_THREADS": "2"}
    first = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)
    parts = run.folder / ".cleanse.partial"
    while not list(parts.glob("*-0.npz")):
        assert first.poll() is None
        time.sleep(0.01)
    threads = Path(f"/proc/{first.pid}/task").glob("*/children")
    children = [child for thread in threads for child in thread.read_text().split()]
    first.send_signal(end)
    assert first.wait() == (-end if end == signal.SIGKILL else 130)
    for _ in range(100):
        left = [child for child in children if Path(f"/proc/{child}/exe").exists()]
        if not left:
            break
        time.sleep(0.1)
    assert children and not left
    done = {path.name: path.read_bytes() for path in parts.glob("*-?.npz")}
    assert done
    again = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    total = 27 - len(done)
    assert f"/{total} [" in again.stderr
