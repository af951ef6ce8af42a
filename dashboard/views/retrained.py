"""What retraining after a cleansing came to, in sentences that claim no more than their intervals, and as a table."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from core.cleansing.choose import CLEANSED, FLAGGED, NONE, RANDOM
from core.cleansing.results import Cleansed, Condition, Difference

_PAIRS = ((CLEANSED, RANDOM), (CLEANSED, NONE), (FLAGGED, NONE), (FLAGGED, RANDOM))
"""Which conditions are compared in sentences, what says most first."""


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
    by_name = {one.name: one for one in cleansed.conditions}
    pairs = [(by_name[name], other) for name, other in _PAIRS if name in by_name and other in by_name]
    sentences = tuple(sentence for own, other in pairs for sentence in _sentences(own, other)) if cleansed.finished else ()
    return RetrainedView(cleansed.name, _setting(cleansed), sentences, _table(cleansed.conditions), cleansed.stale)


def _setting(cleansed: Cleansed) -> str:
    facts, flags = cleansed.facts, cleansed.facts["flags"]
    decided = f" Your flags drop {flags['dropped']} and relabel {flags['relabelled']}." if flags else ""
    measured = "the run’s own validation items, one half to choose by, the other to measure on" if facts["validation"] == "validation" else facts["validation"]
    return (
        f"{facts['removed']:,} items removed ({facts['fraction']:.1%}), chosen by {facts['targets']:,} items and measured on {facts['measured_on']:,} others "
        f"({measured}); {facts['repeats']} seeds, ordinary training without turn-over dropout.{decided}"
    )


def _sentences(own: Condition, other: str) -> list[str]:
    """How a condition compares with another, in loss and in accuracy."""
    loss = next(one for one in own.loss_against if one.other == other)
    accuracy = next(one for one in own.accuracy_against if one.other == other)
    return [_sentence(own, loss, "loss", f"{abs(loss.value):.3f} nats", -1), _sentence(own, accuracy, "accuracy", f"{100 * abs(accuracy.value):.1f} points", 1)]


def _sentence(own: Condition, difference: Difference, what: str, amount: str, better: int) -> str:
    name = f"{own.name[:1].upper()}{own.name[1:]}"
    if difference.interval is None:
        why = "one seed has no interval" if own.seeds < 2 else "all seeds differ by the same"
        return f"{name} against {difference.other}: nothing can be said of the {what}, since {why}."
    low, high = difference.interval
    scale, digits = (100, 1) if what == "accuracy" else (1, 3)
    interval = f"95 % interval of the difference {_signed(low * scale, digits)} to {_signed(high * scale, digits)}"
    if low <= 0 <= high:
        return f"{name} against {difference.other}: no difference in {what} can be told from chance ({interval})."
    return f"{name} {'improved' if difference.value * better > 0 else 'worsened'} the {what} by {amount} against {difference.other} ({interval})."


def _table(conditions: tuple[Condition, ...]) -> pd.DataFrame:
    """A row for each condition; ± is the standard deviation over seeds, differences have p and a 95 % interval."""
    return pd.DataFrame(
        {
            "Condition": [one.name for one in conditions],
            "Models": [one.seeds for one in conditions],
            "Accuracy": [_spread(100 * one.accuracy, 100 * one.accuracy_sd, one.seeds, 1, " %") for one in conditions],
            "Loss, nats": [_spread(one.loss, one.loss_sd, one.seeds, 3, "") for one in conditions],
            "Loss against": ["; ".join(_short(other) for other in one.loss_against) for one in conditions],
        }
    )


def _spread(mean: float, deviation: float, seeds: int, digits: int, unit: str) -> str:
    return f"{mean:.{digits}f}{f' ± {deviation:.{digits}f}' if seeds > 1 else ''}{unit}"


def _short(other: Difference) -> str:
    known = "" if other.interval is None or other.p is None else f" [{_signed(other.interval[0], 3)}, {_signed(other.interval[1], 3)}], p = {other.p:.2g}"
    return f"{other.other} {_signed(other.value, 3)}{known}"


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")
