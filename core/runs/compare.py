"""Two runs on the same validation items, before and after a change: which errors are gone, which
are new, which are the same, and whether that is more than chance.

Items are matched by id. A prediction is right or wrong, so the paired test is McNemar's exact one:
were the two models equally good, an error that only one of them makes is as likely the first's as
the second's.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from turnover.errors import TurnoverError
from turnover.runs.run import Run


@dataclass(frozen=True)
class Comparison:
    """The errors of two runs, by id, in the order of the first run's validation items.

    Attributes:
        gone: errors of the first run only.
        new: errors of the second run only.
        same: errors of both, whichever wrong label they give.
        items: number of validation items.
        p: two-sided p-value of McNemar's exact test; 1 where no error is gone or new.
    """

    gone: tuple[str, ...]
    new: tuple[str, ...]
    same: tuple[str, ...]
    items: int
    p: float


def compare_runs(before: Run, after: Run) -> Comparison:
    """Compare two runs.

    Raises:
        TurnoverError: if they were not validated on the same items with the same labels.
    """
    first, second = _answers(before), _answers(after)
    if set(first.index) != set(second.index) or not first.index.is_unique:
        shared = len(first.index.intersection(second.index))
        raise TurnoverError(
            f"{before.name} and {after.name} were validated on other items ({shared:,} in common "
            f"of {len(first):,} and {len(second):,}); give both trainings the same validation file"
        )
    second = second.loc[first.index]
    changed = (first["content"] != second["content"]) | (first["label"] != second["label"])
    if changed.any():
        raise TurnoverError(
            f"{before.name} and {after.name}: {changed.sum():,} validation items differ in content "
            f"or label, such as {changed.idxmax()}; give both trainings the same validation file"
        )
    was, now = first["wrong"].to_numpy(), second["wrong"].to_numpy()
    gone, new, same = (
        tuple(map(str, first.index[mask])) for mask in (was & ~now, now & ~was, was & now)
    )
    return Comparison(gone, new, same, len(first), _mcnemar(len(gone), len(new)))


def _answers(run: Run) -> pd.DataFrame:
    """Content, name of the label, and whether the prediction is wrong, by id."""
    items = run.validation
    names: np.ndarray = np.array(run.classes, object)
    content: dict[Hashable, object] = {
        "content": items[run.kind],
        "label": names[items["label"].to_numpy()],
        "wrong": (items["label"] != items["predicted"]).to_numpy(),
    }
    return pd.DataFrame(content).set_index(items["id"].astype(str))


def _mcnemar(gone: int, new: int) -> float:
    if not gone + new:
        return 1.0
    from scipy.stats import binomtest  # slow to import; a page compares only where it is asked to

    return float(binomtest(gone, gone + new).pvalue)
