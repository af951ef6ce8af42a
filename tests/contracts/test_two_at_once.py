"""Two processes on one run: the second is refused by name, or both end whole; nobody works on what another is writing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import core.fidelity.methods as methods
from core import Run, TurnoverError
from core.atomic import write_atomic
from core.cleansing.results import read_cleansings
from core.cli import build_parser, main
from core.fidelity.results import read_results
from core.lock import alone, is_locked, locked, wait_for
from core.pipeline.influence import compute_influence
from tests.helpers.builders import ROOT, checksums, names, train_digits

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
        with pytest.raises(
            TurnoverError, match=rf"^process {other.pid} is training .*/run already, since \d{{4}}-\d\d-\d\d \d\d:\d\d; wait until it is done, or end it$"
        ):
            train_digits(tmp_path / "run", limit=20, members=1)
        assert names(tmp_path) == [".run.lock"]
        train_digits(tmp_path / "another", limit=20, members=1)
    train_digits(tmp_path / "run", limit=20, members=1)
    assert names(tmp_path) == ["another", "run"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_to_have_none(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    path = tmp_path / "lock"
    path.touch()
    opened = (lambda: alone(path, "at work").__enter__(), lambda: locked(path).__enter__())
    for use in (*opened, lambda: is_locked(path), lambda: wait_for(path)):
        with pytest.raises(TurnoverError, match=rf"^{path}: its file system has no locks \({os.strerror(code)}\); choose a folder on a local disk$"):
            use()


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


# Measures, cleansings, groups


def execute(command: str, run: Path, *options: str) -> dict[str, Any]:
    """What a command returns."""
    arguments = build_parser().parse_args([command, "--run", str(run), *options])
    done: dict[str, Any] = arguments.module.execute(arguments)
    return done


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A run with few targets, which is soon measured."""
    folder = train_digits(tmp_path / "few", validation_limit=20)
    compute_influence(Run(folder), device_choice="cpu")
    return folder


PLANTED = ("evaluate", ("--measure", "planted", "--rivals", "random", "--device", "cpu"))
LOO = ("evaluate", ("--measure", "loo", "--instances", "4", "--seeds", "1", "--rivals", "random", "--device", "cpu"))
LDS = ("evaluate", ("--measure", "lds", "--halves", "4", "--seeds", "1", "--rivals", "random", "--device", "cpu"))
CLEANSE = ("cleanse", ("--fraction", "0.1", "--repeats", "1", "--device", "cpu"))
OTHERS = {"planted": (".evaluate-planted.lock", "measuring planted of", PLANTED), "cleanse": (".cleanse.lock", "cleansing", CLEANSE)}


@pytest.mark.parametrize("case", OTHERS)
def test_a_second_one_is_refused_in_a_line_and_writes_nothing(case: str, few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock, words, (command, options) = OTHERS[case]
    before = names(few)
    with held_elsewhere(few / lock) as other:
        capsys.readouterr()
        assert main([command, "--run", str(few), *options]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"python -m core {command}: process {other.pid} is {words} {few} already, since 20") and said.count("\n") == 1
        assert names(few) == sorted([*before, lock])
        assert execute(LOO[0], few, *LOO[1])["measure"] == "loo"
    execute(command, few, *options)
    assert not [name for name in names(few) if name.startswith(".")]


def test_two_cleansings_at_once_leave_a_whole_one(few: Path) -> None:
    refused = together(*[lambda: execute(CLEANSE[0], few, *CLEANSE[1])] * 2)
    assert len(refused) == 1 and "is cleansing" in str(refused[0])
    (found,), problems = read_cleansings(Run(few))
    assert found.finished and not problems and names(few / "cleansing") == ["validation-0.1-1-seeds.json"]


def test_two_measures_at_once_compute_what_both_need_once(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave-one-out asks rivals for self-influence and for the targets', and so for the scores that the other measure asks for."""
    asked, real = list[int](), methods._problem
    monkeypatch.setattr(methods, "_problem", lambda subject, member: asked.append(member) or real(subject, member))
    assert together(*[lambda work=work: execute(work[0], few, *work[1]) for work in (LDS, LOO)]) == []  # type: ignore[misc]
    assert asked == [0, 0]
    kept = read_results(Run(few))
    assert [one.name for one in kept.found] == ["lds", "loo"] and not kept.problems
    assert not list(few.rglob(".*"))
    monkeypatch.setattr(methods, "_problem", None)
    for command, options in (LDS, LOO):
        execute(command, few, *options)


def test_groups_asked_twice_at_once_are_the_same_and_their_pictures_whole(run_copy: Path) -> None:
    run, answers = Run(run_copy), list[dict[str, Any]]()
    mistakes = [option for position in run.errors[:8] for option in ("--error", str(run.item("validation", position)["id"]))]
    assert together(*[lambda: answers.append(execute("groups", run_copy, *mistakes))] * 4) == []
    assert len(answers) == 4 and all(answer == answers[0] for answer in answers)
    pictures = sorted((run_copy / "thumbnails").iterdir())
    assert pictures and all(path.suffix == ".png" and path.read_bytes().endswith(b"IEND\xaeB`\x82") for path in pictures)


def test_a_file_written_twice_at_once_is_one_or_the_other(tmp_path: Path) -> None:
    def write(content: str) -> None:
        for _ in range(100):
            write_atomic(tmp_path / "file", lambda beside: beside.write_text(content))

    assert together(*[lambda content=content: write(content) for content in ("a" * 5000, "b" * 10, "c" * 99)]) == []  # type: ignore[misc]
    assert (tmp_path / "file").read_text() in ("a" * 5000, "b" * 10, "c" * 99) and names(tmp_path) == ["file"]


# Locks


def test_who_waits_says_for_whom_and_goes_on_when_that_one_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = threading.Event()

    def work() -> None:
        with alone(tmp_path / ".lock", "at work", wait=True):
            assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
            done.set()

    with held_elsewhere(tmp_path / ".lock") as other:
        thread = threading.Thread(target=work)
        thread.start()
        assert not done.wait(1)
        assert f"waiting: process {other.pid} is at work already, since 20" in capsys.readouterr().err
        other.kill()
        assert done.wait(20)
        thread.join()
    assert names(tmp_path) == []


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
