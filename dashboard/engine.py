"""The worker process that holds the models of runs, and short commands; the dashboard stays small.

Protocol: `turnover worker` prints `{"ready": true}` on its standard output, then answers each JSON
line on its standard input, which names a run, with one JSON line.

The `Engine` starts the process in the background, serialises requests with a lock, and restarts the
process if it died, or ended because nobody asked. When an answer does not arrive in time, the
process is killed and restarted, since the late answer would be taken for the answer to the next
request. A `Worker` asks it of one run, whose model is loaded first.

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


def worker_command() -> list[str]:
    """The command that starts the worker."""
    return [sys.executable, "-m", "turnover", "worker"]


class Engine:
    """The one worker process, for all runs; safe to use from many threads."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._asking = threading.Lock()
        self._changing = threading.Lock()
        self._closed = False
        self.process: _Process | None = None
        atexit.register(self.close)

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The worker's answer to a request; starts the process unless it lives.

        Raises:
            TurnoverError: if the worker answers with an error, cannot be started, ends, or does not
                answer in time.
        """
        with self._asking:
            process = self._started()
            try:
                process.wait_ready(READY_SECONDS)
                answer = process.ask(request, seconds)
            except TimeoutError:
                process.end()
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
            if self.process:
                self.process.end()
        atexit.unregister(self.close)

    def _started(self) -> _Process:
        with self._changing:
            if self._closed:
                raise TurnoverError("the dashboard is being stopped")
            if self.process is None or not self.process.alive:
                self.process = _Process(self._command)
            return self.process


class Worker:
    """One run's way to the engine; safe to use from many threads."""

    def __init__(self, engine: Engine, run_folder: Path) -> None:
        self._engine, self._run = engine, str(run_folder.resolve())
        self._changing = threading.Lock()
        self._loading: threading.Thread | None = None
        self._holds: _Process | None = None
        self.problem = ""

    @property
    def phase(self) -> Phase:
        """Whether the run's model is loaded."""
        if self._loading and self._loading.is_alive():
            return Phase.WARMING
        if self.problem:
            return Phase.FAILED
        return Phase.READY if self._holds and self._holds.alive else Phase.STOPPED

    def start(self, again: bool = False) -> None:
        """Load the model in the background, unless it is; one that failed only with `again`."""
        with self._changing:
            if self.phase is Phase.STOPPED or (again and self.phase is Phase.FAILED):
                self.problem = ""
                self._loading = threading.Thread(target=self._load, daemon=True)
                self._loading.start()

    def ask(self, request: dict[str, Any], seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """The answer to a request on the run; waits until its model is loaded.

        Raises:
            TurnoverError: as `Engine.ask`, or if the model cannot be loaded.
        """
        self.start()
        if self._loading:
            self._loading.join()
        if self.problem:
            raise TurnoverError(self.problem)
        return self._engine.ask({"run": self._run, **request}, seconds)

    def _load(self) -> None:
        try:
            self._engine.ask({"run": self._run}, READY_SECONDS)
            self._holds = self._engine.process
        except TurnoverError as error:
            self.problem = str(error)


class _Process:
    """One process of a worker; two threads read its output pipes until they close."""

    def __init__(self, command: list[str]) -> None:
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
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def problem(self) -> str:
        """Why it ended, in a line."""
        self._stderr_closed.wait(1)
        line = (
            self._stderr_lines[-1]
            if self._stderr_lines
            else f"the engine ended with code {self._popen.returncode}"
        )
        return line.removeprefix("turnover worker: ")

    def wait_ready(self, seconds: float) -> None:
        """Wait until it takes requests.

        Raises:
            TurnoverError: if the process fails, or takes longer than `seconds`.
        """
        end = time.monotonic() + seconds
        while not self._ready.wait(0.05):
            if not self.alive:
                raise TurnoverError(self.problem)
            if time.monotonic() > end:
                self.end()
                raise TurnoverError(f"the engine was not ready within {seconds:.0f} s")

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
