"""What a cleansing came to, in words: whether it helps, and each difference with its interval.

A difference is claimed only where its 95 % interval excludes zero; else no difference can be told.
Intervals are over seeds, so they say what another training would do on the same items that report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnover.workflows.cleansing import (
    CLEANSED,
    NONE,
    RANDOM,
    Comparison,
    Summary,
    chosen_share,
)

_SURE = 1.96
UNTOLD = "no difference can be told"
YES, PERHAPS, NO, UNCLEAR = "Yes.", "Perhaps.", "No, it hurts.", "No difference can be told."


@dataclass(frozen=True)
class Verdict:
    """Whether cleansing helps, in a word and in a sentence, at the share that was chosen."""

    word: str
    sentence: str
    share: float
    count: int

    @property
    def text(self) -> str:
        return f"{self.word} {self.sentence}"


def verdict(
    conditions: Iterable[Summary], shares: Sequence[float], counts: Sequence[int], total: int
) -> Verdict | None:
    """Whether the chosen share helps accuracy, against nothing removed and against random removal;
    None as long as these were not trained.

    Args:
        conditions: of a cleansing.
        shares: that were tried, with how many items each is in `counts`.
        total: how many training items there are.
    """
    rows = {(row.condition, row.share): row for row in conditions}
    share = chosen_share(rows.values())
    whole = rows.get((NONE, 0.0))
    if share is None or share not in shares or whole is None:
        return None
    cleansed, count = rows[CLEANSED, share], counts[shares.index(share)]
    against = {comparison.other: comparison for comparison in cleansed.against}
    if not {NONE, RANDOM} <= set(against):
        return None
    signs = [told(against[other].accuracy_interval) for other in (NONE, RANDOM)]
    falls = [told(against[other].loss_interval) for other in (NONE, RANDOM)]
    word = UNCLEAR
    if signs[0] < 0:
        word = NO
    elif signs == [1, 1]:
        word = YES
    elif signs[0] > 0 or falls == [-1, -1]:
        word = PERHAPS
    sentence = (
        f"Without the {count:,} most harmful of {total:,} training items, accuracy goes from "
        f"{whole.accuracy:.1%} to {cleansed.accuracy:.1%}: {_change(against[NONE])}. "
        f"Without {count:,} random ones it is {rows[RANDOM, share].accuracy:.1%}; "
        f"against that: {_change(against[RANDOM])}."
    )
    if word == PERHAPS and not signs[0]:
        change = 1 - cleansed.loss / whole.loss
        sentence += f" The loss is {change:.0%} lower, which is more than chance."
    return Verdict(word, sentence, share, count)


def shortfall(conditions: Iterable[Summary], facts: Mapping[str, Any]) -> str:
    """A caution where models that are trained again on everything reach less than the run itself,
    by more than chance on the items that report; "" otherwise.
    """
    whole = next((row.accuracy for row in conditions if row.condition == NONE), None)
    own, count = facts.get("own_accuracy"), facts["measured_on"]
    if whole is None or own is None:
        return ""
    chance = _SURE * ((own * (1 - own) + whole * (1 - whole)) / count) ** 0.5
    if own - whole <= chance:
        return ""
    return (
        f"Caution: trained again on everything, the model reaches {whole:.1%}, where the run has "
        f"{own:.1%} on the same items, so it is not trained as the run was; say how, with "
        "--learning-rate and the like if it is a module of your own."
    )


def told(interval: tuple[float, float] | None) -> int:
    """The sign of a difference that can be told from chance, else 0."""
    if interval is None or interval[0] <= 0 <= interval[1]:
        return 0
    return 1 if interval[0] > 0 else -1


def points(comparison: Comparison) -> str:
    """A difference in accuracy, in points with its interval, or that none can be told."""
    words = _change(comparison)
    return words if told(comparison.accuracy_interval) else f"{UNTOLD}, {words}"


def _change(comparison: Comparison) -> str:
    change = f"{signed(comparison.accuracy)} points"
    if comparison.accuracy_interval is None:  # one seed, or all differ by the same
        return f"{change} (without an interval)"
    low, high = map(signed, comparison.accuracy_interval)
    return f"{change} (95% interval {low} to {high})"


def signed(share: float) -> str:
    """A share in points, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "−")
