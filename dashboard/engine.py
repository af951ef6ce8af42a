"""The worker process that holds a run's model, and short commands; the dashboard stays small.

Protocol: `turnover worker --run DIR` prints `{"ready": true}` on its standard output when the model
is loaded, then answers each JSON line on its standard input with one JSON line.

A `Worker` starts the process in the background, serialises requests with a lock, and restarts the
process if it died. When an answer does not arrive in time, the process is killed and restarted,
since the late answer would be taken for the answer to the next request. A closed worker stays
closed, so that no page that still holds it starts a process that nobody would end.

`answer_of` runs a short command and waits for its JSON output; long commands are jobs
(`turnover.jobs`).
"""

from __future__ import annotations

import atexit
import contextlib
import json
import queue
import shlex
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from turnover.errors import TurnoverError

ANSWER_SECONDS = 60.0
READY_SECONDS = 180.0
COMMAND_SECONDS = 60.0


class Phase(Enum):
    """The state of a worker."""

    STOPPED = "stopped"
    WARMING = "warming up"
    READY = "ready"
    FAILED = "failed"


def worker_command(run_folder: Path) -> list[str]:
    """The command that starts the worker of a run."""
    return [sys.executable, "-m", "turnover", "worker", "--run", str(run_folder.resolve())]


class Worker:
    """One run's worker process; safe to use from many threads."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._asking = threading.Lock()
        self._changing = threading.Lock()
        self._process: _Process | None = None
        self._closed = False
        atexit.register(self.close)

    @property
    def closed(self) -> bool:
        """Whether it was closed for good; a page that holds it gets the run's new worker."""
        return self._closed

    @property
    def phase(self) -> Phase:
        """The worker's current state."""
        process = self._process
        return process.phase if process else Phase.STOPPED

    @property
    def problem(self) -> str:
        """Why the worker failed, in one line."""
        process = self._process
        return process.problem if process else ""

    def start(self, again: bool = False) -> None:
        """Start the process in the background, unless it runs or the worker is closed; a failed one
        is restarted only with `again`.
        """
        with self._changing:
            if (
                self._process is None
                or self._process.ended
                or (again and self._process.phase is Phase.FAILED)
            ):
                self._begin()

    def ask(self, request: dict[str, Any], seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """The worker's answer to a request; waits until the model is loaded.

        Raises:
            TurnoverError: if the worker answers with an error, is closed, cannot be started, ends,
                or does not answer in time.
        """
        with self._asking:
            self.start()
            process = self._process
            if process is None:
                raise TurnoverError(
                    "the engine was put away, since the run was changed or two others were asked; "
                    "ask again"
                )
            try:
                process.wait_ready(READY_SECONDS)
                answer = process.ask(request, seconds)
            except TimeoutError:
                with self._changing:
                    self._begin()
                raise TurnoverError(
                    f"no answer within {seconds:.0f} s; the engine was started again, so ask once "
                    "more, or for less"
                ) from None
        if "error" in answer:
            raise TurnoverError(str(answer["error"]))
        return answer

    def close(self) -> None:
        """End the process for good."""
        with self._changing:
            self._closed = True
            self._end()
        atexit.unregister(self.close)

    def _begin(self) -> None:
        """Replace the process by a new one."""
        self._end()
        if not self._closed:
            self._process = _Process(self._command)

    def _end(self) -> None:
        if self._process:
            self._process.end()
            self._process = None


class _Process:
    """One process of a worker; two threads read its output pipes until they close."""

    def __init__(self, command: list[str]) -> None:
        self._begun = time.monotonic()
        self._ready, self._stderr_closed = threading.Event(), threading.Event()
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._stderr_lines: deque[str] = deque(maxlen=5)
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(
            command,
            text=True,
            encoding="utf-8",
            errors="replace",
            bufsize=1,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )
        for target in (self._read_answers, self._read_stderr):
            threading.Thread(target=target, daemon=True).start()

    @property
    def phase(self) -> Phase:
        if self._popen.poll() is not None:
            return Phase.STOPPED if self._ready.is_set() else Phase.FAILED
        if self._ready.is_set():
            return Phase.READY
        return Phase.WARMING if time.monotonic() - self._begun < READY_SECONDS else Phase.FAILED

    @property
    def ended(self) -> bool:
        """Whether it died after it was ready; one that never was ready would only fail again."""
        return self.phase is Phase.STOPPED

    @property
    def problem(self) -> str:
        if self.phase is not Phase.FAILED:
            return ""
        if self._popen.poll() is None:
            return f"the model was not loaded within {READY_SECONDS:.0f} s"
        self._stderr_closed.wait(1)
        line = (
            self._stderr_lines[-1]
            if self._stderr_lines
            else f"the engine ended with code {self._popen.returncode}"
        )
        return line.removeprefix("turnover worker: ")

    def wait_ready(self, seconds: float) -> None:
        """Wait until the model is loaded.

        Raises:
            TurnoverError: if the process fails, or takes longer than `seconds`.
        """
        end = time.monotonic() + seconds
        while not self._ready.wait(0.05):
            if self.phase is Phase.FAILED or time.monotonic() > end:
                raise TurnoverError(
                    self.problem or f"the model was not loaded within {seconds:.0f} s"
                )

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a request and wait for its answer; TimeoutError if none arrives in time."""
        assert self._popen.stdin
        try:
            self._popen.stdin.write(json.dumps(request) + "\n")
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError from None
        except OSError:
            answer = None
        if answer is None:
            raise TurnoverError(
                "the engine stopped while it was answering; ask again, and it is started anew"
            )
        return answer

    def end(self) -> None:
        """Kill the process; closing its standard input would not end it while it computes."""
        self._popen.kill()
        self._popen.wait()
        with contextlib.suppress(OSError):
            assert self._popen.stdin
            self._popen.stdin.close()

    def _read_answers(self) -> None:
        assert self._popen.stdout
        for line in self._popen.stdout:
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            if not isinstance(answer, dict):
                continue
            if answer.get("ready") is True:
                self._ready.set()
            else:
                self._answers.put(answer)
        self._popen.stdout.close()
        self._answers.put(None)

    def _read_stderr(self) -> None:
        assert self._popen.stderr
        for line in self._popen.stderr:
            if line.strip():
                self._stderr_lines.append(line.strip())
        self._popen.stderr.close()
        self._stderr_closed.set()


# Short commands


class TookTooLong(TurnoverError):
    """A command did not answer in time; nothing is known to be wrong."""


def answer_of(arguments: Sequence[str], seconds: float | None = None) -> dict[str, Any]:
    """The parsed output of `turnover ARGUMENTS --json`, within `seconds` or `COMMAND_SECONDS`.

    Raises:
        TookTooLong: if the command does not answer in time.
        TurnoverError: if the command fails, with the last line of its stderr.
    """
    seconds = COMMAND_SECONDS if seconds is None else seconds
    command = [sys.executable, "-m", "turnover", *arguments, "--json"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TookTooLong(
            f"no answer within {seconds:.0f} s; give the command in a terminal: `turnover "
            f"{shlex.join(arguments)}`"
        ) from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise TurnoverError(
            lines[-1].removeprefix(f"turnover {arguments[0]}: ")
            if lines
            else f"{arguments[0]} ended with code {done.returncode}"
        )
    return dict(json.loads(done.stdout))
