"""What needs processes: killed at any moment, cancelled, waited for, many at once."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.builders import (
    ROOT,
    SMALL_RUN,
    checksums,
    names,
    run_python,
)
from tests.helpers.fake_jobs import fake_job
from tests.helpers.job_testing import HANGING, QUICK, ended, hang, lives, wait
from tests.helpers.storage_testing import held_elsewhere
from turnover import Run, TurnoverError
from turnover.flags import Flags
from turnover.jobs import (
    State,
    cancel_job,
    find_jobs,
    forget_job,
    log_tail,
    read_job,
    resume_job,
    start_job,
)
from turnover.jobs.job import CANCELLED, GROUP, OUTCOME
from turnover.storage.lock import alone

# Locks


def test_who_waits_says_for_whom_and_goes_on_when_that_one_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done, lock = threading.Event(), tmp_path / ".lock"

    def work() -> None:
        with alone(lock, "at work", wait=True):
            assert lock.read_text() == f"{os.getpid()}\n"
            done.set()

    with held_elsewhere(lock) as other:
        thread = threading.Thread(target=work)
        thread.start()
        assert not done.wait(1)
        said = f"waiting: process {other.pid} is at work already, since 20"
        assert said in capsys.readouterr().err
        with pytest.raises(TurnoverError, match=rf"^process {other.pid} is at work already, since"):
            alone(lock, "at work").__enter__()
        other.kill()
        assert done.wait(20)
        thread.join()
    assert names(tmp_path) == []


def test_what_a_process_left_when_it_was_killed_keeps_nobody_out(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with held_elsewhere(lock) as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        assert lock.read_text() == f"{other.pid}\n"
        with alone(lock, "at work"):
            assert lock.read_text() == f"{os.getpid()}\n"
    assert names(tmp_path) == []


# Flags

PUTTING = """
import sys
from pathlib import Path
from turnover.flags import Flags
folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
flags = Flags(folder, by=f"person {first}")
for instance in range(first, first + count):
    flags.put(instance, "drop", note=f"by {first}")
    print(instance, flush=True)
"""


def putting(folder: Path, first: int, count: int, told: Path) -> subprocess.Popen[str]:
    """A process that puts flags, and writes each to `told` as soon as `put` has returned."""
    command = [sys.executable, "-c", PUTTING, str(folder), str(first), str(count)]
    with told.open("w") as out:
        return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True)


def test_twenty_processes_at_once_lose_no_flag(tmp_path: Path) -> None:
    """They even make the file together."""
    running = [putting(tmp_path, 100 * one, 10, tmp_path / str(one)) for one in range(20)]
    for one in running:
        _, err = one.communicate(timeout=120)
        assert one.returncode == 0, err
    flags = Flags(tmp_path, by="person 300")
    expected = [100 * number + own for number in range(20) for own in range(10)]
    assert sorted(flags.current()) == expected
    last = flags.overview().last
    assert last and [flag.instance for flag in last.flags] == [309]
    assert all(len(flags.history(instance)) == 1 for instance in flags.current())


def test_a_kill_at_any_moment_loses_no_flag_that_was_confirmed(tmp_path: Path) -> None:
    rng, told, processes, notes = random.Random(0), set[int](), 0, tmp_path / "told"
    notes.mkdir()
    for _ in range(8):
        numbers = range(processes, processes + 2)
        pair = [putting(tmp_path, 10_000 * one, 10_000, notes / str(one)) for one in numbers]
        processes += 2
        wait(lambda: all(path.stat().st_size for path in notes.iterdir()))
        time.sleep(rng.uniform(0, 0.2))
        for one in pair:
            one.send_signal(signal.SIGKILL)
            one.communicate(timeout=60)
        lines = [line for path in notes.iterdir() for line in path.read_text().splitlines(True)]
        told = {int(line) for line in lines if line.endswith("\n")}
        kept = set(Flags(tmp_path).current())
        assert told <= kept
        assert len(kept - told) <= processes  # of each one killed, what it was about to tell
    assert len(told) > 2 * processes


READ_AS_NOBODY = """
import json, os, sys
from pathlib import Path
from turnover.errors import TurnoverError
from turnover.flags import Flags
folder = Path(sys.argv[1])
os.chmod(folder, 0o555)
if os.getuid() == 0:
    os.setuid(65534)
flags = Flags(folder, by="ann")
try:
    flags.put(9, "drop")
    stored = "yes"
except TurnoverError as error:
    stored = str(error)
print(json.dumps([list(flags.current()), stored, sorted(os.listdir(folder))]))
"""


@pytest.mark.parametrize("crashed", [False, True])
def test_a_folder_that_cannot_be_written_to_is_read(tmp_path: Path, crashed: bool) -> None:
    top = Path(tempfile.gettempdir())
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(top) and folder != top:
            folder.chmod(0o755)
    home, folder = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    Flags(home).put(1, "drop")
    if crashed:  # somebody looks, so that what comes last stays in the log; then all is copied
        held = sqlite3.connect(home / "flags.sqlite")
        held.execute("SELECT COUNT(*) FROM decisions").fetchone()
        Flags(home).put(2, "drop")
        assert (home / "flags.sqlite-wal").stat().st_size
    shutil.copytree(home, folder, ignore=shutil.ignore_patterns("*-shm"))
    if crashed:
        held.close()
    try:
        seen, stored, there = json.loads(run_python(READ_AS_NOBODY, folder))
    finally:
        folder.chmod(0o755)
    assert seen == ([1, 2] if crashed else [1])
    assert "flags.sqlite" in stored and "cannot be" in stored
    assert set(there) <= {"flags.sqlite", "flags.sqlite-wal"}


# Jobs

TRAINS = ["train", "--data", "digits"]


def group_of(folder: Path) -> int:
    return int((folder / GROUP).read_text())


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """From now on one command hangs; this waits until it does, and returns its and its child's."""
    children = hang(tmp_path / "hang", monkeypatch)

    def numbers() -> list[int]:
        wait(lambda: children.exists() and len(children.read_text().split()) == 2)
        return [int(process) for process in children.read_text().split()]

    return numbers


def test_a_job_outlives_who_started_it_and_every_process_sees_the_same(tmp_path: Path) -> None:
    head = (
        "import sys; from pathlib import Path; from turnover.jobs import *; runs = "
        "Path(sys.argv[1])"
    )
    starts = f"{head}\nstart_job(runs, [['runs']], 'x'); print(len(find_jobs(runs)))"
    assert int(run_python(starts, tmp_path)) == 1
    (job,) = find_jobs(tmp_path)
    assert ended(job).state is State.DONE
    looks = f"{head}\nprint([(job.id, job.state.value) for job in find_jobs(runs)])"
    assert run_python(looks, tmp_path).strip() == str([(job.id, "done")])


def test_a_step_that_is_killed_says_so(tmp_path: Path, hanging: Callable[[], list[int]]) -> None:
    job = start_job(tmp_path, [HANGING], "killed")
    for process in hanging():
        os.kill(process, signal.SIGKILL)
    failed = ended(job)
    why = "export was ended by signal 9, perhaps because the memory was full"
    assert (failed.state, failed.outcome.error) == (State.FAILED, why)


def test_jobs_of_one_folder_take_turns_and_are_forgotten_only_when_they_are_over(
    tmp_path: Path, hanging: Callable[[], list[int]]
) -> None:
    first = start_job(tmp_path, [HANGING], "first")
    hanging()
    second, third = (start_job(tmp_path, [QUICK], name) for name in ("second", "third"))
    assert [job.label for job in find_jobs(tmp_path)] == ["third", "second", "first"]
    for job in (second, third):
        wait((job.folder / GROUP).exists)
    with pytest.raises(TurnoverError, match="still at work; cancel it first"):
        forget_job(first)
    cancel_job(third)
    assert ended(third).state is State.CANCELLED
    states = read_job(second.folder).state, read_job(first.folder).state
    assert states == (State.QUEUED, State.RUNNING)
    os.killpg(group_of(first.folder), signal.SIGKILL)
    assert ended(second).state is State.DONE
    forget_job(ended(first))
    assert not first.folder.exists()


def test_cancelling_ends_the_whole_group_even_what_does_not_listen(
    tmp_path: Path, hanging: Callable[[], list[int]]
) -> None:
    job = start_job(tmp_path, [QUICK, HANGING], "stubborn")
    processes = hanging()
    cancel_job(job)
    assert read_job(job.folder).state is State.STOPPING
    done = ended(job)
    told = done.state, done.outcome.error, len(done.outcome.results)
    assert told == (State.CANCELLED, "", 1)
    wait(lambda: not any(map(lives, processes)), 5)


def test_cancelling_a_training_leaves_nothing_half_written_and_it_can_go_on(tmp_path: Path) -> None:
    run, partial = tmp_path / "run", tmp_path / "run.partial" / "masked.checkpoint"
    step = [*TRAINS, "--limit", "400", "--members", "4", "--run", str(run)]
    job = start_job(tmp_path, [step], "train")
    wait(partial.exists)
    cancel_job(job)
    assert ended(job).state is State.CANCELLED
    assert partial.exists() and not run.exists() and not list(tmp_path.rglob("*.new"))
    assert "Traceback" not in log_tail(job)


def test_cancelling_in_the_first_moment(tmp_path: Path) -> None:
    job = start_job(tmp_path, [QUICK], "quick")
    cancel_job(job)
    assert ended(job).state in (State.CANCELLED, State.DONE)
    cancel_job(job)
    assert read_job(job.folder).state in (State.CANCELLED, State.DONE)


def test_a_killed_training_is_lost_and_resumed_to_the_same_bits(
    tmp_path: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = tmp_path / "run"
    options = [part for name, value in SMALL_RUN.items() for part in (f"--{name}", str(value))]
    steps = [["train", *options], ["influence"]]
    steps = [[*step, "--run", str(run), "--device", "cpu"] for step in steps]
    job = start_job(tmp_path, steps, "train")
    wait((tmp_path / "run.partial" / "masked.checkpoint").exists)
    os.killpg(group_of(job.folder), signal.SIGKILL)
    assert ended(job).state is State.LOST and not run.exists()
    again = ended(resume_job(job))
    told = again.state, again.id, len(again.outcome.results)
    assert told == (State.DONE, job.id, 2), again.outcome
    assert checksums(run) == checksums(small_run)
    assert Run(run).influence.targets == Run(small_run).influence.targets


def test_a_step_whose_runner_was_killed_keeps_the_job_alive_and_is_ended_with_it(
    tmp_path: Path, hanging: Callable[[], list[int]]
) -> None:
    """Else resuming would set a second training on the same files."""
    job = start_job(tmp_path, [HANGING], "orphan")
    hanging()
    os.kill(group_of(job.folder), signal.SIGKILL)
    wait(lambda: not lives(group_of(job.folder)))
    assert read_job(job.folder).state is State.RUNNING
    with pytest.raises(TurnoverError, match="at work already"):
        resume_job(job)
    os.killpg(group_of(job.folder), signal.SIGKILL)
    assert ended(job).state is State.LOST


def test_another_process_with_the_job_s_number_is_not_taken_for_it(tmp_path: Path) -> None:
    """As if the machine had gone down, and the number had been given to somebody else."""
    folder = fake_job(tmp_path, [QUICK], begun=True)
    assert not (folder / OUTCOME).exists()
    with subprocess.Popen(["sleep", "20"], start_new_session=True) as stranger:
        (folder / GROUP).write_text(str(stranger.pid))
        job = read_job(folder)
        assert job.state is State.LOST
        cancel_job(job)
        assert stranger.poll() is None and not (folder / CANCELLED).exists()
        stranger.kill()
