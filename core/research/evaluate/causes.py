"""Are the causes of errors right, where the cause is known?

- `cue`: an error of the demo corpus with an injected cue was taught by it. *Recall*: the share of
  them that get that cue, a part that more than half of the training items with it carry the mark
  of; *false*: the share of the other errors that get any.
- `label`: the labels of a twentieth of the validation items are made wrong, `ROUNDS` times.
  *Precision* and *recall* for those that become errors by that; *of cues*: the share of the errors
  with an injected cue that are called label in doubt. Beside it, what precision the model's
  probability of its prediction would reach alone, without neighbours or cues.
- `teachers`: an error without an injected cue has wrong labels among its strongest proponents if
  injected ones are more frequent there than a draw would give.
- *label doubt*: of training items, for the injected wrong labels; `injected` has its curve.

What nobody injected is not known: a real error may have a cue, too, and the training set wrong
labels of its own, so that false and precision are bounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from turnover.data.base import WRONG_LABEL
from turnover.errors import TurnoverError
from turnover.explain.causes import causes, find_reasons
from turnover.explain.cues import RATE, tail
from turnover.explain.doubt import Unseen, in_doubt, suspected
from turnover.explain.effects import kept_effects
from turnover.explain.reasons import CUE, LABEL, TEACHERS, Cause, Reasons
from turnover.explain.words import content_words
from turnover.research.evaluate.results import Figure, ResultRow
from turnover.research.evaluate.scores import Options
from turnover.research.evaluate.statistics import mean_over_rows
from turnover.research.evaluate.task import EvaluationTask
from turnover.runs.ranking import TOP
from turnover.runs.run import PREDICTION, Run
from turnover.workflows.effects import error_effects

ROUNDS, WRONG = 5, 0.05
"""How often validation labels are made wrong, and the share of them."""

ALONE, RECALLS = "label by probability alone", (0.25, 0.5, 0.75)
_CUE = "cue-"


def measure(task: EvaluationTask, options: Options) -> dict[str, Any]:
    """Precision and recall of causes and doubts on what was injected.

    Raises:
        TurnoverError: if the run keeps no effects, or influences on errors alone.
    """
    run, begun = task.run, time.perf_counter()
    kept = kept_effects(run)
    if kept is None or set(run.influence.targets) < set(map(int, run.validation.index)):
        raise TurnoverError(
            f"{run.folder}: without influences on all validation items, or without words and "
            f"regions left out; compute them with `turnover influence --run {run.folder}`"
        )
    found = causes(run)
    flipped = _flipped(task, find_reasons(run, kept, found.doubts))
    by_kind = {
        CUE: _cues(run, found.causes),
        LABEL: {**flipped[LABEL], **_of_cues(run, found.causes)},
        ALONE: flipped[ALONE],
        TEACHERS: _teachers(run, found.causes),
        "label doubt": _doubts(run, found.doubts),
    }
    seconds = time.perf_counter() - begun
    return {
        "errors": len(found.causes),
        "groups": len(found.groups),
        "rows": [
            ResultRow(name, 0.0, seconds, figures, "" if figures else "nothing was injected")
            for name, figures in by_kind.items()
        ],
    }


def _share(values: list[bool], name: str) -> dict[str, Figure]:
    """A share with its interval; nothing of nothing."""
    return {name: mean_over_rows(np.array(values, float))} if values else {}


def _precise(called: list[bool], known: list[bool]) -> dict[str, Figure]:
    """Precision and recall of calls."""
    right = [is_known for is_known, is_called in zip(known, called, strict=True) if is_called]
    reached = [is_called for is_known, is_called in zip(known, called, strict=True) if is_known]
    return {**_share(right, "precision"), **_share(reached, "recall")}


def _cues(run: Run, found: tuple[Cause, ...]) -> dict[str, Figure]:
    marks = [str(run.validation["planted"].loc[cause.error]) for cause in found]
    right = [
        cause.kind == CUE and _carries(run, cause, mark)
        for cause, mark in zip(found, marks, strict=True)
        if mark.startswith(_CUE)
    ]
    others = [
        cause.kind == CUE
        for cause, mark in zip(found, marks, strict=True)
        if not mark.startswith(_CUE)
    ]
    return {**_share(right, "recall"), **_share(others, "false")}


def _of_cues(run: Run, found: tuple[Cause, ...]) -> dict[str, Figure]:
    marks = (str(run.validation["planted"].loc[cause.error]) for cause in found)
    called = [
        cause.kind == LABEL
        for cause, mark in zip(found, marks, strict=True)
        if mark.startswith(_CUE)
    ]
    return _share(called, "of cues")


def _carries(run: Run, cause: Cause, mark: str) -> bool:
    """Whether most training texts with a cue's words carry a mark; of regions only that there are
    any.
    """
    having = [not content_words(text).isdisjoint(cause.words) for text in run.train["text"]]
    carrying = run.train["planted"][having] == mark
    return bool(cause.regions) or bool(carrying.mean() > 0.5)


def _flipped(task: EvaluationTask, reasons: Reasons) -> dict[str, dict[str, Figure]]:
    """Precision and recall of `label` where validation labels are made wrong, and what the
    probability of the prediction would do alone.
    """
    run, rng = task.run, np.random.default_rng(0)
    labels, predicted = (run.validation[name].to_numpy() for name in ("label", "predicted"))
    names = [f"probability_{number}" for number in range(len(run.classes))]
    chances = run.validation[names].to_numpy()
    rounds = [_spoiled(labels, len(run.classes), rng) for _ in range(ROUNDS)]
    moved = (np.stack(rounds) != labels).any(axis=0)
    new = [int(at) for at in np.flatnonzero((labels == predicted) & moved)]
    read = task.settings.reader(task.device)
    effects = {**reasons.effects, **error_effects(run, task.model, read, new)}
    called, known, sure = [], [], []
    for spoiled in rounds:
        own = in_doubt(suspected(run, "validation", spoiled, Unseen.of(chances, spoiled)))
        again = replace(reasons, effects=effects, own=own)
        for error in np.flatnonzero(spoiled != predicted):
            called.append(again.cause(int(error)).kind == LABEL)
            known.append(bool(spoiled[error] != labels[error]))
            sure.append(float(chances[error].max()))
    return {LABEL: _precise(called, known), ALONE: _curve(np.array(known), np.array(sure))}


def _spoiled(labels: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Labels of which a share `WRONG` is another one."""
    rows = rng.permutation(len(labels))[: round(WRONG * len(labels))]
    spoiled = labels.copy()
    spoiled[rows] = (spoiled[rows] + rng.integers(1, classes, len(rows))) % classes
    return spoiled


def _curve(known: np.ndarray, sure: np.ndarray) -> dict[str, Figure]:
    """The precision of calling the surest predictions, where recall reaches each of `RECALLS`."""
    right = np.cumsum(known[np.argsort(-sure, kind="stable")])
    precisions = right / np.arange(1, len(known) + 1)
    return {
        f"precision at recall {recall:g}": Figure(
            float(precisions[np.searchsorted(right, recall * known.sum())])
        )
        for recall in RECALLS
        if known.any()
    }


def _teachers(run: Run, found: tuple[Cause, ...]) -> dict[str, Figure]:
    marks = run.validation["planted"]
    others = [cause for cause in found if not str(marks.loc[cause.error]).startswith(_CUE)]
    if not (run.train["planted"] == WRONG_LABEL).any():
        return {}
    known = [*map(_taught_wrong(run), others)]
    return _precise([cause.kind == TEACHERS for cause in others], known)


def _taught_wrong(run: Run) -> Callable[[Cause], bool]:
    """Whether injected wrong labels are frequent among the strongest proponents of an error."""
    wrong = (run.train["planted"] == WRONG_LABEL).to_numpy()
    labels, explained = run.train["label"].to_numpy(), set(run.influence.misclassified)

    def taught(cause: Cause) -> bool:
        if cause.error not in explained:
            return False
        ranked = run.influence.ranked(cause.error, PREDICTION)
        pool = labels == int(run.item("validation", cause.error)["predicted"])
        top = ranked.instances[ranked.ends(TOP)[0]]
        among = int((wrong & pool)[top].sum())
        drawn = int(pool[top].sum())
        return bool(
            among and tail(among, int(pool.sum()), int((wrong & pool).sum()), drawn) <= RATE
        )

    return taught


def _doubts(run: Run, doubts: dict[int, Any]) -> dict[str, Figure]:
    wrong = (run.train["planted"] == WRONG_LABEL).to_numpy()
    called = [position in doubts for position in range(len(wrong))]
    return _precise(called, wrong.tolist()) if wrong.any() else {}
