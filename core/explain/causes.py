"""Why: for each misclassified item of a run the one cause that its numbers show.

In this order, the first that holds:

1. `cue`: a word or a patch that the teachers share more than their class does, and without which
   the prediction falls (`turnover.explain.cues`).
2. `label`: the label of the item itself is in doubt (`turnover.explain.doubt`).
3. `teachers`: labels of its `TOP` strongest proponents are in doubt, more of them than a draw among
   the training items of that label would give by chance (hypergeometric, at most `RATE`).
4. `class`: no item stands out; the strongest proponent has less than twice the influence of a usual
   item of its label, the median of these items' |influence|.
5. `none`: no clear cause.

Causes are kept in RUN/causes/causes.json. They belong to influences, effects and this version of
the method; runs without effects have causes without cues, and say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from turnover.errors import TurnoverError
from turnover.explain.cues import MATTERS, RATE, SharedPart, Sharing
from turnover.explain.doubt import Doubt, Unseen, doubtful_among, label_doubts
from turnover.explain.effects import FOLDER, Effect, effects_path, kept_effects
from turnover.runs.ranking import TOP
from turnover.runs.run import PREDICTION, Ranked, Run, made_with
from turnover.storage.artifacts import read_facts, sha256, write_facts
from turnover.storage.schema import Facts, Position, Share

CUE, LABEL, TEACHERS, CLASS, NONE = "cue", "label", "teachers", "class", "none"
NAMES = {
    LABEL: "label in doubt",
    TEACHERS: "wrong labels among the teachers",
    CLASS: "whole class",
    NONE: "no clear cause",
}
"""Names of the groups of errors; those with a cue go by their cue."""

_METHOD = 1
"""Number of the method; kept causes of another are computed anew."""
_TWICE = 2.0


@dataclass(frozen=True)
class Cause:
    """Why a validation item is misclassified.

    Attributes:
        error: its position among the validation items.
        kind: `cue`, `label`, `teachers`, `class` or `none`.
        sentence: the reason, for a person.
        group: the name of the errors with the same cause.
        words: of the cue.
        regions: patches of the cue, by number, row by row from 0 (`turnover.explain.parts`).
        without: the probability of the predicted label without the cue.
        doubt: of the item's own label; None if it is not in doubt.
        teachers: the training items among its strongest proponents whose label is in doubt.
        twin: whether ordinary training, without masks, makes the same mistake; None if unknown.
    """

    error: int
    kind: str
    sentence: str
    group: str
    words: tuple[str, ...] = ()
    regions: tuple[int, ...] = ()
    without: float | None = None
    doubt: Doubt | None = None
    teachers: tuple[int, ...] = ()
    twin: bool | None = None


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
        doubts: training items whose label is in doubt, by position.
        note: what they were computed without, in a sentence; "" if nothing is missing.
    """

    causes: tuple[Cause, ...]
    doubts: dict[int, Doubt]
    note: str = ""

    @property
    def groups(self) -> tuple[CauseGroup, ...]:
        """The errors by cause, the largest group first; those without a clear cause last."""
        names = Counter((cause.group, cause.kind) for cause in self.causes)
        order = sorted(names, key=lambda name: (name[1] == NONE, -names[name]))
        return tuple(
            CauseGroup(
                name,
                kind,
                tuple(cause.error for cause in self.causes if cause.group == name),
            )
            for name, kind in order
        )

    @cached_property
    def by_error(self) -> dict[int, Cause]:
        """The cause of each error, by its position among the validation items."""
        return {cause.error: cause for cause in self.causes}


def causes(run: Run) -> Causes:
    """The causes of a run's errors: those that it keeps, or computed now and kept.

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    made = {**made_with(run), "effects": _sum_of_effects(run), "method": str(_METHOD)}
    path = run.folder / FOLDER / "causes.json"
    with suppress(TurnoverError, FileNotFoundError):
        stored = read_facts(path, _Stored, run.influence.again)
        if stored.made_with == made:
            return stored.value
    found = compute_causes(run)
    with suppress(TurnoverError):  # a page of a run that cannot be written to still shows them
        write_facts(path, {"made_with": made, **asdict(found)})
    return found


def compute_causes(run: Run) -> Causes:
    """The causes of a run's errors, computed now.

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    return _Reasons(run).causes()


def strengths(ranked: Ranked, labels: np.ndarray) -> np.ndarray:
    """How many times a usual item of its label each training item of a ranking is: its |influence|
    over the median |influence| of all training items with that label, `(n,)`.

    NaN where a run keeps only the ends of each ranking, or the usual one is 0.

    Args:
        labels: of all training items, `(N,)`.
    """
    ratios = np.full(len(ranked.values), np.nan)
    if len(ranked.values) == len(labels):
        sizes, carried = np.abs(ranked.values), labels[ranked.instances]
        for label in np.unique(carried):
            usual = np.median(sizes[carried == label])
            if usual > 0:
                ratios[carried == label] = sizes[carried == label] / usual
    return ratios


class _Reasons:
    """What the causes of a run's errors are found in."""

    def __init__(self, run: Run) -> None:
        self.run, self.labels = run, run.train["label"].to_numpy()
        self.explained = run.influence.misclassified
        self.effects, self.note, unseen = _effects(run)
        self.doubts = label_doubts(run, "train", unseen, self.labels)
        whole = Unseen.whole(run, "validation")
        self.own = label_doubts(run, "validation", whole, run.validation["label"].to_numpy())
        self.sharing = Sharing(run, [*self.effects])

    def causes(self) -> Causes:
        found = (self._cause(error) for error in self.run.misclassified_positions)
        return Causes(tuple(found), self.doubts, self.note)

    def _cause(self, error: int) -> Cause:
        item = self.run.item("validation", error)
        twin = item.get("plain_predicted", -1)
        blank = Cause(
            error,
            NONE,
            "No clear cause: its teachers share no word or patch that matters, no label is in "
            "doubt, and single items stand out of their class.",
            NAMES[NONE],
            doubt=self.own.get(error),
            twin=None if twin < 0 else bool(twin == item["predicted"]),
        )
        if error not in self.explained:
            return replace(blank, sentence="No influences were computed for this error.")
        predicted = self.run.classes[int(item["predicted"])]
        ranked = self.run.influence.ranked(error, PREDICTION)
        top = ranked.instances[ranked.ends(TOP)[0]]
        blank = replace(blank, teachers=tuple(doubtful_among(self.doubts, top)))
        return next(
            self._reasons(blank, ranked, predicted, float(item[f"probability_{item['predicted']}"]))
        )

    def _reasons(
        self, blank: Cause, ranked: Ranked, predicted: str, before: float
    ) -> Iterator[Cause]:
        """All causes that hold, the one that counts first."""
        cue = self._cue(blank.error, before)
        if cue:
            yield _of_cue(blank, *cue, predicted, before)
        if blank.doubt and blank.doubt.label == predicted:
            yield replace(
                blank,
                kind=LABEL,
                group=NAMES[LABEL],
                sentence=f"The label of this item is in doubt: the model, which never saw it, is "
                f"as sure of “{predicted}” ({blank.doubt.probability:.0%}) as of items that carry "
                "that label, and so are most of the training items that are like it.",
            )
        if self._taught_wrong(blank, ranked):
            count = len(blank.teachers)
            yield replace(
                blank,
                kind=TEACHERS,
                group=NAMES[TEACHERS],
                sentence=f"{_counted(count, 'label is', 'labels are')} in doubt among the {TOP} "
                f"training items that taught this most.",
            )
        strongest = ranked.ends(1)[0]
        if len(strongest):
            times = float(strengths(ranked, self.labels)[strongest[0]])
            if times < _TWICE:
                label = self.run.classes[int(self.labels[ranked.instances[strongest[0]]])]
                yield replace(
                    blank,
                    kind=CLASS,
                    group=NAMES[CLASS],
                    sentence="No single training item did this, the whole class did: the strongest "
                    f"has {times:.1f} × the influence of a usual “{label}” item.",
                )
        yield blank

    def _cue(self, error: int, before: float) -> tuple[SharedPart, Effect] | None:
        """The part of an error that is its cue, and what happens without it."""
        effects = {effect.names: effect for effect in self.effects.get(error, ())}
        shared = self.sharing.parts(error) if effects else []
        cues = [
            (part, effects[part.names])
            for part in shared
            if part.chance <= RATE
            and part.names in effects
            and effects[part.names].probability <= MATTERS * before
        ]
        return min(cues, key=lambda pair: pair[1].probability, default=None)

    def _taught_wrong(self, blank: Cause, ranked: Ranked) -> bool:
        from scipy.stats import hypergeom

        top = ranked.instances[ranked.ends(TOP)[0]]
        label = int(self.run.item("validation", blank.error)["predicted"])
        pool = np.flatnonzero(self.labels == label)
        among = [position for position in blank.teachers if self.labels[position] == label]
        doubtful = len(doubtful_among(self.doubts, pool))
        drawn = int((self.labels[top] == label).sum())
        return bool(among and hypergeom.sf(len(among) - 1, len(pool), doubtful, drawn) <= RATE)


def _effects(run: Run) -> tuple[Mapping[int, Sequence[Effect]], str, Unseen]:
    """The effects that a run keeps, a note where there are none, and what those say of training
    items that never saw them.
    """
    again = f"compute them with `turnover influence --run {run.folder}`"
    try:
        kept = kept_effects(run)
    except TurnoverError as error:
        return {}, f"Causes without words or patches: {error}.", Unseen.whole(run, "train")
    if kept is None:
        note = f"Causes without words or patches, which were not left out in this run; {again}."
        return {}, note, Unseen.whole(run, "train")
    missing = run.influence.misclassified and not kept.by_error
    note = "Causes without words: the encoder that reads them was not on the machine."
    return kept.by_error, note if missing else "", kept.unseen


def _sum_of_effects(run: Run) -> str:
    path = effects_path(run)
    return sha256(path) if path.exists() else ""


def _of_cue(blank: Cause, part: SharedPart, effect: Effect, predicted: str, before: float) -> Cause:
    name = f"“{' '.join(part.names)}”" if part.patch is None else f"patch {part.names[0]}"
    have = "have it" if part.patch is None else "look alike there"
    wrong = (
        f" Beside it, {_counted(len(blank.teachers), 'label is', 'labels are')} in doubt among the "
        f"{TOP} that taught most."
        if blank.teachers
        else ""
    )
    return replace(
        blank,
        kind=CUE,
        group=name,
        words=part.names if part.patch is None else (),
        regions=() if part.patch is None else (part.patch,),
        without=effect.probability,
        sentence=f"{name[0].upper()}{name[1:]} taught this: {part.having} of the {part.teachers} "
        f"“{predicted}” items that taught most {have}, where {part.usual:.0f} would be usual. "
        f"Without it the model would say “{predicted}” at {effect.probability:.0%}, not "
        f"{before:.0%}.{wrong}",
    )


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


class _StoredDoubt(Facts):
    label: str
    probability: Share


class _StoredCause(Facts):
    error: Position
    kind: Literal["cue", "label", "teachers", "class", "none"]
    sentence: str
    group: str
    words: list[str]
    regions: list[Position]
    without: Share | None
    doubt: _StoredDoubt | None
    teachers: list[Position]
    twin: bool | None


class _Stored(Facts):
    made_with: dict[str, str]
    causes: list[_StoredCause]
    doubts: dict[str, _StoredDoubt]
    note: str

    @property
    def value(self) -> Causes:
        doubts = {int(position): _doubt(doubt) for position, doubt in self.doubts.items()}
        return Causes(tuple(map(_cause, self.causes)), doubts, self.note)


def _doubt(stored: _StoredDoubt) -> Doubt:
    return Doubt(stored.label, stored.probability)


def _cause(stored: _StoredCause) -> Cause:
    values: dict[str, Any] = dict(stored)
    values |= {name: tuple(values[name]) for name in ("words", "regions", "teachers")}
    return Cause(**values | {"doubt": stored.doubt and _doubt(stored.doubt)})
