"""Turnover's engine: turn-over dropout, and the influence of training instances that it gives.

    layer = core.TurnoverDropout(384)                 # in your model
    with core.turnover(instance_ids):                 # in your training loop
        logits = model(batch)
    result = core.influence(model, inputs, labels, train_ids)

Names are handed out on first use (PEP 562), so that parts which need no torch load without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.data.base import Dataset, Items
    from core.dropout import TurnoverDropout
    from core.errors import TurnoverError
    from core.influences import Influence, TopInfluences, influence, mean_influence, self_influence, top_influences
    from core.pipeline.adopt import save_run
    from core.pipeline.influence import compute_influence
    from core.runs import Run
    from core.scope import turnover

_HOMES = {
    "Dataset": "core.data.base",
    "Items": "core.data.base",
    "TurnoverDropout": "core.dropout",
    "turnover": "core.scope",
    "TurnoverError": "core.errors",
    "Influence": "core.influences",
    "TopInfluences": "core.influences",
    "influence": "core.influences",
    "self_influence": "core.influences",
    "mean_influence": "core.influences",
    "top_influences": "core.influences",
    "Run": "core.runs",
    "save_run": "core.pipeline.adopt",
    "compute_influence": "core.pipeline.influence",
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
        raise AttributeError(f"module 'core' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
