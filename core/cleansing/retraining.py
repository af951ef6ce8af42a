"""The trainings of a cleansing: each condition from each seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from turnover.cleansing.choose import CONDITIONS, Decisions, given_labels, kept_rows
from turnover.cleansing.summary import Retrained
from turnover.models.members import Members
from turnover.recipe import Recipe
from turnover.training import Split, fit, validate


def retrain(
    build: Callable[[int], Members],
    recipe: Callable[[int], Recipe],
    train: Split,
    stopping: Split,
    measured: Split,
    scores: np.ndarray,
    count: int,
    seeds: Sequence[int],
    conditions: Sequence[str] = CONDITIONS,
    decisions: Decisions | None = None,
) -> Iterator[Retrained]:
    """Train each condition from each seed and measure it.

    Args:
        build: a seed → a new model.
        recipe: a seed → how it is trained; turn-over dropout off.
        train: all training items.
        stopping: items whose loss ends a training early.
        measured: items that nothing was chosen by.
        scores: `(N,)`, low = remove first.
        count: how many items go.
        seeds: one model each per condition.
        conditions: which to train.
        decisions: what people decided, for the condition `FLAGGED`.
    """
    for seed in seeds:
        for condition in conditions:
            model, rows = build(seed), torch.from_numpy(kept_rows(condition, scores, count, seed, decisions)).to(train.labels.device)
            labels = torch.from_numpy(given_labels(condition, train.labels.cpu().numpy(), decisions)).to(train.labels.device)
            history = fit(model, Split(train.inputs[rows], labels[rows]), stopping, recipe(seed))
            losses, share_right = validate(model, measured)
            yield Retrained(condition, seed, share_right, float(losses.mean()), history.curves["validation"][history.kept])
