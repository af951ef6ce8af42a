"""Start, cancel, resume and forget jobs; and what runs in a job's own process.

That process, `turnover job`, runs the steps in order, each in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from turnover.errors import TurnoverError
from turnover.jobs.job import (
    BEGUN,
    CANCELLED,
    FACTS,
    FOLDER,
    GROUP,
    LATER,
    LOCK,
    LOG,
    OUTCOME,
    PROGRESS,
    TURN,
    Job,
    read_job,
    read_outcome,
    write_outcome,
)
from turnover.storage.artifacts import write_facts
from turnover.storage.atomic import disk_error, write_atomic
from turnover.storage.lock import is_locked, locked
from turnover.storage.progress import VARIABLE


def start_job(runs: Path, steps: Sequence[Sequence[str]], label: str, low: bool = False) -> Job:
    """Start a job in a process of its own: each step is the arguments of one `turnover …`, without
    --json. One at `low` priority gives way to all other processes and keeps no other job waiting.

    Raises:
        TurnoverError: if there is no step, or the job's folder cannot be written.
    """
    if not steps or not all(steps):
        raise TurnoverError("a job needs a step, and each step a command")
    now = datetime.now(UTC)
    folder = runs / FOLDER / f"{now:%Y%m%d-%H%M%S-%f}-{secrets.token_hex(2)}"
    facts = {
        "label": label,
        "created": now.isoformat(timespec="seconds"),
        "steps": [list(step) for step in steps],
        "low": low,
    }
    write_facts(folder / FACTS, facts)
    _launch(folder)
    return read_job(folder)


def cancel_job(job: Job) -> None:
    """Ask a job's processes to end; those still alive some seconds later are killed. Returns at
    once.

    Raises:
        TurnoverError: if the job's folder cannot be written.
    """
    if not is_locked(job.folder / LOCK):
        return
    try:
        # before the signal, so that its effect is not taken for a failure
        (job.folder / CANCELLED).touch()
        group = int((job.folder / GROUP).read_text())
    except FileNotFoundError:
        return  # it has just started, and checks for the mark before it begins
    except (OSError, ValueError) as error:
        raise TurnoverError(
            f"{job.folder}: the job cannot be cancelled ({error}); check the folder and its "
            "permissions"
        ) from None
    if is_locked(job.folder / LOCK):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)


def resume_job(job: Job) -> Job:
    """Start the same steps again, without those that are finished; each resumes as far as its
    command can.

    Raises:
        TurnoverError: if the job is still running or done, or its folder cannot be written.
    """
    outcome = read_outcome(job.folder)
    if outcome.finished:
        raise TurnoverError(f"job “{job.label}” is done; there is nothing to resume")
    _launch(job.folder)
    return read_job(job.folder)


def forget_job(job: Job) -> None:
    """Delete a job's folder, but not its results.

    Raises:
        TurnoverError: if the job is still running.
    """
    with contextlib.suppress(FileNotFoundError), locked(job.folder / LOCK) as lock:
        if lock is None:
            raise TurnoverError(f"job “{job.label}” is still at work; cancel it first")
        # first: without it the rest is no job
        (job.folder / FACTS).unlink(missing_ok=True)
        shutil.rmtree(job.folder, ignore_errors=True)


def _launch(folder: Path) -> None:
    """Start the process that runs the steps. It inherits the locked file as its standard input, and
    passes it on to its children.

    Raises:
        TurnoverError: if the job is already running, or no process can be started.
    """
    try:
        with locked(folder / LOCK) as lock, (folder / LOG).open("ab") as log:
            if lock is None:
                raise TurnoverError(f"{folder.name}: this job is at work already")
            _clear(folder)
            command = [sys.executable, "-m", "turnover", "job", "--folder", str(folder.resolve())]
            process = subprocess.Popen(
                command, stdin=lock, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
            )
    except OSError as error:
        raise disk_error(folder, error) from None
    threading.Thread(target=process.wait, daemon=True).start()  # so that no zombie is left


def _clear(folder: Path) -> None:
    """Remove traces of the last attempt, except the results of its finished steps."""
    results = read_outcome(folder).results
    for name in (GROUP, BEGUN, CANCELLED, PROGRESS, OUTCOME):
        (folder / name).unlink(missing_ok=True)
    if results:
        write_outcome(folder, list(results))


# The job's own process

GRACE = 5.0
"""Seconds that a step has to clean up when the job is cancelled."""

_PRINTED, _NICE = "printed", 19


def run_job(folder: Path) -> list[dict[str, Any]]:
    """Wait for this job's turn and run the unfinished steps; returns the results of all steps.

    Raises:
        TurnoverError: if the folder holds no job, or one that was not started by
            `turnover.jobs.start_job`, or a step fails.
        KeyboardInterrupt: if the job is cancelled; its process group is ended then.
    """
    job = read_job(folder)
    if not job.state.active:
        raise TurnoverError(f"{folder}: jobs are started from the dashboard, not by hand")
    try:
        write_atomic(folder / GROUP, lambda beside: beside.write_text(str(os.getpgrp())))
        _stop_if_cancelled(folder)
        if job.low:
            _give_way()
        with locked(folder.parent / (LATER if job.low else TURN), wait=True) as turn:
            assert turn is not None
            (folder / BEGUN).touch()
            return _run_steps(job, turn)
    except KeyboardInterrupt:
        if os.getpgrp() == os.getpid():  # the job's own group, and nobody else's
            os.killpg(0, signal.SIGKILL)
        raise


def _give_way() -> None:
    """Leave this machine to others. Threads that wait for one that has no core are slow, so half of
    the cores are used.
    """
    os.nice(_NICE)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))


def _run_steps(job: Job, turn: int) -> list[dict[str, Any]]:
    """Run the missing steps, and record each result."""
    results = list(job.outcome.results)
    for step in job.steps[len(results) :]:
        try:
            results.append(_run_step(job.folder, step, turn))
        except TurnoverError as error:
            _stop_if_cancelled(job.folder)  # then it is no failure
            write_outcome(job.folder, results, error=str(error))
            raise
        write_outcome(job.folder, results, finished=len(results) == len(job.steps))
    return results


def _run_step(folder: Path, step: tuple[str, ...], turn: int) -> dict[str, Any]:
    """The result of one command. Its inherited standard input is the job's lock, and `turn` is held
    while it lives.

    Raises:
        TurnoverError: if it fails, with the last line of its stderr.
    """
    (folder / PROGRESS).unlink(missing_ok=True)
    command, environment = (
        [sys.executable, "-m", "turnover", *step, "--json"],
        {**os.environ, VARIABLE: str(folder / PROGRESS)},
    )
    with (folder / _PRINTED).open("w+b") as printed, (folder / LOG).open("ab") as log:
        log_start = log.tell()
        process = subprocess.Popen(
            command, env=environment, stdout=printed, stderr=log, pass_fds=(turn,)
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            raise
        if code:
            raise TurnoverError(_problem(folder / LOG, log_start, step[0], code))
        return _result(printed, step[0])


def _stop_if_cancelled(folder: Path) -> None:
    if (folder / CANCELLED).exists():
        raise KeyboardInterrupt


def _problem(log: Path, log_start: int, command: str, code: int) -> str:
    """Why a command failed, in one line."""
    if code < 0:
        why = ", perhaps because the memory was full" if code == -signal.SIGKILL else ""
        return f"{command} was ended by signal {-code}{why}"
    with log.open("rb") as file:
        file.seek(log_start)
        lines = [
            line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()
        ]
    return (
        lines[-1].strip().removeprefix(f"turnover {command}: ")
        if lines
        else f"{command} ended with code {code} and said nothing"
    )


def _result(printed: IO[bytes], command: str) -> dict[str, Any]:
    """The JSON object that a command printed."""
    printed.seek(0)
    try:
        return dict(json.loads(printed.read()))
    except (ValueError, TypeError, RecursionError):
        raise TurnoverError(f"{command} printed no result") from None
