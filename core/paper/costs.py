"""What a method costs and how that grows with the number N of training items.

Three costs, as in Table 1 of Kobayashi et al. (2020):

- *training*: seconds before any target is known, those of the model itself and of all that a method prepares, such as
  checkpoints, decompositions, or the spectrum that chooses a damping;
- *storage*: bytes kept beside the data to answer for another target;
- *estimation*: seconds for the targets.

Each is measured at growing N, and between two sizes the exponent is

    log₂(cost at 2N / cost at N):    0 constant, 1 linear, 2 quadratic

A method that costs so much for each training item is asked for a few, and its cost is scaled to all. One whose next size
would take longer than the time that it is given ends there, and one that refuses the model says why.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import torch
from torch import nn

from turnover.device import synchronize
from turnover.engine.plain import device_of
from turnover.errors import TurnoverError
from turnover.rivals.base import Problem, Schedule
from turnover.rivals.catalog import Method
from turnover.rivals.repeat import train_problem
from turnover.training import Split

REFUSALS = (TurnoverError, RuntimeError, MemoryError)
"""How a method says that it cannot treat a model: ours in words, torch and captum by their own errors."""

_QUICK_SECONDS, _REPEATS = 1.0, 5
_WARM_WIDTH, _WARM_ROWS = 16, 8
_MESSAGE = 120

T = TypeVar("T")


@dataclass(frozen=True)
class Trained:
    """A problem, and the seconds that its model took to train."""

    problem: Problem
    seconds: float


@dataclass(frozen=True)
class Cost:
    """One method at one size.

    Attributes:
        size: number of training items, for all of which the three costs are.
        asked: how many of them were asked for in a call.
        call: seconds of one call.
        training, storage, estimation: seconds, bytes, seconds.
    """

    size: int
    asked: int
    call: float
    training: float
    storage: float
    estimation: float


@dataclass(frozen=True)
class Costs:
    """One method at growing sizes, and why they end before the last one ('' if they do not)."""

    measured: tuple[Cost, ...]
    ended: str


def repeated(call: Callable[[], T]) -> list[T]:
    """What a call gives, once; several times where it is so quick that one time says little."""
    begun, given = time.perf_counter(), [call()]
    while len(given) < _REPEATS and time.perf_counter() - begun < _QUICK_SECONDS:
        given.append(call())
    return given


def trained(make: Callable[[], Problem]) -> Trained:
    """Train a problem's model, and say how long that took."""

    def timed() -> Trained:
        begun = time.perf_counter()
        problem = make()
        synchronize(device_of(problem.model))
        return Trained(problem, time.perf_counter() - begun)

    runs = repeated(timed)
    return Trained(runs[0].problem, median(run.seconds for run in runs))


def exponents(sizes: Sequence[int], values: Sequence[float]) -> list[float]:
    """log(v₂/v₁) / log(n₂/n₁) of neighbours, for doubled sizes log₂(v₂/v₁); NaN where a value is 0."""
    pairs = zip(sizes, sizes[1:], values, values[1:], strict=False)
    return [math.log(after / before) / math.log(more / few) if before > 0 and after > 0 else math.nan for few, more, before, after in pairs]


def measure(method: Method, problems: Sequence[Trained], sgd: Schedule, left_out: int, limit: float) -> Costs:
    """Costs of a method on problems of growing size.

    Args:
        method: what is measured.
        problems: the same model with more and more training items.
        sgd: plain SGD, for a method that knows nothing else.
        left_out: how many items are asked for, of a method that costs so much for each.
        limit: seconds that a call may take; a size that would take longer is not measured.
    """
    warm_up(method, device_of(problems[0].problem.model))
    measured: list[Cost] = []
    for one in problems:
        size = len(one.problem.train.labels)
        if measured and (expected := measured[-1].call * size / measured[-1].size) > limit:
            return Costs(tuple(measured), f"N = {size:,} not run: it would take about {expected:,.0f} s a call, more than {limit:,.0f} s")
        try:
            measured.append(_cost(method, one, sgd, left_out))
        except REFUSALS as error:
            return Costs(tuple(measured), f"N = {size:,} refused: {(str(error) or type(error).__name__).splitlines()[0][:_MESSAGE]}")
    return Costs(tuple(measured), "")


def _cost(method: Method, one: Trained, sgd: Schedule, left_out: int) -> Cost:
    """The cost at one size: of one call, or where calls are quick, medians of several."""
    problem = one.problem
    size = len(problem.train.labels)
    instances = torch.arange(min(left_out, size)) if method.each else None
    schedule = None if problem.schedule.optimizer == "sgd" else sgd
    calls = repeated(lambda: method(problem, schedule, instances=instances))
    asked = len(calls[0].instances)
    share = size / asked
    training, estimation = (median(getattr(call, name) for call in calls) for name in ("train_seconds", "estimate_seconds"))
    storage = calls[0].stored_bytes * share + (model_bytes(problem) if method.keeps else 0)
    return Cost(size, asked, training + estimation, training * share + (one.seconds if method.asks else 0), storage, estimation * share)


def model_bytes(problem: Problem) -> int:
    """Bytes of what training changes in the problem's model."""
    return sum(value.nbytes for value in problem.initial.values())


def warm_up(method: Method, device: torch.device) -> None:
    """Call the method once on next to nothing, so that imports and first-use set-up are not taken for its cost."""
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Linear(_WARM_WIDTH, _WARM_WIDTH), nn.ReLU(), nn.Linear(_WARM_WIDTH, 2)).to(device)
    split = Split(torch.eye(_WARM_WIDTH, device=device)[:_WARM_ROWS], torch.arange(_WARM_ROWS, device=device) % 2)
    problem = train_problem(model, split, split, Schedule(1, _WARM_ROWS, 0.01, optimizer="sgd"))
    with contextlib.suppress(*REFUSALS):
        method(problem)
