"""View models of the Cleanse page: what would go, what retraining came to, and how long it takes.

`build_preview` shows the training items that a share would remove, `build_curve` accuracy and loss
against the share removed. Items are taken from the measured curve where there is one, so that what
is taken over is what was tried; before, from the run's own mean influences on all validation items.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from turnover.errors import TurnoverError, counted
from turnover.explain.report import verdict_words
from turnover.explain.words import snippet
from turnover.flags import Flag
from turnover.runs.run import Run
from turnover.workflows.cleansing import (
    CLEANSED,
    FLAGGED,
    NONE,
    RANDOM,
    SHARES,
    Decisions,
    Summary,
    check_classes,
    count_removed,
    lowest,
)
from turnover.workflows.cleansing_results import Cleansed, Scores
from turnover.workflows.cleansing_words import Verdict, shortfall, verdict

LISTED = 60
"""Items of a preview that are shown."""

REPEATS = 4
"""Trainings of each kind, where nobody asks for another number."""

_CHARACTERS = 160


# What would go


@dataclass(frozen=True)
class Going:
    """A training item that would go; `decided` is what a person decided on it, in words, and
    `otherwise` whether that is not to drop it.
    """

    position: int
    id: str
    label: str
    text: str
    image: bytes
    decided: str
    otherwise: bool


@dataclass(frozen=True)
class Preview:
    """What a share would remove.

    Attributes:
        positions: of all items that go, the most harmful first.
        sentence: how many they are, of what, and on how many somebody decided otherwise.
        classes: name, how many go and how many there are.
        items: the first `LISTED`.
        undecided: positions of those that nobody has decided on.
    """

    positions: tuple[int, ...]
    sentence: str
    classes: tuple[tuple[str, int, int], ...]
    items: tuple[Going, ...]
    undecided: tuple[int, ...]


def most_harmful(run: Run, share: float, curve: Cleansed | None, scores: Scores) -> np.ndarray:
    """Positions of the items that a share removes, the most harmful first: those that were tried,
    where so many were tried and the curve is of this run as it is.
    """
    count = count_removed(len(run.train), share)
    if curve and not curve.stale and count <= len(curve.facts["removed_ids"]):
        places = {str(name): place for place, name in enumerate(run.train["id"])}
        tried = [places.get(str(name), -1) for name in curve.facts["removed_ids"][:count]]
        if -1 not in tried:
            return np.array(tried, np.int64)
    return lowest(scores.estimates[0], count)


def build_preview(run: Run, positions: np.ndarray, flags: Mapping[int, Flag]) -> Preview:
    """What it would be to remove these.

    Raises:
        TurnoverError: if they are none, or every item of a class.
    """
    if not len(positions):
        raise TurnoverError(
            f"this share of {len(run.train):,} training items is not one item; choose a larger one"
        )
    labels = run.train["label"].to_numpy()
    check_classes(np.delete(labels, positions), run.classes, "this share takes away")
    gone, there = (
        np.bincount(values, minlength=len(run.classes)) for values in (labels[positions], labels)
    )
    rows = [int(position) for position in positions]
    otherwise = sum(position in flags and flags[position].action != "drop" for position in rows)
    decided = f" On {otherwise:,} of them somebody decided otherwise." if otherwise else ""
    return Preview(
        tuple(rows),
        f"{len(rows):,} of {counted(len(labels), f'training {run.kind}')} would go.{decided}",
        tuple(zip(run.classes, gone.tolist(), there.tolist(), strict=True)),
        tuple(_going(run, position, flags.get(position)) for position in rows[:LISTED]),
        tuple(position for position in rows if position not in flags),
    )


def _going(run: Run, position: int, flag: Flag | None) -> Going:
    item, texts = run.item("train", position), run.kind == "text"
    return Going(
        position,
        str(item["id"]),
        run.classes[int(item["label"])],
        snippet(str(item["text"]), _CHARACTERS) if texts else "",
        b"" if texts else bytes(item["image"]),
        f"{flag.by}: {verdict_words(flag)}" if flag else "",
        flag is not None and flag.action != "drop",
    )


def taken_over_note(share: float, validation: str) -> str:
    """The note on flags that come from a cleansing."""
    items = "the validation items" if validation == "validation" else validation
    return f"Cleansing: among the {share:.0%} most harmful for {items}."


# What retraining came to


@dataclass(frozen=True)
class Point:
    """One condition on the curve: a value with its 95 % interval, None where there is none. The
    interval is that of the difference to nothing removed.
    """

    name: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Figure:
    """One measure against the share removed: `whole` is its value with nothing removed, `names` are
    those of all points there will be, `lines` are the points of a condition.
    """

    title: str
    whole: float
    percent: bool
    names: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Point, ...]], ...]

    @property
    def alt(self) -> str:
        form = ".1%" if self.percent else ".3f"
        parts = (
            f"{name}: {', '.join(f'{point.name} {point.value:{form}}' for point in points)}"
            for name, points in self.lines
        )
        return f"{self.title}, with nothing removed {self.whole:{form}}; {'; '.join(parts)}"


@dataclass(frozen=True)
class Curve:
    """A cleansing, finished or in progress; the figures are () until there is something to draw."""

    verdict: Verdict | None
    setting: str
    figures: tuple[Figure, ...]


LINES = {
    CLEANSED: "without the most harmful",
    RANDOM: "without as many random ones",
    FLAGGED: "with your decisions",
}


def build_curve(cleansed: Cleansed) -> Curve:
    """The curve of a cleansing."""
    facts, rows = cleansed.facts, cleansed.conditions
    whole = next((row for row in rows if row.condition == NONE), None)
    figures = (
        tuple(_figure(what, whole, cleansed) for what in ("accuracy", "loss"))
        if whole and len(rows) > 1
        else ()
    )
    total = int(facts.get("total") or 0)
    finding = verdict(rows, facts["shares"], facts["removed"], total) if cleansed.finished else None
    setting = f"{shortfall(rows, facts)} {_setting(facts)}".strip()
    return Curve(finding, setting, figures)


def _figure(what: str, whole: Summary, cleansed: Cleansed) -> Figure:
    rows, decided = cleansed.conditions, cleansed.facts["flags"] is not None
    names = (*map(_share_name, cleansed.facts["shares"]), *(["decisions"] if decided else []))
    level = float(getattr(whole, what))
    lines = (
        (words, tuple(_point(what, level, row) for row in rows if row.condition == condition))
        for condition, words in LINES.items()
    )
    return Figure(
        "Accuracy" if what == "accuracy" else "Loss (lower is better)",
        level,
        what == "accuracy",
        names,
        tuple((words, points) for words, points in lines if points),
    )


def _point(what: str, whole: float, row: Summary) -> Point:
    name = _share_name(row.share) if row.share else "decisions"
    interval = next(
        (getattr(one, f"{what}_interval") for one in row.against if one.other == NONE), None
    )
    low, high = (whole + bound for bound in interval) if interval else (None, None)
    return Point(name, float(getattr(row, what)), low, high)


def _share_name(share: float) -> str:
    return f"{100 * share:g} %"


def _setting(facts: Mapping[str, object]) -> str:
    flags = facts["flags"]
    decided = (
        f" Your decisions then: {flags['dropped']:,} to drop, {flags['relabelled']:,} to relabel."
        if isinstance(flags, dict)
        else ""
    )
    return (
        f"{facts['targets']:,} validation items chose what goes and how much; the figures are on "
        f"{facts['measured_on']:,} others. {facts['repeats']} trainings each, bars are 95 % "
        f"intervals of the change.{decided}"
    )


# Jobs


@dataclass(frozen=True)
class Offer:
    """A retraining that is offered: its button, and the arguments of `turnover cleanse`."""

    label: str
    step: tuple[str, ...]


def build_offer(
    run: Run,
    validation: str,
    path: str,
    curve: Cleansed | None,
    decisions: Decisions | None,
    repeats: int = REPEATS,
) -> Offer:
    """The retraining that would measure what is not measured yet: the curve, what people decided
    since, or both.
    """
    known = int(curve.facts["repeats"]) if curve and is_whole(curve) else 0
    models = max(0, repeats - known) * (1 + 2 * len(SHARES)) + repeats * bool(decisions)
    wait = waiting(_seconds_each(run, curve), models)
    new = "with your decisions" if decisions and known >= repeats else "and see"
    step = ["cleanse", "--run", str(run.folder), "--repeats", str(repeats)]
    step += ["--validation", validation, *(["--path", path] if path else [])]
    step += ["--flags"] if decisions else []
    return Offer(f"Retrain {new}{wait}", tuple(step))


def waiting(seconds_each: float | None, models: int) -> str:
    """How long some models take, in brackets; "" if nobody knows."""
    if seconds_each is None or not models:
        return ""
    seconds = seconds_each * models
    return f" (≈ {seconds:.0f} s)" if seconds < 120 else f" (≈ {seconds / 60:.0f} min)"


def _seconds_each(run: Run, curve: Cleansed | None) -> float | None:
    """Of one model: as measured here, else twice its part of the ordinary training's, since models
    trained one by one share nothing.
    """
    if curve and curve.facts.get("trained"):
        return float(curve.facts["seconds"]) / int(curve.facts["trained"])
    twin, members = run.manifest.get("timings", {}).get("twin"), run.manifest["results"]["members"]
    return 2 * float(twin) / int(members) if twin else None


def is_whole(curve: Cleansed | None) -> bool:
    """Whether a curve is there that is of the run as it is, and not of one share."""
    return curve is not None and not curve.stale and len(curve.facts["shares"]) > 1


def is_new(decisions: Decisions | None, curve: Cleansed | None) -> bool:
    """Whether people decided something since a curve was measured."""
    flags = curve.facts["flags"] if curve else None
    return decisions is not None and (not flags or flags.get("digest") != decisions.digest)


def decided_of(flags: Mapping[int, Flag], run: Run) -> Decisions | None:
    """What people decided, if that changes the training items."""
    changing = {place: flag for place, flag in flags.items() if flag.action != "keep"}
    return Decisions.of(changing, run.classes, len(run.train)) if changing else None


def so_far(partial: Cleansed | None, steps: Iterable[Sequence[str]]) -> Cleansed | None:
    """The unfinished curve, if it is that of a job at work."""
    if partial is None:
        return None
    facts = partial.facts
    wanted = facts["validation"], str(facts["repeats"]), bool(facts["flags"])
    for step in steps:
        options = dict(pairwise(step))
        if wanted == (options.get("--validation"), options.get("--repeats"), "--flags" in step):
            return partial
    return None
