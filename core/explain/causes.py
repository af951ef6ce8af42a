"""The causes of all errors of a run, in groups, as the run keeps them.

One cause an error (`turnover.explain.reasons`): a cue, its own label, labels of its teachers, its
class, or none that is clear. They are kept in RUN/causes/causes.json, belong to influences, effects
and this version of the method, and are computed anew when one of these has changed. A run without
effects has causes without cues, and `Causes.note` says so.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from turnover.errors import TurnoverError
from turnover.explain.doubt import Doubt, Unseen, in_doubt, suspected
from turnover.explain.effects import FOLDER, Effects, effects_path, kept_effects
from turnover.explain.reasons import CUE, NONE, Cause, Reasons, unknown
from turnover.runs.run import Run, made_with
from turnover.storage.artifacts import read_facts, sha256, write_facts
from turnover.storage.schema import Facts, Position, Share

OTHERS = "other cues"
"""The name of the group of errors whose cue no other error has."""

_METHOD = "2"
"""Kept causes of another version of the method are computed anew."""


@dataclass(frozen=True)
class CauseGroup:
    """Errors with the same cause, by position; `name` for a person."""

    name: str
    kind: str
    errors: tuple[int, ...]


@dataclass(frozen=True)
class Causes:
    """The causes of all errors of a run, in the order of `Run.misclassified_positions`.

    Attributes:
        causes: one an error.
        suspects: training items for which another label is more probable, by position.
        note: what they were computed without, in a sentence; "" if nothing is missing.
    """

    causes: tuple[Cause, ...]
    suspects: dict[int, Doubt]
    note: str = ""

    @cached_property
    def doubts(self) -> dict[int, Doubt]:
        """The training items whose label is in doubt, by position."""
        return in_doubt(self.suspects)

    @cached_property
    def by_error(self) -> dict[int, Cause]:
        """The cause of each error, by its position among the validation items."""
        return {cause.error: cause for cause in self.causes}

    @property
    def groups(self) -> tuple[CauseGroup, ...]:
        """The errors by cause, the largest group first, those without a clear cause last."""
        sizes = Counter((cause.group, cause.kind) for cause in self.causes)
        order = sorted(sizes, key=lambda group: (group[1] == NONE, -sizes[group]))
        members = {
            name: tuple(cause.error for cause in self.causes if cause.group == name)
            for name, _ in order
        }
        return tuple(CauseGroup(name, kind, members[name]) for name, kind in order)


def causes(run: Run) -> Causes:
    """The causes of a run's errors: those that it keeps, or computed now and kept.

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    with suppress(TurnoverError):  # damaged ones are computed anew
        kept = kept_causes(run)
        if kept is not None:
            return kept
    found = compute_causes(run)
    with suppress(TurnoverError):  # those of a run that cannot be written to are shown, too
        keep_causes(run, found)
    return found


def compute_causes(run: Run) -> Causes:
    """The causes of a run's errors, computed now.

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    kept, note = _effects(run)
    suspects = suspected_training_items(run, kept)
    reasons = find_reasons(run, kept, in_doubt(suspects))
    explained = set(run.influence.misclassified)
    found = (
        reasons.cause(error)
        if error in explained
        else unknown(error, "No influences were computed for this error.")
        for error in run.misclassified_positions
    )
    return Causes(_in_groups([*found]), suspects, note)


def _in_groups(found: list[Cause]) -> tuple[Cause, ...]:
    """Cues that one error alone has share a group, so that there are few to go through."""
    sizes = Counter(cause.group for cause in found)
    return tuple(
        replace(cause, group=OTHERS) if cause.kind == CUE and sizes[cause.group] == 1 else cause
        for cause in found
    )


def suspected_training_items(run: Run, kept: Effects | None) -> dict[int, Doubt]:
    """The training items for which another label is more probable, by position."""
    whole, labels = Unseen.whole(run, "train"), run.train["label"].to_numpy()
    return suspected(run, "train", labels, whole, *([kept.unseen] if kept else []))


def find_reasons(run: Run, kept: Effects | None, doubts: dict[int, Doubt]) -> Reasons:
    """What causes are found in: a run, its effects, if there are any, and its label doubts."""
    whole, labels = Unseen.whole(run, "validation"), run.validation["label"].to_numpy()
    own = in_doubt(suspected(run, "validation", labels, whole))
    return Reasons(run, kept.by_error if kept else {}, doubts, own)


def _effects(run: Run) -> tuple[Effects | None, str]:
    """The effects that a run keeps, and a note where there are none."""
    try:
        kept = kept_effects(run)
    except TurnoverError as error:
        return None, f"Causes without words or regions: {error}."
    if run.scored:
        return None, "Causes without words or regions: there is no model to ask without them."
    if kept is None:
        return None, (
            "Causes without words or regions, which this run has not left out yet: compute its "
            f"influences again with `turnover influence --run {run.folder}`."
        )
    missing = bool(run.influence.misclassified) and not kept.by_error
    note = "Causes without words: the encoder that reads them was not on the machine."
    return kept, note if missing else ""


# As the run keeps them


def causes_path(run: Run) -> Path:
    """The file that they are kept in."""
    return run.folder / FOLDER / "causes.json"


def keep_causes(run: Run, found: Causes) -> Path:
    """Keep causes with a run; returns the file.

    Raises:
        TurnoverError: if the run has no usable influence, or the file cannot be written.
    """
    return write_facts(causes_path(run), {"made_with": _made_with(run), **asdict(found)})


def kept_causes(run: Run) -> Causes | None:
    """The causes that a run keeps; None if there are none of its influences and effects.

    Raises:
        TurnoverError: if they are damaged, or the run has no usable influence.
    """
    path, made = causes_path(run), _made_with(run)
    if not path.exists():
        return None
    stored = read_facts(path, _Stored, f"delete it, or {run.influence.again}")
    return stored.value if stored.made_with == made else None


def _made_with(run: Run) -> dict[str, str]:
    """What they depend on."""
    path = effects_path(run)
    effects = sha256(path) if path.exists() else ""
    return {**made_with(run), "effects": effects, "method": _METHOD}


class _Doubt(Facts):
    label: str
    probability: Share

    @property
    def value(self) -> Doubt:
        return Doubt(self.label, self.probability)


class _Cause(Facts):
    error: Position
    kind: Literal["cue", "label", "teachers", "class", "none"]
    sentence: str
    group: str
    words: list[str]
    regions: list[Position]
    without: Share | None
    doubt: _Doubt | None
    teachers: list[Position]
    twin: bool | None

    @property
    def value(self) -> Cause:
        values: dict[str, Any] = dict(self)
        values |= {name: tuple(values[name]) for name in ("words", "regions", "teachers")}
        return Cause(**values | {"doubt": self.doubt and self.doubt.value})


class _Stored(Facts):
    made_with: dict[str, str]
    causes: list[_Cause]
    suspects: dict[str, _Doubt]
    note: str

    @property
    def value(self) -> Causes:
        suspects = {int(position): doubt.value for position, doubt in self.suspects.items()}
        return Causes(tuple(cause.value for cause in self.causes), suspects, self.note)
