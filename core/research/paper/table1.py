"""What every compared method costs, and how that grows with N (section 3.3, Table 1).

Three costs, for one target:

- *training*: seconds before any target is known, for the model itself and everything that a method
  prepares, such as checkpoints, decompositions, or the spectrum that chooses a damping;
- *storage*: bytes kept beside the data to explain another target;
- *estimation*: seconds for the targets.

All methods get the same model, data (growing parts of SST-2) and target (a development sentence).
Each cost is measured at doubling N, and between two sizes the exponent is

    log₂(cost at 2N / cost at N):    0 constant, 1 linear, 2 quadratic

A method whose cost is per training item is asked for a few, and its cost is scaled to all. No
method is omitted for being slow: one whose next size would exceed the time limit ends there, and
one that cannot treat the model gives its reason.

The paper's column states in words what turn-over dropout, retraining, Hara et al. and Koh and Liang
have to do, which no machine changes; and for the contest that the paper timed, its figures: 10
minutes by Koh and Liang's method, 35 seconds by turn-over dropout. Shared masks, which it does not
have, train in O(|D|), keep O(|θ|), and estimate by M passes of the network, whatever |D| is, and
O(|D|) reads a member.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor, nn

from turnover.attribution.device import choose_device, synchronize
from turnover.attribution.engine.naive import device_of
from turnover.data.base import limit_items
from turnover.data.sources import load_data
from turnover.errors import TurnoverError
from turnover.models.adapters import TokenRows
from turnover.models.heads import token_mean
from turnover.research.baselines.base import REFUSALS, Baseline, Problem, Schedule
from turnover.research.baselines.catalog import methods
from turnover.research.baselines.retraining import plain_classifier, train_problem
from turnover.research.paper.experiments import text_settings
from turnover.research.paper.setup import PaperRow, Setup
from turnover.storage.progress import bar
from turnover.training.fit import Split

# Costs

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
        asked: how many of them a call scored.
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
    """Results of a call; of several where one is too quick to time."""
    begun, given = time.perf_counter(), [call()]
    while len(given) < _REPEATS and time.perf_counter() - begun < _QUICK_SECONDS:
        given.append(call())
    return given


def trained(make: Callable[[], Problem]) -> Trained:
    """Train a problem's model and time it."""

    def timed() -> Trained:
        begun = time.perf_counter()
        problem = make()
        synchronize(device_of(problem.model))
        return Trained(problem, time.perf_counter() - begun)

    runs = repeated(timed)
    return Trained(runs[0].problem, median(run.seconds for run in runs))


def exponents(sizes: Sequence[int], values: Sequence[float]) -> list[float]:
    """log(v₂/v₁) / log(n₂/n₁) of neighbours, for doubled sizes log₂(v₂/v₁);
    NaN where a value is 0.
    """
    pairs = zip(sizes, sizes[1:], values, values[1:], strict=False)
    return [
        math.log(after / before) / math.log(larger / smaller)
        if before > 0 and after > 0
        else math.nan
        for smaller, larger, before, after in pairs
    ]


def measure(method: Baseline, problems: Sequence[Trained], left_out: int, limit: float) -> Costs:
    """Costs of a method on problems of growing size.

    Args:
        method: what is measured.
        problems: the same model with more and more training items.
        left_out: how many items are scored by a method whose cost is per item.
        limit: seconds that a call may take; a size that would take longer is not measured.
    """
    warm_up(method, device_of(problems[0].problem.model))
    measured: list[Cost] = []
    for trained_problem in problems:
        size = len(trained_problem.problem.train.labels)
        if measured and (expected := measured[-1].call * size / measured[-1].size) > limit:
            return Costs(
                tuple(measured),
                f"N = {size:,} not run: it would take about {expected:,.0f} s a call, more than "
                f"{limit:,.0f} s",
            )
        try:
            measured.append(_cost(method, trained_problem, left_out))
        except REFUSALS as error:
            return Costs(
                tuple(measured),
                f"N = {size:,} refused: "
                f"{(str(error) or type(error).__name__).splitlines()[0][:_MESSAGE]}",
            )
    return Costs(tuple(measured), "")


def _cost(method: Baseline, trained_problem: Trained, left_out: int) -> Cost:
    """The cost at one size: of one call, or where calls are quick, medians of several."""
    problem = trained_problem.problem
    size = len(problem.train.labels)
    instances = torch.arange(min(left_out, size)) if method.each else None
    calls = repeated(lambda: method.scores(problem, instances))
    asked = len(calls[0].instances)
    share = size / asked
    training, estimation = (
        median(getattr(call, name) for call in calls)
        for name in ("train_seconds", "estimate_seconds")
    )
    storage = calls[0].stored_bytes * share + (model_bytes(problem) if method.keeps else 0)
    return Cost(
        size,
        asked,
        training + estimation,
        training * share + (trained_problem.seconds if method.asks else 0),
        storage,
        estimation * share,
    )


def model_bytes(problem: Problem) -> int:
    """Bytes of what training changes in the problem's model."""
    return sum(value.nbytes for value in problem.initial.values())


def warm_up(method: Baseline, device: torch.device) -> None:
    """Call the method once on a tiny problem, so that imports and first-use set-up are not
    counted.
    """
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(
            nn.Linear(_WARM_WIDTH, _WARM_WIDTH), nn.ReLU(), nn.Linear(_WARM_WIDTH, 2)
        ).to(device)
    split = Split(
        torch.eye(_WARM_WIDTH, device=device)[:_WARM_ROWS],
        torch.arange(_WARM_ROWS, device=device) % 2,
    )
    problem = train_problem(model, split, split, Schedule(1, _WARM_ROWS, 0.01, optimizer="sgd"))
    with contextlib.suppress(*REFUSALS):
        method.scores(problem)


# What costs are measured on

HEADS_SGD = Schedule(epochs=5, batch=64, learning_rate=0.05, optimizer="sgd")
ADAPTERS_SGD = Schedule(epochs=3, batch=32, learning_rate=0.05, optimizer="sgd")
ADAPTERS_ADAMW = Schedule(epochs=3, batch=32, learning_rate=1e-3)


@dataclass(frozen=True)
class CostCase:
    """A model before training, and data to train it on.

    Attributes:
        setting: data and model in words.
        sizes: numbers of training items, each twice the one before.
        schedule: how the model is trained.
        sgd: plain SGD, for a method that needs it.
        groups: of units that turn-over dropout masks; None means single units.
        left_out: how many items retraining leaves out.
    """

    setting: str
    model: nn.Module
    train: Split
    target: Split
    sizes: tuple[int, ...]
    schedule: Schedule
    sgd: Schedule
    groups: int | None
    left_out: int

    def problem(self, size: int) -> Problem:
        """A model trained on the first `size` training items."""
        return train_problem(
            self.model, self.train.take(torch.arange(size)), self.target, self.schedule
        )


def text_case(setup: Setup, kind: str, sizes: tuple[int, ...], left_out: int) -> CostCase:
    """SST-2 sentences for `heads` on frozen features, or for `adapters` in the encoder; sizes
    larger than the data are skipped.

    Raises:
        TurnoverError: if the data cannot be read, or are too few for two sizes.
    """
    folder = setup.folder("sst2")
    data = load_data("sst2", Path(folder))
    reached = tuple(size for size in sizes if size <= len(data.train))
    if len(reached) < 2:
        raise TurnoverError(
            f"{folder}: {len(data.train)} training sentences; growth wants two sizes, so give "
            f"{sizes[1]:,} or more"
        )
    data = limit_items(data, reached[-1], 0)
    settings = replace(text_settings(setup, reached[-1], kind), members=1).resolved("text")
    device = choose_device(setup.device)
    read = settings.reader(device)
    train, target = (
        Split(torch.from_numpy(read(texts)).to(device), torch.from_numpy(labels).to(device))
        for texts, labels in (
            (data.train.texts or [], data.train.labels),
            ((data.validation.texts or [])[:1], data.validation.labels[:1]),
        )
    )
    model = plain_classifier(settings.build(len(data.classes), tuple(train.inputs.shape[1:])))
    words, schedule, sgd = f"two-layer heads on frozen {setup.encoder_name}", HEADS_SGD, HEADS_SGD
    if isinstance(model, TokenRows):
        words, schedule, sgd = f"{setup.encoder_name} with adapters", ADAPTERS_ADAMW, ADAPTERS_SGD
        model = FixedWidth(model)
        both = model.cut(train.inputs, target.inputs)
        train, target = Split(both[0], train.labels), Split(both[1], target.labels)
    return CostCase(
        f"SST-2, {words}",
        model.to(device),
        train,
        target,
        reached,
        schedule,
        sgd,
        settings.options["groups"] or None,
        left_out,
    )


class FixedWidth(nn.Module):
    """An `EncoderClassifier` on token ids `(B, T)` without data-dependent control flow, as
    `torch.func` needs.

    Attention is written out, since fused kernels have no second derivatives.
    """

    def __init__(self, rows: TokenRows) -> None:
        super().__init__()
        self.model, self.padding = rows.model, rows.padding
        self.model.encoder.set_attn_implementation("eager")

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `(B, classes)`."""
        real = tokens != self.padding
        weight = self.model.out.weight
        barred = (~real).to(weight)[:, None, None] * torch.finfo(weight.dtype).min
        hidden = self.model.encoder(input_ids=tokens, attention_mask=barred).last_hidden_state
        logits: Tensor = self.model.out(self.model.mask(token_mean(hidden, real)))
        return logits

    def cut(self, *tokens: Tensor) -> list[Tensor]:
        """Token ids, all as long as the longest text among them."""
        longest = max(int((part != self.padding).sum(1).max()) for part in tokens)
        return [part[:, :longest] for part in tokens]


# The table

CASES = {
    "small": (("heads", (250, 500, 1000, 2000), 32),),
    "paper": (
        ("heads", (5000, 10_000, 20_000), 32),
        ("adapters", (625, 1250, 2500, 5000, 10_000, 20_000), 2),
    ),
}
"""At each scale: which model, the numbers of training items, and how many of them retraining leaves
out.
"""

_LIMIT_SECONDS = {"small": 90.0, "paper": 600.0}
_COSTS = ("training", "storage", "estimation")
_TURNOVER = ("one training", "one model", "2 N forward passes")
_KOH_LIANG = ("one training", "one model", "products with the Hessian, then N gradients")
_PAPER = {
    "turnover": _TURNOVER,
    "turnover-plain": _TURNOVER,
    "turnover-shared": (
        "(not in the paper) one training",
        "(not in the paper) one model",
        "(not in the paper) M forward passes, then N values read by cohort",
    ),
    "retraining": ("N trainings", "N models", "N forward passes"),
    "sgd-influence": (
        "one training",
        "the model of each of T steps",
        "T products with the Hessian, the gradients of every step",
    ),
    "influence-cg": _KOH_LIANG,
    "influence-lissa": _KOH_LIANG,
}
_PAPER_CONTEST = "10 min → 35 s (BERT-base, N = 10,000)"
_CONTEST = {
    "influence-cg": "conjugate gradients",
    "turnover-plain": "two passes a pair",
    "turnover": "engine",
    "turnover-shared": "shared masks",
}
_LEAST_SECONDS = 1e-3


def complexity(setup: Setup) -> Iterator[PaperRow]:
    """Three rows a method, then the contest that the paper timed; for each kind of model."""
    for kind, sizes, left_out in CASES[setup.scale]:
        case = text_case(setup, kind, sizes, left_out)
        compared = methods(case.groups, case.sgd)
        costs: dict[str, Costs] = {}
        with bar(len(compared), f"complexity, {kind}", "methods") as advance:
            problems = [trained(partial(case.problem, size)) for size in case.sizes]
            for name, method in compared.items():
                costs[name] = measure(method, problems, case.left_out, _LIMIT_SECONDS[setup.scale])
                advance(1)
        for name, method in compared.items():
            yield from cost_rows(method.name, case, costs[name], _PAPER.get(name, ("", "", "")))
        yield contest_row(case, costs)


def cost_rows(name: str, case: CostCase, costs: Costs, paper: Sequence[str]) -> Iterator[PaperRow]:
    """Training, storage and estimation of one method, with exponents; the paper's words beside
    each.
    """
    sizes = [cost.size for cost in costs.measured]
    setting = f"{case.setting}, 1 target, N = {', '.join(f'{size:,}' for size in sizes) or 'none'}"
    if partial_counts := [cost.asked for cost in costs.measured if cost.asked < cost.size]:
        setting += f"; {partial_counts[0]} items asked for, scaled to all"
    for what, words in zip(_COSTS, paper, strict=True):
        values = [getattr(cost, what) for cost in costs.measured]
        text = (
            growth(sizes, [value / 2**20 for value in values], "MB")
            if what == "storage"
            else growth(sizes, values, "s", _LEAST_SECONDS)
        )
        yield PaperRow(
            f"{name}: {what}",
            setting,
            words,
            "; ".join(part for part in (text, costs.ended) if part),
        )


def growth(sizes: Sequence[int], values: Sequence[float], unit: str, least: float = 0.0) -> str:
    """Values of growing sizes and the exponents between neighbours; a value below `least` is shown
    as less than that, without exponent.
    """
    if not values:
        return ""
    listed = ", ".join(f"< {least:g}" if value < least else _number(value) for value in values)
    between = exponents(sizes, [value if value >= least else math.nan for value in values])
    shown = ", ".join("–" if math.isnan(exponent) else f"{exponent:.2f}" for exponent in between)
    return f"{listed} {unit}" + f"; exponent {shown}" * bool(shown)


def _number(value: float) -> str:
    """Three significant digits, or all digits before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def contest_row(case: CostCase, costs: Mapping[str, Costs]) -> PaperRow:
    """Estimation by Koh and Liang's method and by turn-over dropout, at the greatest size at which
    its three ways and conjugate gradients ran.
    """
    estimations = {
        name: {cost.size: cost.estimation for cost in costs[name].measured} for name in _CONTEST
    }
    shared = set.intersection(*(set(by_size) for by_size in estimations.values()))
    what = "one target: Koh and Liang's method → turn-over dropout"
    if not shared:
        return PaperRow(what, f"{case.setting}, no N that all ran at", _PAPER_CONTEST, "")
    size = max(shared)
    measured = " → ".join(
        f"{_number(estimations[name][size])} s ({way})" for name, way in _CONTEST.items()
    )
    return PaperRow(what, f"{case.setting}, N = {size:,}", _PAPER_CONTEST, measured)
