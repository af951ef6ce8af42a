"""Turnover's engine: turn-over dropout, and the influence of training instances that it gives.

    layer = turnover.TurnoverDropout(384)                 # in your model
    with turnover.turnover(instance_ids):                 # in your training loop
        logits = model(batch)
    result = turnover.influence(model, inputs, labels, train_ids)

Names are handed out on first use (PEP 562), so that parts which need no torch load without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnover.attribution.dropout import TurnoverDropout, cohorts
    from turnover.attribution.influence import (
        Influence,
        TopInfluences,
        influence,
        mean_influence,
        self_influence,
        top_influences,
    )
    from turnover.attribution.insert import insert_masks
    from turnover.attribution.scope import turnover
    from turnover.cli.notebook import Run, save_run, train
    from turnover.data.base import Dataset, Items
    from turnover.errors import TurnoverError
    from turnover.workflows.influence import compute_influence
    from turnover.workflows.trainer import prepare_trainer

_HOMES = {
    "Dataset": "turnover.data.base",
    "Items": "turnover.data.base",
    "TurnoverDropout": "turnover.attribution.dropout",
    "cohorts": "turnover.attribution.dropout",
    "turnover": "turnover.attribution.scope",
    "TurnoverError": "turnover.errors",
    "Influence": "turnover.attribution.influence",
    "TopInfluences": "turnover.attribution.influence",
    "influence": "turnover.attribution.influence",
    "self_influence": "turnover.attribution.influence",
    "mean_influence": "turnover.attribution.influence",
    "top_influences": "turnover.attribution.influence",
    "Run": "turnover.cli.notebook",
    "save_run": "turnover.cli.notebook",
    "train": "turnover.cli.notebook",
    "insert_masks": "turnover.attribution.insert",
    "compute_influence": "turnover.workflows.influence",
    "prepare_trainer": "turnover.workflows.trainer",
}

__all__ = [
    "Dataset",
    "Influence",
    "Items",
    "Run",
    "TopInfluences",
    "TurnoverDropout",
    "TurnoverError",
    "cohorts",
    "compute_influence",
    "influence",
    "insert_masks",
    "mean_influence",
    "prepare_trainer",
    "save_run",
    "self_influence",
    "top_influences",
    "train",
    "turnover",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("turnover")
    if name not in _HOMES:
        raise AttributeError(f"module 'turnover' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
