"""The data report: what to know of a data set before a model is trained on it, in a few lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from turnover.data.base import Dataset
from turnover.errors import counted

_NAMED = 5
_NAME = 40


@dataclass(frozen=True)
class DataReport:
    """The findings of the data report.

    Attributes:
        kind: `text` or `image`.
        notes: how the data were read and what was skipped.
        repeated: training items with the content and the label of an earlier one.
        torn: contents of training items that carry more than one label.
        torn_ids: ids of the items with the first of these contents.
        shared: validation items whose content is among the training items'.
        single: classes with one training item.
        missing: classes without any training item.
        unmeasured: classes without any validation item.
        alike: groups of classes whose names differ only in spaces, capitals, or how a number or
            a truth value is written.
        cut: share of the training texts that are longer than the model's window.
        window: how many tokens of a text the model reads.
        widest: how many it could read; 0 if that is not known.
    """

    kind: str
    notes: tuple[str, ...] = ()
    repeated: int = 0
    torn: int = 0
    torn_ids: tuple[str, ...] = ()
    shared: int = 0
    single: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()
    alike: tuple[tuple[str, ...], ...] = ()
    cut: float = 0.0
    window: int = 0
    widest: int = 0

    @property
    def lines(self) -> list[str]:
        """The report in sentences, the notes first."""
        wider = f"; --max-tokens goes up to {self.widest}"
        findings = [
            (
                self.torn,
                (
                    f"{counted(self.torn, self.kind)} among the training items with two or more "
                    f"labels, such as {_listed(self.torn_ids)}"
                ),
            ),
            (
                self.repeated,
                (
                    f"{counted(self.repeated, 'training item')} with the {self.kind} and label of "
                    "an earlier one"
                ),
            ),
            (
                self.shared,
                (
                    f"{counted(self.shared, 'validation item')} with {_a(self.kind)} that is "
                    "trained on as well, so the accuracy flatters"
                ),
            ),
            (len(self.missing), f"no training item of {_listed(self.missing)}"),
            (len(self.single), f"one training item only of {_listed(self.single)}"),
            (len(self.unmeasured), f"no validation item of {_listed(self.unmeasured)}"),
            (
                self.cut,
                (
                    f"{_percent(self.cut)} of the training texts are longer than {self.window} "
                    f"tokens and are cut there{wider if self.widest > self.window else ''}"
                ),
            ),
            *(
                (1, f"classes whose names may mean the same: {_listed(names)}")
                for names in self.alike
            ),
        ]
        return [*self.notes, *(line for count, line in findings if count)]


def look_at(data: Dataset) -> DataReport:
    """The report on a data set; injected wrong labels count as they were before."""
    train, validation = data.train.contents, data.validation.contents
    labels = data.train.labels if data.train.true_labels is None else data.train.true_labels
    rows = defaultdict[Hashable, list[int]](list)
    for row, content in enumerate(train):
        rows[content].append(row)
    torn = [group for group in rows.values() if len({*labels[group].tolist()}) > 1]
    counts, measured = (
        np.bincount(numbers, minlength=len(data.classes))
        for numbers in (labels, data.validation.labels)
    )

    def classes(sizes: np.ndarray, count: int) -> tuple[str, ...]:
        return tuple(data.classes[number] for number in np.flatnonzero(sizes == count))

    alike = defaultdict[str | float, list[str]](list)
    for name in data.classes:
        alike[_meaning(name)].append(name)
    return DataReport(
        kind=data.kind,
        notes=data.notes,
        repeated=sum(len(group) - len({*labels[group].tolist()}) for group in rows.values()),
        torn=len(torn),
        torn_ids=tuple(data.train.ids[row] for row in (torn[0] if torn else ())),
        shared=sum(content in rows for content in validation),
        single=classes(counts, 1),
        missing=classes(counts, 0),
        unmeasured=classes(measured, 0),
        alike=tuple(tuple(names) for names in alike.values() if len(names) > 1),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"


def _meaning(name: str) -> str | float:
    """What classes with names that differ in writing only have in common."""
    plain = "".join(name.split()).casefold()
    try:
        return float({"true": "1", "false": "0"}.get(plain, plain))
    except ValueError:
        return plain


def _a(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name if len(name) <= _NAME else f"{name[:_NAME]}…" for name in names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED:,} more" if len(names) > _NAMED else shown
