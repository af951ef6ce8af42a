"""A run's estimator as files in the folder of its influences; needs no torch, so pages can estimate too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.estimators.basis import Basis
from core.estimators.estimator import Estimator
from core.estimators.shrinkage import Shrinkage

if TYPE_CHECKING:
    from core.runs import Run

_SCALARS = ("strength", "strength_variance", "own", "own_error")
_BY_DIRECTION = ("weight", "weight_variance", "deviation")


def save_estimator(estimator: Estimator, folder: Path) -> dict[str, Any]:
    """Write the estimator's arrays into a folder; returns what its manifest has to hold."""
    facts: dict[str, Any] = {"estimator": estimator.name, "agreement": estimator.agreement}
    if estimator.noise is None or estimator.basis is None or estimator.shrinkage is None:
        return facts
    arrays = {"noise": estimator.noise, "vectors": estimator.basis.vectors, "projector": estimator.basis.projector}
    if estimator.basis.random is not None:
        arrays["random"] = estimator.basis.random
    arrays["shrinkage"] = np.stack([getattr(estimator.shrinkage, name) for name in _BY_DIRECTION])
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return facts | {"shrinkage": {name: getattr(estimator.shrinkage, name) for name in _SCALARS}}


def stored_estimator(run: Run) -> Estimator:
    """The run's way from member values to one number, as its influences were estimated.

    Raises:
        TurnoverError: if the run has no influence.
    """
    part = run.influence
    facts, files = part.manifest, part.manifest["files"]
    if "vectors.npy" not in files:
        return Estimator(part.estimator, facts["agreement"])
    noise, vectors, projector, by_direction = (np.asarray(part.array(name)) for name in ("noise", "vectors", "projector", "shrinkage"))
    random = np.asarray(part.array("random")) if "random.npy" in files else None
    shrinkage = Shrinkage(**dict(zip(_BY_DIRECTION, by_direction, strict=True)), **facts["shrinkage"])
    return Estimator(part.estimator, facts["agreement"], noise, Basis(vectors, projector, random), shrinkage)
