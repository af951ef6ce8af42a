"""Why: the one cause that an error's numbers show, the first of these that holds.

1. `cue`: without a word or a patch the prediction falls, further than without any other part, and
   the teachers share it more than their class does (`turnover.explain.cues`).
2. `label`: the label of the item itself is in doubt (`turnover.explain.doubt`).
3. `teachers`: of the `TOP` strongest proponents more have a label in doubt than a draw among the
   training items that carry the predicted label would give (hypergeometric, at most `RATE`).
4. `class`: no item stands out; the strongest proponent has less than twice the influence of a usual
   item of its label, the median of these items' |influence|.
5. `none`: no clear cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from turnover.explain.cues import MATTERS, RATE, tail
from turnover.explain.doubt import Doubt
from turnover.explain.effects import Effect
from turnover.runs.ranking import TOP, strengths
from turnover.runs.run import PREDICTION, Ranked, Run

CUE, LABEL, TEACHERS, CLASS, NONE = "cue", "label", "teachers", "class", "none"
NAMES = {
    LABEL: "label in doubt",
    TEACHERS: "teachers’ labels in doubt",
    CLASS: "whole class",
    NONE: "no clear cause",
}
"""Names of the groups of errors by kind; those with a cue go by their cue."""

_TWICE = 2.0


@dataclass(frozen=True)
class Cause:
    """Why a validation item is misclassified.

    Attributes:
        error: its position among the validation items; -1 for an item of one's own.
        kind: `cue`, `label`, `teachers`, `class` or `none`.
        sentence: the reason, for a person.
        group: the name of the errors with the same cause.
        words: of the cue, in lower case.
        regions: patches of the cue, by number, row by row from 0 (`turnover.explain.parts`).
        without: the probability of the predicted label without the cue.
        doubt: of the item's own label; None if it is not in doubt.
        teachers: the training items among its `TOP` strongest proponents whose label is in doubt.
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
class Reasons:
    """What the causes of a run's errors are found in.

    Attributes:
        run: with influence.
        effects: of the parts of each error, by its position; empty where none were left out.
        doubts: of the labels of training items, by position.
        own: of the labels of validation items, by position.
    """

    run: Run
    effects: Mapping[int, Sequence[Effect]]
    doubts: Mapping[int, Doubt]
    own: Mapping[int, Doubt]

    def cause(self, error: int) -> Cause:
        """The cause of a misclassified validation item that has influences."""
        item, ranked = (
            self.run.item("validation", error),
            self.run.influence.ranked(error, PREDICTION),
        )
        label, twin = int(item["predicted"]), int(item.get("plain_predicted", -1))
        evidence = Evidence(self.run, label, float(item[f"probability_{label}"]), ranked)
        found = self.reason(evidence, self.effects.get(error, ()), self.own.get(error))
        return replace(found, error=error, twin=None if twin < 0 else twin == label)

    def reason(
        self, evidence: Evidence, effects: Sequence[Effect], doubt: Doubt | None = None
    ) -> Cause:
        """The cause of a prediction, from the effects of its parts and the doubt of its label."""
        doubted = tuple(int(at) for at in evidence.top if int(at) in self.doubts)
        blank = replace(
            unknown(
                -1,
                "No clear cause: no word or region that its teachers share, no label in "
                "doubt, and single items stand out of their class.",
            ),
            doubt=doubt,
            teachers=doubted,
        )
        found = (
            _cue(evidence, blank, effects),
            _own_label(evidence, blank),
            self._teachers(evidence, blank),
            _whole_class(evidence, blank),
        )
        return next(filter(None, found), blank)

    def _teachers(self, evidence: Evidence, blank: Cause) -> Cause | None:
        labels = evidence.labels
        pool = np.flatnonzero(labels == evidence.label)
        among = int((labels[list(blank.teachers)] == evidence.label).sum())
        doubted = sum(int(position) in self.doubts for position in pool)
        drawn = int((labels[evidence.top] == evidence.label).sum())
        if not among or tail(among, len(pool), doubted, drawn) > RATE:
            return None
        count = _counted(len(blank.teachers), "has a label", "have labels")
        return _because(
            blank,
            TEACHERS,
            f"Of the {len(evidence.top)} items that taught this most, {count} in doubt.",
        )


@dataclass(frozen=True)
class Evidence:
    """A prediction's numbers: the run, the predicted label by number, its probability, and the
    influences on it.
    """

    run: Run
    label: int
    probability: float
    ranked: Ranked

    @property
    def predicted(self) -> str:
        """The predicted label."""
        return self.run.classes[self.label]

    @property
    def top(self) -> np.ndarray:
        """The `TOP` strongest proponents, by position."""
        return np.asarray(self.ranked.instances[self.ranked.ends(TOP)[0]])

    @property
    def labels(self) -> np.ndarray:
        """Of all training items, `(N,)`."""
        return self.run.train["label"].to_numpy()


def unknown(error: int, sentence: str) -> Cause:
    """An error without a clear cause."""
    return Cause(error, NONE, sentence, NAMES[NONE])


def _because(blank: Cause, kind: str, sentence: str) -> Cause:
    """An error with a cause that is not a cue."""
    return replace(blank, kind=kind, sentence=sentence, group=NAMES[kind])


def _cue(evidence: Evidence, blank: Cause, effects: Sequence[Effect]) -> Cause | None:
    largest = min(effects, key=lambda effect: effect.probability, default=None)
    if largest is None or largest.probability > MATTERS * evidence.probability:
        return None
    return _of_cue(evidence, blank, largest) if largest.part.chance <= RATE else None


def _of_cue(evidence: Evidence, blank: Cause, effect: Effect) -> Cause:
    part = effect.part
    word = part.patch is None
    name = f"“{' '.join(part.names)}”" if word else f"region at {part.names[0]}"
    doubted = _counted(len(blank.teachers), "has a label", "have labels")
    return replace(
        blank,
        kind=CUE,
        group=name,
        words=part.names if word else (),
        regions=() if part.patch is None else (part.patch,),
        without=effect.probability,
        sentence=f"{name[0].upper()}{name[1:]} taught this: {part.having} of the {part.teachers} "
        f"“{evidence.predicted}” items that taught most {'have it' if word else 'are alike there'},"
        f" where {part.usual:.0f} would be usual. Without it the model would say "
        f"“{evidence.predicted}” at {effect.probability:.0%} instead of "
        f"{evidence.probability:.0%}."
        + (f" Of the {TOP} strongest, {doubted} in doubt." if blank.teachers else ""),
    )


def _own_label(evidence: Evidence, blank: Cause) -> Cause | None:
    doubt = blank.doubt
    if doubt is None or doubt.label != evidence.predicted:
        return None
    return _because(
        blank,
        LABEL,
        f"The label of this item is in doubt: the model, which never saw it, is as sure of "
        f"“{doubt.label}” ({doubt.probability:.0%}) as it is of items with that label, and most of "
        "the training items that are like it have that label.",
    )


def _whole_class(evidence: Evidence, blank: Cause) -> Cause | None:
    strongest = evidence.ranked.ends(1)[0]
    times = strengths(evidence.ranked, evidence.labels)[strongest]
    if not len(times) or not times[0] < _TWICE:
        return None
    label = int(evidence.labels[evidence.ranked.instances[strongest[0]]])
    return _because(
        blank,
        CLASS,
        f"The whole class did this, no single item: the strongest has {times[0]:.1f} × the "
        f"influence of a usual “{evidence.run.classes[label]}” item.",
    )


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
