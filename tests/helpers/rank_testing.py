"""Commands run by two ranks in processes of their own, as torchrun starts them, one of which may be
killed on the way; and ranks that are threads.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar

import torch
from torch import Tensor

from tests.helpers.builders import ONE_THREAD, ROOT
from turnover.training.ranks import Ranks

Made = TypeVar("Made")
_SCRIPT = """
import json, os, runpy, sys
import turnover.workflows.influence
import turnover.storage.artifacts
import turnover.training.ranks
import turnover.training.fit

arguments, rank, moment, units, end = json.loads(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
turnover.workflows.influence._MANY = units
turnover.training.ranks.SILENCE = 5.0
count = 0

def dying(real):
    def function(*arguments, **options):
        global count
        count += arguments[1:2] not in (("plan",), ("estimator",))
        if os.environ.get("RANK") == rank and count == moment:
            os.kill(os.getpid(), end)
        return real(*arguments, **options)
    return function

files = turnover.storage.artifacts.Parts
files.save = dying(files.save)
turnover.training.fit.train_epoch = dying(turnover.training.fit.train_epoch)
sys.argv = ["turnover", *arguments]
runpy.run_module("turnover", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Done:
    """How a job ended: its exit code, the JSON object that it printed, and all that it said."""

    code: int
    result: dict[str, Any]
    said: str


def run_ranks(
    folder: Path,
    *arguments: object,
    ranks: int = 2,
    kill: str = "",
    moment: int = 0,
    units: int = 256,
    seconds: float = 120,
) -> Done:
    """Run `turnover ARGUMENTS --json` in so many ranks, in units of at most so many targets.

    The rank named `kill` is killed as it is about to keep its moment-th part, or to begin its
    moment-th epoch. One rank runs without torchrun.
    """
    script = folder / "ranks.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    starter = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        if ranks > 1
        else []
    )
    given = json.dumps([*map(str, arguments), "--json"])
    command = [
        sys.executable,
        *starter,
        str(script),
        given,
        kill,
        str(moment),
        str(units),
        str(int(signal.SIGKILL)),
    ]
    environment = {**ONE_THREAD, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Done(
        done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}, done.stderr
    )


def run_left_alone(
    folder: Path,
    *arguments: object,
    moment: int,
    end: signal.Signals = signal.SIGSTOP,
    seconds: float = 120,
) -> Done:
    """How the first of two ranks ends when the second one gets a signal, which by default lets it
    stand still, without torchrun to look after them.

    It comes as the second rank is about to keep its moment-th part, or to begin its moment-th
    epoch.
    """
    script = folder / "ranks.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [
        sys.executable,
        str(script),
        json.dumps([*map(str, arguments), "--json"]),
        "1",
        str(moment),
        "100",
        str(int(end)),
    ]
    shared = {
        **ONE_THREAD,
        "PYTHONPATH": str(ROOT),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    places = [{**shared, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]
    first, second = (
        subprocess.Popen(
            command, cwd=ROOT, env=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for place in places
    )
    try:
        printed, said = first.communicate(timeout=seconds)
        return Done(first.returncode, json.loads(printed) if printed.strip() else {}, said)
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()


class _Threaded(Ranks):
    """A rank that is a thread; `tables` are where ranks with these numbers lay down what they have,
    and wait for each other.
    """

    def __init__(self, rank: int, size: int, tables: dict[range, _Table]) -> None:
        self.rank, self.size, self.tables = rank, size, tables

    def mean(self, own: Tensor) -> Tensor:
        return torch.cat(self._all(range(self.size), own)).mean(0)

    def gather(self, payload: bytes) -> list[bytes]:
        given = self._all(range(self.size), payload)
        return given if self.is_first else []

    def all_reduce(self, own: Tensor, group: range) -> Tensor:
        return torch.stack(self._all(group, own.clone())).sum(0)

    def _all(self, group: range, own: Any) -> list[Any]:
        table = self.tables[group]
        table.given[self.rank] = own
        table.barrier.wait()
        given = [table.given[rank] for rank in group]
        table.barrier.wait()
        return given


class _Table:
    def __init__(self, size: int) -> None:
        self.barrier, self.given = Barrier(size, timeout=60), dict[int, Any]()


def in_threads(size: int, work: Callable[[Ranks], Made]) -> list[Made]:
    """What each of so many ranks, threads of this process, makes."""
    tables = {
        range(first, last): _Table(last - first)
        for first in range(size)
        for last in range(first + 1, size + 1)
    }
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, [_Threaded(rank, size, tables) for rank in range(size)]))
