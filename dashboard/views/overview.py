"""A run at a glance: which class is taken for which, and a few errors to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from turnover.dashboard.views.errors import ANY
from turnover.ranking import TOP, clearness, known_answers
from turnover.report.errors import ErrorItem
from turnover.runs import Run
from turnover.wording import counted

STARTS = 3


@dataclass(frozen=True)
class Confusion:
    """How many validation items of each true class (rows) are predicted as each class (columns), `(C, C)`."""

    classes: tuple[str, ...]
    counts: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """The counts without the right answers on the diagonal."""
        wrong: np.ndarray = self.counts - np.diag(np.diag(self.counts))
        return wrong

    @property
    def table(self) -> np.ndarray:
        """The counts with the errors of each row in a last column, and of each column in a last row, `(C + 1, C + 1)`."""
        wrong = self.errors
        right = np.append(wrong.sum(1), wrong.sum())[:, None]
        return np.hstack([np.vstack([self.counts, wrong.sum(0)]), right])

    @property
    def options(self) -> list[str]:
        """What can be chosen of the true or of the predicted class, in the order of rows or columns; the last is any."""
        return [*self.classes, ANY]

    @property
    def alt(self) -> str:
        """The table in words: the errors that are made most."""
        wrong = self.errors
        most = [divmod(int(place), len(self.classes)) for place in np.argsort(-wrong, axis=None, kind="stable")[:STARTS]]
        said = [f"{self.classes[true]} taken for {self.classes[predicted]}, {wrong[true, predicted]:,}" for true, predicted in most if wrong[true, predicted]]
        return f"Confusion matrix of {self.counts.sum():,} validation items, {wrong.sum():,} of them wrong. {'Most often: ' if said else ''}{'; '.join(said)}"

    def chosen(self, true: str, predicted: str) -> str:
        """What is behind a cell, a row or a column, in a sentence."""
        own = f" of class “{true}”" if true != ANY else ""
        taken = f" taken for “{predicted}”" if predicted != ANY else ""
        if true == predicted != ANY:
            right = self.classes.index(true)
            return f"Right answers: {self.counts[right, right]:,} of class “{true}”. Choose another cell to see errors."
        count = self.behind(true, predicted)
        return f"{counted(count, 'error')}{own}{taken}." if count else f"No error{own}{taken}."

    def behind(self, true: str, predicted: str) -> int:
        """How many errors are behind a cell, a row or a column."""
        rows, columns = (slice(None) if name == ANY else slice(place := self.classes.index(name), place + 1) for name in (true, predicted))
        return int(self.errors[rows, columns].sum())


def build_confusion(run: Run) -> Confusion:
    """The confusion matrix of a run's validation items."""
    counts = np.zeros((len(run.classes), len(run.classes)), np.int64)
    np.add.at(counts, (run.validation["label"].to_numpy(), run.validation["predicted"].to_numpy()), 1)
    return Confusion(tuple(run.classes), counts)


@dataclass(frozen=True)
class Start:
    """An error to begin with, and why this one."""

    item: ErrorItem
    why: str


def starting_points(run: Run, errors: Sequence[ErrorItem], with_influence: bool) -> tuple[Start, ...]:
    """A few errors: the clearest explanation first, of different pairs of classes where there are some; without influence, the surest prediction first."""
    order = list(errors) if with_influence else sorted(errors, key=lambda item: -item.probability)
    firsts = {(item.label, item.predicted): item for item in reversed(order)}
    different = [item for item in order if firsts[item.label, item.predicted] is item]
    others = [item for item in order if firsts[item.label, item.predicted] is not item]
    known = frozenset(run.influence.errors) if with_influence else frozenset()
    return tuple(Start(item, _why(run, item, errors, item.position in known)) for item in (different + others)[:STARTS])


def _why(run: Run, item: ErrorItem, errors: Sequence[ErrorItem], explained: bool) -> str:
    like = sum((other.label, other.predicted) == (item.label, item.predicted) for other in errors)
    one = f"{f'One of {like:,} errors that take' if like > 1 else 'The only error that takes'} “{item.label}” for “{item.predicted}”"
    if not explained:
        return f"{one}. The model is sure of it: {item.probability:.0%}."
    if found := known_answers(run, item.position):
        return f"{one}. Its cause is known: {found} of its {TOP} strongest proponents carry the mark that was planted in it."
    many = int(run.manifest["results"]["members"]) > 1
    measure = "standard errors away from zero" if many else "standard deviations of a random training item’s influence"
    return f"{one}. Its explanation is clear: the {TOP} clearest proponents are {clearness(run, item.position):.1f} {measure} on average."
