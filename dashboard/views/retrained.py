"""What retraining after a cleansing came to, in sentences that claim no more than their intervals, and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from turnover.cleansing.choose import CLEANSED, FLAGGED, NONE, RANDOM
from turnover.cleansing.results import Cleansed
from turnover.cleansing.summary import Comparison
from turnover.report.fragments import signed

_PAIRS = ((CLEANSED, RANDOM), (CLEANSED, NONE), (FLAGGED, NONE), (FLAGGED, RANDOM))
"""Which conditions are compared in sentences, what says most first."""
_MEASURES = {"loss": (1, 3, "nats", -1), "accuracy": (100, 1, "points", 1)}
"""How a difference is shown: its factor, digits and unit, and which sign is better."""


@dataclass(frozen=True)
class RetrainedView:
    """One cleansing: how it was measured, what it says, and its numbers."""

    name: str
    setting: str
    sentences: tuple[str, ...]
    table: pd.DataFrame
    stale: str


def build_retrained(cleansed: Cleansed) -> RetrainedView:
    """All that is shown of one cleansing, whole or as far as it is measured."""
    pairs = [(one, other) for pair in _PAIRS for one in cleansed.conditions for other in one.against if (one.condition, other.other) == pair]
    sentences = [_sentence(one.condition, cleansed.seeds[one.condition], other, what) for one, other in pairs for what in _MEASURES]
    return RetrainedView(cleansed.name, _setting(cleansed), tuple(sentences) if cleansed.finished else (), _table(cleansed), cleansed.stale)


def is_of(cleansed: Cleansed, step: Sequence[str]) -> bool:
    """Whether a cleansing is what a job's step `cleanse …` measures, rather than what another one left."""
    said = dict(pairwise(step))
    facts = cleansed.facts
    asked = said.get("--fraction"), said.get("--validation"), said.get("--repeats"), "--flags" in step
    return asked == (f"{facts['fraction']:.4g}", facts["validation"], str(facts["repeats"]), bool(facts["flags"]))


def _setting(cleansed: Cleansed) -> str:
    facts, flags = cleansed.facts, cleansed.facts["flags"]
    decided = f" Your flags drop {flags['dropped']} and relabel {flags['relabelled']}." if flags else ""
    measured = "the run’s own validation items, one half to choose by, the other to measure on" if facts["validation"] == "validation" else facts["validation"]
    return (
        f"{facts['removed']:,} items removed ({facts['fraction']:.1%}), chosen by {facts['targets']:,} items and measured on {facts['measured_on']:,} others "
        f"({measured}); {facts['repeats']} seeds, ordinary training without turn-over dropout.{decided}"
    )


def _sentence(condition: str, seeds: int, other: Comparison, what: str) -> str:
    """How a condition compares with another in loss or accuracy."""
    difference, interval = (other.loss, other.loss_interval) if what == "loss" else (other.accuracy, other.accuracy_interval)
    factor, digits, unit, better = _MEASURES[what]
    own, against = f"{condition[:1].upper()}{condition[1:]}", f"against {other.other}"
    if interval is None:
        why = "one seed has no interval" if seeds < 2 else "all seeds differ by the same"
        return f"{own} {against}: nothing can be said of the {what}, since {why}."
    low, high = interval
    bounds = f"95 % interval of the difference {signed(low * factor, digits)} to {signed(high * factor, digits)}"
    if low <= 0 <= high:
        return f"{own} {against}: no difference in {what} can be told from chance ({bounds})."
    amount = f"{factor * abs(difference):.{digits}f} {unit}"
    return f"{own} {'improved' if difference * better > 0 else 'worsened'} the {what} by {amount} {against} ({bounds})."


def _table(cleansed: Cleansed) -> pd.DataFrame:
    """A row for each condition; ± is the standard deviation over seeds, differences have p and a 95 % interval."""
    rows = [(one, cleansed.seeds[one.condition]) for one in cleansed.conditions]
    return pd.DataFrame(
        {
            "Condition": [one.condition for one, _ in rows],
            "Models": [seeds for _, seeds in rows],
            "Accuracy": [_spread(100 * one.accuracy, 100 * one.accuracy_sd, seeds, 1, " %") for one, seeds in rows],
            "Loss, nats": [_spread(one.loss, one.loss_sd, seeds, 3, "") for one, seeds in rows],
            "Loss against": ["; ".join(_short(other) for other in one.against) for one, _ in rows],
        }
    )


def _spread(mean: float, deviation: float, seeds: int, digits: int, unit: str) -> str:
    return f"{mean:.{digits}f}{f' ± {deviation:.{digits}f}' if seeds > 1 else ''}{unit}"


def _short(other: Comparison) -> str:
    if other.loss_interval is None or other.loss_p is None:
        return f"{other.other} {signed(other.loss, 3)}"
    low, high = (signed(bound, 3) for bound in other.loss_interval)
    return f"{other.other} {signed(other.loss, 3)} [{low}, {high}], p = {other.loss_p:.2g}"
