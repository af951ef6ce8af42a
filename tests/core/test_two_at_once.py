"""Two processes on one run: the second is refused by name, or both end whole; nobody works on what another is writing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core import Run, TurnoverError
from core.lock import alone
from core.pipeline.influence import compute_influence
from tests.core.builders import ROOT, checksums, names, train_digits

_HOLD = (
    "import sys; from pathlib import Path; from core.lock import alone\nwith alone(Path(sys.argv[1]), 'at work'): print('held', flush=True); sys.stdin.read()"
)


@contextmanager
def held_elsewhere(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock."""
    command = [sys.executable, "-c", _HOLD, str(lock)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_training_is_refused_by_the_first_ones_number(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / ".run.lock") as other:
        with pytest.raises(TurnoverError, match=rf"^process {other.pid} is training .*/run already; wait until it is done, or end it$"):
            train_digits(tmp_path / "run", limit=20, members=1)
        assert names(tmp_path) == [".run.lock"]
        train_digits(tmp_path / "another", limit=20, members=1)
    train_digits(tmp_path / "run", limit=20, members=1)
    assert names(tmp_path) == ["another", "run"]


def test_a_second_influence_is_refused_and_disturbs_nothing(run_copy: Path) -> None:
    before = checksums(run_copy / "influence")
    with held_elsewhere(run_copy / ".influence.lock") as other:
        (run_copy / ".influence.new").mkdir()
        (run_copy / ".influence.new" / "half.npy").touch()
        with pytest.raises(TurnoverError, match=rf"process {other.pid} is computing influences of .*copy already"):
            compute_influence(Run(run_copy), device_choice="cpu")
        assert names(run_copy / ".influence.new") == ["half.npy"]
    assert checksums(run_copy / "influence") == before
    compute_influence(Run(run_copy), device_choice="cpu")
    assert checksums(run_copy / "influence") == before and not [name for name in names(run_copy) if name.startswith(".")]


def together(*works: Callable[[], object]) -> list[TurnoverError]:
    """Do some works at the same time; what refused them."""
    start, refused = threading.Barrier(len(works)), list[TurnoverError]()

    def do(work: Callable[[], object]) -> None:
        start.wait()
        try:
            work()
        except TurnoverError as error:
            refused.append(error)

    threads = [threading.Thread(target=do, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refused


def test_two_influences_at_once_leave_a_whole_one(run_copy: Path) -> None:
    before, run = checksums(run_copy / "influence"), Run(run_copy)
    refused = together(*[lambda: compute_influence(run, device_choice="cpu")] * 2)
    assert len(refused) <= 1 and all("is computing influences" in str(error) for error in refused)
    assert checksums(run_copy / "influence") == before and Run(run_copy).influence.targets


def test_two_trainings_at_once_leave_a_whole_run(tmp_path: Path) -> None:
    refused = together(*[lambda: train_digits(tmp_path / "run", limit=20, members=1)] * 2)
    assert len(refused) == 1 and any(word in str(refused[0]) for word in ("is training", "exists; choose another"))
    assert len(Run(tmp_path / "run").train) == 20 and names(tmp_path) == ["run"]


def test_what_a_process_left_when_it_was_killed_keeps_nobody_out(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / ".lock") as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        assert (tmp_path / ".lock").read_text() == f"{other.pid}\n"
        with alone(tmp_path / ".lock", "at work"):
            assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
    assert names(tmp_path) == []


def test_no_two_ever_hold_it(tmp_path: Path) -> None:
    """Though the file is deleted and made anew each time."""
    inside, most, done = [0], [0], [0]

    def work() -> None:
        for _ in range(60):
            try:
                with alone(tmp_path / ".lock", "at work"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    done[0] += 1
                    inside[0] -= 1
            except TurnoverError as error:
                assert "is at work already" in str(error)

    assert together(*[work] * 4) == []
    assert most == [1] and done[0] >= 60 and names(tmp_path) == []


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(TurnoverError, match=r"\.lock: cannot be written"), alone(tmp_path / ".lock", "at work"):
        pass
    assert (tmp_path / "precious").read_text() == "kept"
