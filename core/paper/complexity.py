"""What every compared method costs (section 3.3, Table 1): training, storage and estimation for one target.

All methods get the same model, data and target, at numbers N of training items that double, so that the growth of each
cost stands beside it. No method is left out for being slow: it runs at the sizes that it can, and its row says so.

In the paper's column: what turn-over dropout, training again, Hara et al. and Koh and Liang have to do, in words, which no
machine changes; and for the contest that the paper timed, its figures: 10 minutes by Koh and Liang's method, 35 seconds by
turn-over dropout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from turnover.paper.costs import Costs, exponents, measure, trained
from turnover.paper.row import PaperRow
from turnover.paper.setup import Setup
from turnover.paper.subjects import Subject, text_subject
from turnover.progress import bar
from turnover.rivals.catalog import methods

SUBJECTS = {
    "small": (("heads", (250, 500, 1000, 2000), 32),),
    "paper": (("heads", (5000, 10_000, 20_000), 32), ("adapters", (625, 1250, 2500, 5000, 10_000, 20_000), 2)),
}
"""At each scale: which model, the numbers of training items, and how many of them retraining leaves out."""

_LIMIT_SECONDS = {"small": 90.0, "paper": 600.0}
_COSTS = ("training", "storage", "estimation")
_TURNOVER = ("one training", "one model", "2 N forward passes")
_KOH_LIANG = ("one training", "one model", "products with the Hessian, then N gradients")
_PAPER = {
    "turnover": _TURNOVER,
    "turnover-plain": _TURNOVER,
    "retraining": ("N trainings", "N models", "N forward passes"),
    "sgd-influence": ("one training", "the model of each of T steps", "T products with the Hessian, the gradients of every step"),
    "influence-cg": _KOH_LIANG,
    "influence-lissa": _KOH_LIANG,
}
_PAPER_CONTEST = "10 min → 35 s (BERT-base, N = 10,000)"
_CONTEST = {"influence-cg": "conjugate gradients", "turnover-plain": "two passes a pair", "turnover": "engine"}
_LEAST_SECONDS = 1e-3


def complexity(setup: Setup) -> Iterator[PaperRow]:
    """Three rows a method, then the contest that the paper timed; for each kind of model."""
    for kind, sizes, left_out in SUBJECTS[setup.scale]:
        subject = text_subject(setup, kind, sizes, left_out)
        compared = methods(groups=subject.groups)
        costs: dict[str, Costs] = {}
        with bar(len(compared), f"complexity, {kind}", "methods") as advance:
            problems = [trained(partial(subject.problem, size)) for size in subject.sizes]
            for name, method in compared.items():
                costs[name] = measure(method, problems, subject.sgd, subject.left_out, _LIMIT_SECONDS[setup.scale])
                advance(1)
        for name, method in compared.items():
            yield from cost_rows(method.name, subject, costs[name], _PAPER.get(name, ("", "", "")))
        yield contest_row(subject, costs)


def cost_rows(name: str, subject: Subject, costs: Costs, paper: Sequence[str]) -> Iterator[PaperRow]:
    """Training, storage and estimation of one method, with exponents; the paper's words beside each."""
    sizes = [cost.size for cost in costs.measured]
    setting = f"{subject.setting}, 1 target, N = {', '.join(f'{size:,}' for size in sizes) or 'none'}"
    if few := [cost.asked for cost in costs.measured if cost.asked < cost.size]:
        setting += f"; {few[0]} items asked for, scaled to all"
    for what, words in zip(_COSTS, paper, strict=True):
        values = [getattr(cost, what) for cost in costs.measured]
        text = growth(sizes, [value / 2**20 for value in values], "MB") if what == "storage" else growth(sizes, values, "s", _LEAST_SECONDS)
        yield PaperRow(f"{name}: {what}", setting, words, "; ".join(part for part in (text, costs.ended) if part))


def growth(sizes: Sequence[int], values: Sequence[float], unit: str, least: float = 0.0) -> str:
    """Values of growing sizes and the exponents between neighbours; below `least` a value is no more than that, and has none."""
    if not values:
        return ""
    listed = ", ".join(f"< {least:g}" if value < least else _number(value) for value in values)
    between = exponents(sizes, [value if value >= least else math.nan for value in values])
    shown = ", ".join("–" if math.isnan(exponent) else f"{exponent:.2f}" for exponent in between)
    return f"{listed} {unit}" + f"; exponent {shown}" * bool(shown)


def _number(value: float) -> str:
    """Three digits, or all whole ones."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def contest_row(subject: Subject, costs: Mapping[str, Costs]) -> PaperRow:
    """Estimation by Koh and Liang's method and by turn-over dropout, at the greatest size that both ways of it and conjugate gradients ran at."""
    estimations = {name: {cost.size: cost.estimation for cost in costs[name].measured} for name in _CONTEST}
    shared = set.intersection(*(set(own) for own in estimations.values()))
    what = "one target: Koh and Liang's method → turn-over dropout"
    if not shared:
        return PaperRow(what, f"{subject.setting}, no N that all ran at", _PAPER_CONTEST, "")
    size = max(shared)
    measured = " → ".join(f"{_number(estimations[name][size])} s ({way})" for name, way in _CONTEST.items())
    return PaperRow(what, f"{subject.setting}, N = {size:,}", _PAPER_CONTEST, measured)
