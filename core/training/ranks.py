"""Several processes on one job, as `torchrun` starts them: work, barriers, and naming a lost rank.

Ranks share a file system and, through torchrun's key-value store, short texts: what each is doing,
who waits where, who failed. Every wait polls the store a few times a second, so it ends with a name
when a rank fails. Each rank sends a heartbeat once a second from a thread; one that is silent for
`SILENCE` seconds is lost, for whatever reason. Larger data goes over gloo, between the processors:
per epoch some losses and a checkpoint, and where several ranks train one member
(`turnover.training.teams`) its gradients per step.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from turnover.errors import TurnoverError
from turnover.storage.progress import World, world

Unit = TypeVar("Unit")
SILENCE = 30.0
"""Seconds without a heartbeat after which a rank is lost."""

_BEAT, _FAREWELL, _MOST_WAIT = 1.0, 3.0, 0.05
_START, _LISTEN = timedelta(minutes=5), timedelta(seconds=0.5)
_AGAIN = "start the same command again: what is finished is kept"


class Ranks:
    """A single process: it does all the work and waits for nobody."""

    rank, size = 0, 1

    @property
    def is_first(self) -> bool:
        """Whether this rank plans, merges and reports for all."""
        return self.rank == 0

    def own(self, units: Sequence[Unit]) -> list[Unit]:
        """This rank's units of work: every size-th."""
        return list(units[self.rank :: self.size])

    def at(self, what: str) -> None:
        """Record what this rank is doing, for the others to report should it be lost."""

    def barrier(self, group: range | None = None) -> None:
        """Wait for all ranks, or for those of a group that includes this one."""

    def mean(self, values: Tensor) -> Tensor:
        """Mean `(…)` over all members of all ranks; this rank passes rows `(k, …)`, one per member
        of its own. The same bits on every rank and for any number of ranks.
        """
        return values.mean(0)

    def gather(self, payload: bytes) -> list[bytes]:
        """On the first rank the payloads of all ranks, in order; nothing on the others."""
        return [payload]

    def new_group(self, group: range) -> None:
        """Prepare to `all_reduce` over these ranks, which include this one; all ranks of the job
        call it at the same time.
        """

    def all_reduce(self, tensor: Tensor, group: range) -> Tensor:
        """Sum over a group, element by element; the same bits on each of its ranks. Where one
        rank may be late, call `barrier` first.
        """
        return tensor


class _Together(Ranks):
    """One of several processes."""

    def __init__(self, process: World) -> None:
        self.rank, self.size = process.rank, process.size
        self.lost = ""
        self._barriers, self._ended = Counter[range](), threading.Event()
        self._groups: dict[range, Any] = {}
        try:
            self._store: Any = PrefixStore(
                "turnover",
                next(iter(rendezvous("env://", process.rank, process.size, timeout=_START)))[0],
            )
            self.at("starting")
            self._set("here")
            self._wait([f"here/{rank}" for rank in range(self.size)], _START.total_seconds())
        except RuntimeError as error:
            raise TurnoverError(
                f"rank {self.rank}: the other ranks cannot be reached "
                f"({str(error).splitlines()[0]}); {_AGAIN}"
            ) from None
        threading.Thread(target=self._beat, daemon=True).start()

    def at(self, what: str) -> None:
        self._store.set(f"at/{self.rank}", what)

    def barrier(self, group: range | None = None) -> None:
        group = group or range(self.size)
        self._barriers[group] += 1
        key = f"barrier/{group.start} to {group.stop}/{self._barriers[group]}"
        self._set(key)
        self._wait([f"{key}/{rank}" for rank in group])

    def mean(self, values: Tensor) -> Tensor:
        rows = self.gather(values.cpu().contiguous().numpy().tobytes())
        kind = values.cpu().numpy().dtype
        payload = b""
        if rows:
            parts = [
                torch.from_numpy(np.frombuffer(row, kind).copy()).view(-1, *values.shape[1:])
                for row in rows
                if row
            ]
            payload = torch.cat(parts).to(values.device).mean(0).cpu().numpy().tobytes()
        return (
            torch.from_numpy(np.frombuffer(self._broadcast(payload), kind).copy())
            .view(values.shape[1:])
            .to(values.device)
        )

    def gather(self, payload: bytes) -> list[bytes]:
        self.barrier()
        if not self.is_first:
            self._send(payload, 0)
            return []
        return [payload, *(self._received(rank) for rank in range(1, self.size))]

    def new_group(self, group: range) -> None:
        self.barrier()
        self._talk(lambda: None, range(self.size))
        if len(group) > 1 and group not in self._groups:
            # gloo waits this long for a rank that hangs, and this process cannot end before
            limit = timedelta(seconds=2 * SILENCE)
            self._groups[group] = self._talk(
                lambda: dist.new_group(list(group), limit, use_local_synchronization=True), group
            )

    def all_reduce(self, tensor: Tensor, group: range) -> Tensor:
        total = tensor.detach().to("cpu", copy=True)

        def reduce() -> None:
            work = dist.all_reduce(total, group=self._groups[group], async_op=True)
            while True:
                try:
                    work.wait(_LISTEN)
                    return
                except RuntimeError:
                    # it failed; or only this wait ended, which no signal can interrupt
                    if work.is_completed():
                        work.wait()
                        return

        self._talk(reduce, group)
        return total.to(tensor.device)

    def _broadcast(self, payload: bytes) -> bytes:
        """The first rank's payload, on every rank."""
        self.barrier()
        if not self.is_first:
            return self._received(0)
        for rank in range(1, self.size):
            self._send(payload, rank)
        return payload

    def _send(self, payload: bytes, rank: int) -> None:
        data = (
            torch.frombuffer(bytearray(payload), dtype=torch.uint8)
            if payload
            else torch.empty(0, dtype=torch.uint8)
        )
        self._talk(
            lambda: [dist.send(part, rank) for part in (torch.tensor([len(data)]), data)], [rank]
        )

    def _received(self, rank: int) -> bytes:
        def receive() -> bytes:
            length = torch.zeros(1, dtype=torch.int64)
            dist.recv(length, rank)
            data = torch.empty(int(length), dtype=torch.uint8)
            dist.recv(data, rank)
            return data.numpy().tobytes()

        return self._talk(receive, [rank])

    def _talk(self, talk: Callable[[], Any], others: Sequence[int]) -> Any:
        """The result of `talk`, an exchange between this rank and others.

        Raises:
            TurnoverError: if it breaks off; the text names the rank that is the cause.
        """
        try:
            if not dist.is_initialized():
                dist.init_process_group(
                    "gloo",
                    store=PrefixStore("gloo", self._store),
                    rank=self.rank,
                    world_size=self.size,
                )
            return talk()
        except RuntimeError as error:
            raise TurnoverError(
                self._gone(others)
                or f"the other ranks cannot be reached ({str(error).splitlines()[0]}); {_AGAIN}"
            ) from None

    def _gone(self, ranks: Sequence[int]) -> str:
        """The failure that makes some of these ranks unreachable; "" if there is none. A rank that
        has died is reported to the others.
        """

        def beats() -> dict[int, bytes]:
            return {
                rank: (
                    self._store.get(f"beat/{rank}") if self._store.check([f"beat/{rank}"]) else b""
                )
                for rank in ranks
                if rank != self.rank
            }

        try:
            first, end = beats(), time.monotonic() + _FAREWELL
            while time.monotonic() < end and not self._failure():
                time.sleep(_MOST_WAIT)
            silent = [rank for rank, beat in beats().items() if beat == first[rank]]
            if silent and not self._failure():
                self._store.set("failed", f"{self._named(silent[0])} has died; {_AGAIN}")
            return self._failure()
        except RuntimeError:
            return f"the rank that holds the store of all {self.size} cannot be reached; {_AGAIN}"

    def _set(self, key: str) -> None:
        self._store.set(f"{key}/{self.rank}", "1")

    def _wait(self, keys: list[str], limit: float = float("inf")) -> None:
        """Wait until all keys are set.

        Raises:
            TurnoverError: if a rank failed or is lost, or the time is over.
        """
        begun, pause = time.monotonic(), 0.001
        while not self._store.check(keys):
            if failure := self._failure():
                raise TurnoverError(failure)
            if time.monotonic() - begun > limit:
                missing = next(key for key in keys if not self._store.check([key]))
                raise TurnoverError(
                    f"{self._named(int(missing.rpartition('/')[2]))} did not come within "
                    f"{limit:.0f} s; {_AGAIN}"
                )
            time.sleep(pause)
            pause = min(_MOST_WAIT, 2 * pause)

    def _failure(self) -> str:
        """Which rank failed or is lost, and the remedy; "" if none."""
        return self._store.get("failed").decode() if self._store.check(["failed"]) else self.lost

    def _named(self, rank: int) -> str:
        at = (
            self._store.get(f"at/{rank}").decode()
            if self._store.check([f"at/{rank}"])
            else "starting"
        )
        return f"rank {rank} of {self.size} ({at})"

    def _beat(self) -> None:
        """Send heartbeats and check those of the others; interrupt the main thread when one is
        silent or failed.
        """
        heard = {rank: (b"", time.monotonic()) for rank in range(self.size) if rank != self.rank}
        count = 0
        while not self._ended.wait(_BEAT):
            count += 1
            try:
                self._store.set(f"beat/{self.rank}", str(count))
                for rank, (last, since) in heard.items():
                    now = (
                        self._store.get(f"beat/{rank}")
                        if self._store.check([f"beat/{rank}"])
                        else b""
                    )
                    heard[rank] = (now, time.monotonic()) if now != last else (last, since)
                    if time.monotonic() - heard[rank][1] > SILENCE and not self._store.check(
                        [f"done/{rank}"]
                    ):
                        self.lost = (
                            f"{self._named(rank)} was not heard for {SILENCE:.0f} s and is lost; "
                            f"{_AGAIN}"
                        )
                self.lost = self._failure()
            except RuntimeError:
                self.lost = (
                    f"the rank that holds the store of all {self.size} cannot be reached; {_AGAIN}"
                )
            if self.lost and not self._ended.is_set():
                _thread.interrupt_main()
                return

    def leave(self, error: BaseException | None) -> TurnoverError | None:
        """Record how this rank ends; returns the error, if another rank is the cause."""
        with suppress(RuntimeError):
            if error is None:
                self._set("done")
            elif isinstance(error, KeyboardInterrupt):
                return self._interrupted()
            elif not self._failure():
                self._store.set(
                    "failed",
                    f"{self._named(self.rank)} failed: "
                    f"{' '.join(str(error).split()) or type(error).__name__}",
                )
        return None

    def _interrupted(self) -> TurnoverError | None:
        """The cause of an interruption: every living rank records that it leaves; one that does not
        has died.
        """
        self._set("left")
        end = time.monotonic() + _FAREWELL
        silent = list(range(self.size))
        while silent and time.monotonic() < end and not self._failure():
            silent = [
                rank
                for rank in silent
                if not self._store.check([f"left/{rank}"])
                and not self._store.check([f"done/{rank}"])
            ]
            time.sleep(_MOST_WAIT)
        if failure := self._failure():
            return TurnoverError(failure)
        return TurnoverError(f"{self._named(silent[0])} has died; {_AGAIN}") if silent else None

    def close(self) -> None:
        self._ended.set()
        if dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()


ALONE = Ranks()


@contextmanager
def open_ranks() -> Iterator[Ranks]:
    """The ranks of this job; a single process if torchrun did not start it.

    Raises:
        TurnoverError: in place of an error or interruption that another rank caused; the text names
            that rank, what it was doing, and the remedy.
    """
    process = world()
    if process.size == 1:
        yield ALONE
        return
    ranks = _Together(process)
    try:
        yield ranks
        ranks.leave(None)
    except BaseException as error:
        if cause := ranks.leave(error):
            raise cause from None
        raise
    finally:
        ranks.close()
