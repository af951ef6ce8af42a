"""What runs in a job's own process: its steps, one after the other, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from turnover.atomic import write_atomic
from turnover.errors import TurnoverError
from turnover.jobs.job import BEGUN, CANCELLED, GROUP, LOG, PROGRESS, TURN, Job, read_job, write_outcome
from turnover.lock import wait_for
from turnover.progress import VARIABLE

GRACE = 5.0
"""Seconds that a step has to tidy up when the job is cancelled."""

_PRINTED = "printed"


def run_job(folder: Path) -> list[dict[str, Any]]:
    """Wait for this job's turn and run the steps that are not finished yet; returns what all steps printed.

    Raises:
        TurnoverError: if the folder holds no job, or one that was not started by `turnover.jobs.start_job`, or a step fails.
        KeyboardInterrupt: if the job is cancelled; its process group is ended then.
    """
    job = read_job(folder)
    if not job.state.active:
        raise TurnoverError(f"{folder}: jobs are started from the dashboard, not by hand")
    try:
        write_atomic(folder / GROUP, lambda beside: beside.write_text(str(os.getpgrp())))
        _stop_if_cancelled(folder)
        turn = wait_for(folder.parent / TURN)
        (folder / BEGUN).touch()
        return _run_steps(job, turn)
    except KeyboardInterrupt:
        if os.getpgrp() == os.getpid():  # the job's own group, and nobody else's
            os.killpg(0, signal.SIGKILL)
        raise


def _run_steps(job: Job, turn: int) -> list[dict[str, Any]]:
    """Run what is missing, and note after each step what it printed."""
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
    """What one command printed. The standard input that it inherits is the job's lock, and `turn` stays taken while it lives.

    Raises:
        TurnoverError: if it fails; the text is the last line that it said.
    """
    (folder / PROGRESS).unlink(missing_ok=True)
    command, told = [sys.executable, "-m", "turnover", *step, "--json"], {**os.environ, VARIABLE: str(folder / PROGRESS)}
    with (folder / _PRINTED).open("w+b") as printed, (folder / LOG).open("ab") as log:
        said = log.tell()
        process = subprocess.Popen(command, env=told, stdout=printed, stderr=log, pass_fds=(turn,))
        try:
            code = process.wait()
        except KeyboardInterrupt:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            raise
        if code:
            raise TurnoverError(_problem(folder / LOG, said, step[0], code))
        return _result(printed, step[0])


def _stop_if_cancelled(folder: Path) -> None:
    if (folder / CANCELLED).exists():
        raise KeyboardInterrupt


def _problem(log: Path, said: int, command: str, code: int) -> str:
    """Why a command failed, in one line."""
    if code < 0:
        why = ", perhaps because the memory was full" if code == -signal.SIGKILL else ""
        return f"{command} was ended by signal {-code}{why}"
    with log.open("rb") as file:
        file.seek(said)
        lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip().removeprefix(f"turnover {command}: ") if lines else f"{command} ended with code {code} and said nothing"


def _result(printed: IO[bytes], command: str) -> dict[str, Any]:
    """The JSON object that a command printed."""
    printed.seek(0)
    try:
        return dict(json.loads(printed.read()))
    except (ValueError, TypeError, RecursionError):
        raise TurnoverError(f"{command} printed no result") from None
