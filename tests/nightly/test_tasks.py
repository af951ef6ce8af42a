"""Every work that is cut into tasks goes on after a stop to the same bits, and does nothing twice;
what runs tasks fails in one line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.builders import ONE_THREAD, ROOT, failing_after
from tests.helpers.task_works import WORKS
from turnover import TurnoverError
from turnover.jobs import tasks as tasks_module
from turnover.jobs.processes import Processes
from turnover.jobs.tasks import FUNCTIONS, Task, open_workers

CPU = torch.device("cpu")


class Interruption(BaseException):
    """What a test throws into the middle of the work."""


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes of one thread each, as this one has."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def all_tasks(name: str) -> int:
    """How many tasks the whole work has: two times three epochs of three members; chunks of one or
    two targets, and the self-influences; three conditions from two seeds; four halves.
    """
    return {"train": 18, "influence": 9, "cleanse": 6, "retrain": 4}[name]


def test_every_function_has_a_work_here() -> None:
    assert set(WORKS) == set(FUNCTIONS)


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("calls", [2, 4])
def test_what_was_stopped_goes_on_to_the_same_bits(
    name: str, calls: int, of_one_process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it was stopped as it began its `calls`-th task; what was done is not done again."""
    real, whole = tasks_module._do, of_one_process(name)
    with monkeypatch.context() as patch, pytest.raises(Interruption):
        patch.setattr(tasks_module, "_do", failing_after(calls, real, Interruption()))
        WORKS[name](tmp_path, None)
    done: list[str] = []

    def counted(*arguments: Any) -> None:
        done.append(arguments[0])
        real(*arguments)

    monkeypatch.setattr(tasks_module, "_do", counted)
    assert WORKS[name](tmp_path, None) == whole
    assert len(done) == all_tasks(name) - (calls - 1)


# What runs tasks


def a_task(folder: Path, name: str = "train", **arguments: Any) -> Task:
    return Task(name, {"partial": str(folder), "member": 0, "epoch": 0, **arguments}, folder / "x")


def test_a_task_that_fails_is_one_line_here_and_elsewhere(
    tmp_path: Path, two_processes: None
) -> None:
    """A damaged file of what all processes read."""
    (tmp_path / "splits.checkpoint").write_bytes(b"nothing")
    task = a_task(tmp_path, masked=True, device="cpu")
    with (
        open_workers(2, CPU) as workers,
        pytest.raises(TurnoverError, match=r"splits\.checkpoint: the checkpoint is damaged"),
    ):
        list(workers.run([task, task]))


def test_a_process_that_dies_is_named_with_what_it_was_at(tmp_path: Path) -> None:
    with Processes(1, 1, gpus=False) as workers:
        process = workers._process(0)
        process.kill()
        with pytest.raises(TurnoverError, match="ended with code -9, perhaps because the memory"):
            list(workers.run([a_task(tmp_path)]))


def test_processes_end_when_what_started_them_is_killed(tmp_path: Path) -> None:
    code = """
import time
from turnover.jobs.processes import Processes
print(Processes(1, 1, False)._process(0).pid, flush=True)
time.sleep(60)"""
    starter = subprocess.Popen(
        [sys.executable, "-c", code], env=ONE_THREAD, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    number = int(starter.stdout.readline())
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    for _ in range(600):
        if (
            not Path(f"/proc/{number}/cmdline").exists()
            or not Path(f"/proc/{number}/cmdline").read_bytes()
        ):
            break
        time.sleep(0.1)
    else:
        os.kill(number, signal.SIGKILL)
        pytest.fail("a process was left behind")


def test_a_missing_ray_and_a_missing_cluster_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        with (
            pytest.raises(TurnoverError, match=r"pip install 'turnover\[cluster\]'"),
            open_workers(2, CPU, "127.0.0.1:1"),
        ):
            pass
    assert not list(tmp_path.iterdir())
