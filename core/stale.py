"""Whether what was measured of a run still tells of it: checksums of the weights and of the influences that it was made with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from turnover.errors import TurnoverError
from turnover.runs import Run


def made_with(run: Run) -> dict[str, str]:
    """Checksums of the weights, and of all files of the influence together: the same numbers computed anew have the same.

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    sums = {name: facts["sha256"] for name, facts in run.influence.manifest["files"].items()}
    influence = hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()
    return {"run": run.manifest["files"]["weights.safetensors"]["sha256"], "influence": influence}


def stale_since(run: Run, made: Mapping[str, Any]) -> str:
    """What has changed in a run since something was made with it, in a sentence; "" if nothing has."""
    if made.get("run") != run.manifest["files"]["weights.safetensors"]["sha256"]:
        return "The run was trained again since this was measured."
    try:
        now = made_with(run)
    except TurnoverError:
        return "The influences that this was measured of cannot be read any more."
    return "" if made.get("influence") == now["influence"] else "The influences were computed again since this was measured."
