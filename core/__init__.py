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
    from turnover.pipeline.adopt import save_run
    from turnover.pipeline.influence import compute_influence
    from turnover.runs import Run
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
    "Run": "turnover.runs",
    "save_run": "turnover.pipeline.adopt",
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
    "mean_influence",
    "save_run",
    "self_influence",
    "top_influences",
    "turnover",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'turnover' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
