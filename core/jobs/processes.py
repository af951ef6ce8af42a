"""Tasks in processes of this machine: each reads messages from its standard input, a line a task.

A process answers with lines of JSON: progress, then that the task is done, or why it failed. It
keeps what it loaded for its next tasks, and ends when its standard input does, so at once when the
process that started it is gone, however that ended.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Self

from turnover.errors import TurnoverError
from turnover.jobs.tasks import Task, do_message
from turnover.storage.progress import VARIABLE, Advance, silent

_CODE = "from turnover.jobs.processes import serve; serve()"


class Processes:
    """So many processes with so many threads each, or with a GPU each; they are started when there
    is a task for them, and killed on exit.
    """

    elsewhere = True

    def __init__(self, count: int, threads: int, gpus: bool) -> None:
        self.together = count
        self._threads, self._started = threads, dict[int, subprocess.Popen[str]]()
        self._environments = [{"OMP_NUM_THREADS": str(threads)} for _ in range(count)]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        for number, environment in enumerate(self._environments if gpus else ()):
            named = visible[number] if len(visible) >= count else str(number)
            environment["CUDA_VISIBLE_DEVICES"] = named

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started.values():
            process.kill()
        for process in self._started.values():
            process.wait()

    def run(self, tasks: Sequence[Task], advance: Advance = silent) -> Iterator[Task]:
        """As `turnover.jobs.tasks.Workers`. A process first takes tasks that stand where those that
        it took last time stood: it may have kept their data.
        """
        count, left = len(self._environments), len(tasks)
        shares = [deque(tasks[number::count]) for number in range(count)]
        events: queue.Queue[Any] = queue.Queue()
        for number in range(min(count, left)):
            threading.Thread(target=self._work, args=(number, shares, events), daemon=True).start()
        while left:
            event = events.get()
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Task):
                left -= 1
                yield event
            else:
                advance(event)

    def _work(self, number: int, shares: list[deque[Task]], events: queue.Queue[Any]) -> None:
        """Let a process do tasks until there are no more: its own share, then the others'."""
        process = self._process(number)
        for share in (shares[number], *shares):
            while share:
                try:
                    task = share.popleft()
                except IndexError:  # another thread was faster
                    break
                try:
                    self._ask(process, task, events)
                except Exception as error:  # for the thread that waits
                    events.put(error)
                    return

    def _ask(self, process: subprocess.Popen[str], task: Task, events: queue.Queue[Any]) -> None:
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(task.message(self._threads) + "\n")
            process.stdin.flush()
        except OSError:
            pass  # it has ended; so does its output
        for line in process.stdout:
            answer = json.loads(line)
            if "error" in answer:
                raise TurnoverError(answer["error"])
            if "done" in answer:
                events.put(task)
                return
            events.put(answer["advance"])
        why = ", perhaps because the memory was full" if process.wait() == -9 else ""
        raise TurnoverError(
            f"a process that was at {task.result.name} ended with code {process.wait()}{why}; what "
            "is finished is kept, and the same command goes on"
        )

    def _process(self, number: int) -> subprocess.Popen[str]:
        if number not in self._started:
            environment = {**os.environ, **self._environments[number]}
            environment.pop(VARIABLE, None)  # its progress goes through this process
            self._started[number] = subprocess.Popen(
                [sys.executable, "-c", _CODE],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for the process that started it
            )
        return self._started[number]


# In the process


def serve() -> None:
    """Do the tasks of this process's standard input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever is printed goes to stderr
    messages: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            messages.put(line)
        os._exit(1)

    def answer(**fact: Any) -> None:
        print(json.dumps(fact), file=answers, flush=True)

    threading.Thread(target=read, daemon=True).start()
    while True:
        message = messages.get()
        try:
            do_message(message, lambda units: answer(advance=units))
            answer(done=True)
        except TurnoverError as error:
            answer(error=str(error))
        except Exception as error:
            traceback.print_exc()
            answer(error=f"{type(error).__name__}: {error}")
