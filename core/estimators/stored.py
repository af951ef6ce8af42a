"""A run's estimator as files in the folder of its influences; needs no torch, so pages can estimate too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from turnover.estimators.basis import Basis
from turnover.estimators.estimator import Estimator
from turnover.estimators.shrinkage import Shrinkage

if TYPE_CHECKING:
    from turnover.runs import Run

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


def load_estimator(folder: Path, facts: Mapping[str, Any]) -> Estimator:
    """The estimator that was written into a folder, with what `save_estimator` returned."""
    if "shrinkage" not in facts:
        return Estimator(str(facts["estimator"]), facts["agreement"])

    def array(name: str) -> np.ndarray:
        loaded: np.ndarray = np.load(folder / f"{name}.npy", allow_pickle=False)
        return loaded

    basis = Basis(array("vectors"), array("projector"), array("random") if (folder / "random.npy").exists() else None)
    shrinkage = Shrinkage(**dict(zip(_BY_DIRECTION, array("shrinkage"), strict=True)), **facts["shrinkage"])
    return Estimator(str(facts["estimator"]), facts["agreement"], array("noise"), basis, shrinkage)


def stored_estimator(run: Run) -> Estimator:
    """The run's way from member values to one number, as its influences were estimated.

    Raises:
        TurnoverError: if the run has no influence.
    """
    return load_estimator(run.influence.folder, run.influence.manifest)
