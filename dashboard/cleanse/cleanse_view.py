"""View models of the Cleanse page: a planned removal, its adoption as flags, and retraining.

`build_plan` shows which training items a removal would drop (the lowest mean influences), with the
predicted change of the mean loss. `build_retrained` shows the results of retraining by condition;
its sentences claim a difference only where the 95 % interval excludes 0.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from turnover.dashboard.shared.groups_view import number
from turnover.errors import TurnoverError
from turnover.explain.explanation import rounded
from turnover.explain.html import signed
from turnover.explain.words import snippet
from turnover.flags import Flag
from turnover.runs.run import Run
from turnover.workflows.cleansing import (
    CLEANSED,
    FLAGGED,
    NONE,
    RANDOM,
    Comparison,
    check_classes,
    count_removed,
    lowest,
)
from turnover.workflows.cleansing_results import Cleansed, Scores

LISTED = 200
"""Rows of the table of removed items."""

_BINS = 60
_DECIDED = {
    "keep": "flagged to keep",
    "relabel": "flagged to relabel",
    "drop": "flagged to drop already",
}
_PAIRS = ((CLEANSED, RANDOM), (CLEANSED, NONE), (FLAGGED, NONE), (FLAGGED, RANDOM))
"""Pairs of conditions that are compared in sentences, the most telling first."""
_MEASURES = {"loss": (1, 3, "nats", -1), "accuracy": (100, 1, "points", 1)}
"""How a difference is shown: factor, digits, unit, and which sign is better."""


# A planned removal


@dataclass(frozen=True)
class Bin:
    """A histogram bin of scores: its bounds, count, and whether its items are removed."""

    low: float
    high: float
    count: int
    removed: bool


@dataclass(frozen=True)
class Removal:
    """The view of a planned removal.

    Attributes:
        positions: of the removed items, the most harmful first.
        bins: histogram of all scores; no bin holds both removed and remaining items.
        threshold: the highest score among the removed items, nats.
        summary: how many of which classes are removed, and how many of them are injected.
        effect: the predicted change of the mean loss.
        caution: the limits of that prediction.
        classes: by class, how many items there are and how many are removed.
        table: the first `LISTED` removed items.
        alt: the histogram in words.
    """

    positions: np.ndarray
    bins: tuple[Bin, ...]
    threshold: float
    summary: str
    effect: str
    caution: str
    classes: pd.DataFrame
    table: pd.DataFrame
    alt: str


@dataclass(frozen=True)
class Adoption:
    """The removed items that can be flagged to drop, those without a decision, and a sentence on
    the others.
    """

    positions: tuple[int, ...]
    sentence: str


def build_plan(run: Run, scores: Scores, fraction: float, flags: Mapping[int, Flag]) -> Removal:
    """The removal of this fraction of the training items.

    Raises:
        TurnoverError: if it removes no item, or every item of a class.
    """
    values, std_errors = scores.estimates
    count = count_removed(len(values), fraction)
    if not 0 < count < len(values):
        raise TurnoverError(
            f"{fraction:.1%} of {len(values):,} training items is not one item; choose a larger "
            "share"
        )
    positions, labels = lowest(values, count), run.train["label"].to_numpy()
    check_classes(np.delete(labels, positions), run.classes, f"Removing {fraction:.1%} takes away")
    threshold = float(values[positions[-1]])
    bins = _bins(np.asarray(values, np.float64), threshold, count)
    total, error = scores.total(positions)
    return Removal(
        positions=positions,
        bins=bins,
        threshold=threshold,
        summary=_summary(run, positions),
        effect=_effect(total, error, scores.targets),
        caution=_caution(run, total),
        classes=_classes(run.classes, labels, positions),
        table=_table(run, positions[:LISTED], values, std_errors, flags),
        alt=(
            f"Mean influence of {len(values):,} training items, from {values.min():.2g} to "
            f"{values.max():.2g} nats; the {count:,} lowest, up to {threshold:.2g}, are removed"
        ),
    )


def build_adoption(plan: Removal, flags: Mapping[int, Flag]) -> Adoption:
    """The flags that adopting the removal would store."""
    decided = [flags[int(position)].action for position in plan.positions if int(position) in flags]
    new = tuple(int(position) for position in plan.positions if int(position) not in flags)
    others = [
        f"{decided.count(action):,} {words}"
        for action, words in _DECIDED.items()
        if action in decided
    ]
    stays = f" {_listed(others)}: what was decided on them stays." if others else ""
    return Adoption(
        new,
        f"{len(new):,} of the {len(plan.positions):,} items will be flagged to drop, with a note on"
        f" where the flag comes from.{stays}",
    )


def adoption_note(fraction: float, validation: str) -> str:
    """The note on flags that come from a cleansing."""
    return (
        f"Cleansing: among the lowest {fraction:.1%} by mean influence on "
        f"{'the validation items' if validation == 'validation' else validation}."
    )


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _bins(values: np.ndarray, threshold: float, count: int) -> tuple[Bin, ...]:
    """A histogram with a bin edge at the threshold. Of items with exactly that score, `count`, not
    the value, decides which are removed.
    """
    width = max(float(np.ptp(values)) / _BINS, np.finfo(np.float64).tiny)
    ordered = np.sort(values)
    bins = []
    for part, removed in ((ordered[:count], True), (ordered[count:], False)):
        indices = (
            np.floor((threshold - part) / width).astype(int)
            if removed
            else np.floor((part - threshold) / width).astype(int)
        )
        for index, size in zip(*np.unique(indices, return_counts=True), strict=True):
            low = threshold - (index + 1) * width if removed else threshold + index * width
            bins.append(Bin(float(low), float(low + width), int(size), removed))
    return tuple(sorted(bins, key=lambda part: (part.low, not part.removed)))


def _summary(run: Run, positions: np.ndarray) -> str:
    """How many go, and how many of them are known to be wrong or were injected."""
    marks = run.train["planted"].to_numpy()
    gone = f"{len(positions):,} of {len(marks):,} training items go"
    injected = int((marks != "").sum())
    if not injected:
        return f"{gone}."
    return (
        f"{gone}; {int((marks[positions] != '').sum()):,} of them are among the {injected:,} that "
        "are injected or known to be wrong."
    )


def _effect(total: float, error: float | None, targets: int) -> str:
    noise = "error not known, with one member" if error is None else f"± {rounded(error)}"
    return (
        f"Predicted, at face value: removing them changes the mean loss on {targets:,} items by "
        f"{number(total)} nats ({noise})."
    )


def _caution(run: Run, total: float) -> str:
    loss = float(run.curves["validation"].iloc[int(run.manifest["results"]["kept_epoch"]) - 1])
    too_much = (
        f" It is more than the whole loss on the validation items, {rounded(loss)} nats, so it "
        "cannot come true."
        if -total > loss
        else ""
    )
    return (
        "Influences are those of sub-networks, and what is left stands in for what goes: whole "
        f"networks move far less.{too_much} The measure “removal” on the Trust page shows what "
        "such sums are worth; retrain below to know."
    )


def _classes(classes: list[str], labels: np.ndarray, positions: np.ndarray) -> pd.DataFrame:
    there, gone = (
        np.bincount(values, minlength=len(classes)) for values in (labels, labels[positions])
    )
    share = np.divide(gone, there, out=np.zeros(len(classes)), where=there > 0)
    return pd.DataFrame({"Class": classes, "Training items": there, "Go": gone, "Share": share})


def _table(
    run: Run,
    positions: np.ndarray,
    values: np.ndarray,
    std_errors: np.ndarray,
    flags: Mapping[int, Flag],
) -> pd.DataFrame:
    """Removed items, most harmful first; columns `Injected` and `Flag` only where any has one."""
    rows = run.train.loc[positions]
    content = (
        [snippet(str(text)) for text in rows["text"]]
        if run.kind == "text"
        else [_thumbnail(png) for png in rows["image"]]
    )
    actions = [
        flags[int(position)].action if int(position) in flags else "" for position in positions
    ]
    frame = pd.DataFrame(
        {
            "Text" if run.kind == "text" else "Image": content,
            "Label": [run.classes[int(label)] for label in rows["label"]],
            "Influence": np.asarray(values[positions], np.float64),
            "±": np.asarray(std_errors[positions], np.float64),
            "Injected": rows["planted"].to_list(),
            "Flag": actions,
            "Id": rows["id"].to_list(),
        }
    )
    return frame.drop(columns=[name for name in ("Injected", "Flag") if not frame[name].any()])


def _thumbnail(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


# Retraining results


@dataclass(frozen=True)
class RetrainedView:
    """A cleansing: how it was measured, its findings in sentences, and its numbers."""

    name: str
    setting: str
    sentences: tuple[str, ...]
    table: pd.DataFrame
    stale: str


def build_retrained(cleansed: Cleansed) -> RetrainedView:
    """The view of a cleansing, finished or in progress."""
    pairs = [
        (measured, comparison)
        for pair in _PAIRS
        for measured in cleansed.conditions
        for comparison in measured.against
        if (measured.condition, comparison.other) == pair
    ]
    sentences = [
        _sentence(measured.condition, cleansed.seeds[measured.condition], comparison, what)
        for measured, comparison in pairs
        for what in _MEASURES
    ]
    return RetrainedView(
        cleansed.name,
        _setting(cleansed),
        tuple(sentences) if cleansed.finished else (),
        _retrained_table(cleansed),
        cleansed.stale,
    )


def is_of(cleansed: Cleansed, step: Sequence[str]) -> bool:
    """Whether a cleansing is the result of a job's step `cleanse …`, not of other settings."""
    options = dict(pairwise(step))
    facts = cleansed.facts
    settings = (
        options.get("--fraction"),
        options.get("--validation"),
        options.get("--repeats"),
        "--flags" in step,
    )
    return settings == (
        f"{facts['fraction']:.4g}",
        facts["validation"],
        str(facts["repeats"]),
        bool(facts["flags"]),
    )


def _setting(cleansed: Cleansed) -> str:
    facts, flags = cleansed.facts, cleansed.facts["flags"]
    decided = (
        f" Your flags drop {flags['dropped']} and relabel {flags['relabelled']}." if flags else ""
    )
    measured = (
        "the run’s own validation items, one half to choose by, the other to measure on"
        if facts["validation"] == "validation"
        else facts["validation"]
    )
    return (
        f"{facts['removed']:,} items removed ({facts['fraction']:.1%}), chosen by "
        f"{facts['targets']:,} items and measured on {facts['measured_on']:,} others ({measured}); "
        f"{facts['repeats']} seeds, ordinary training without turn-over dropout.{decided}"
    )


def _sentence(condition: str, seeds: int, comparison: Comparison, what: str) -> str:
    """The comparison of a condition with another in loss or accuracy."""
    difference, interval = (
        (comparison.loss, comparison.loss_interval)
        if what == "loss"
        else (comparison.accuracy, comparison.accuracy_interval)
    )
    factor, digits, unit, better = _MEASURES[what]
    subject, against = f"{condition[:1].upper()}{condition[1:]}", f"against {comparison.other}"
    if interval is None:
        why = "one seed has no interval" if seeds < 2 else "all seeds differ by the same"
        return f"{subject} {against}: nothing can be said of the {what}, since {why}."
    low, high = interval
    bounds = (
        f"95 % interval of the difference {signed(low * factor, digits)} to "
        f"{signed(high * factor, digits)}"
    )
    if low <= 0 <= high:
        return f"{subject} {against}: no difference in {what} can be told from chance ({bounds})."
    amount = f"{factor * abs(difference):.{digits}f} {unit}"
    return (
        f"{subject} {'improved' if difference * better > 0 else 'worsened'} the {what} by {amount} "
        f"{against} ({bounds})."
    )


def _retrained_table(cleansed: Cleansed) -> pd.DataFrame:
    """A row for each condition; ± is the standard deviation over seeds, differences have a 95 %
    interval and a p-value.
    """
    rows = [(row, cleansed.seeds[row.condition]) for row in cleansed.conditions]
    return pd.DataFrame(
        {
            "Condition": [row.condition for row, _ in rows],
            "Models": [seeds for _, seeds in rows],
            "Accuracy": [
                _spread(100 * row.accuracy, 100 * row.accuracy_sd, seeds, 1, " %")
                for row, seeds in rows
            ],
            "Loss, nats": [_spread(row.loss, row.loss_sd, seeds, 3, "") for row, seeds in rows],
            "Loss against": [
                "; ".join(_short(comparison) for comparison in row.against) for row, _ in rows
            ],
        }
    )


def _spread(mean: float, deviation: float, seeds: int, digits: int, unit: str) -> str:
    return f"{mean:.{digits}f}{f' ± {deviation:.{digits}f}' if seeds > 1 else ''}{unit}"


def _short(comparison: Comparison) -> str:
    if comparison.loss_interval is None or comparison.loss_p is None:
        return f"{comparison.other} {signed(comparison.loss, 3)}"
    low, high = (signed(bound, 3) for bound in comparison.loss_interval)
    return (
        f"{comparison.other} {signed(comparison.loss, 3)} [{low}, {high}], "
        f"p = {comparison.loss_p:.2g}"
    )
