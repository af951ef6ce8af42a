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
    from turnover.data.base import Dataset, Items
    from turnover.dropout import TurnoverDropout
    from turnover.errors import TurnoverError
    from turnover.influences import Influence, TopInfluences, influence, mean_influence, self_influence, top_influences
    from turnover.insert import insert_masks
    from turnover.notebook import Run, save_run, train
    from turnover.pipeline.influence import compute_influence
    from turnover.scope import turnover

_HOMES = {
    "Dataset": "turnover.data.base",
    "Items": "turnover.data.base",
    "TurnoverDropout": "turnover.dropout",
    "turnover": "turnover.scope",
    "TurnoverError": "turnover.errors",
    "Influence": "turnover.influences",
    "TopInfluences": "turnover.influences",
    "influence": "turnover.influences",
    "self_influence": "turnover.influences",
    "mean_influence": "turnover.influences",
    "top_influences": "turnover.influences",
    "Run": "turnover.notebook",
    "save_run": "turnover.notebook",
    "train": "turnover.notebook",
    "insert_masks": "turnover.insert",
    "compute_influence": "turnover.pipeline.influence",
}

__all__ = [
    "Dataset",
    "Influence",
    "Items",
    "Run",
    "TopInfluences",
    "TurnoverDropout",
    "TurnoverError",
    "compute_influence",
    "influence",
    "insert_masks",
    "mean_influence",
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
