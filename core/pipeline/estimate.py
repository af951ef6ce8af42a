"""A run's estimator: what it needs to know of items, and its files in the folder of influences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.estimators.basis import Basis
from core.estimators.estimator import Described, Estimator, choose_estimator
from core.estimators.shrinkage import Shrinkage
from core.masks import UNOWNED
from core.models.members import Members
from core.runs import Run
from core.training import Split, probabilities

_DRAWS = 4
_SCALARS = ("strength", "strength_variance", "own", "own_error")
_BY_DIRECTION = ("weight", "weight_variance", "deviation")


def describe_targets(model: Members, targets: Split, features: np.ndarray) -> Described:
    """Targets with their features `(T, D)` and their residuals under masks that nobody owns, the same for every target in any company."""
    chances = [probabilities(model, targets.inputs, torch.full_like(targets.labels, UNOWNED + draw)) for draw in range(_DRAWS)]
    return Described(features, _residuals(torch.stack(chances).mean(0), targets.labels))


def run_estimator(run: Run, model: Members, train: Split, pilot: np.ndarray, targets: Described) -> Estimator:
    """The estimator that a pilot `(K, T, N)` of some targets favours; training items are seen by the half that never saw them."""
    unseen = probabilities(model, train.inputs, torch.arange(len(train.labels), device=train.labels.device), flipped=True)
    return choose_estimator(pilot, Described(run.features("train"), _residuals(unseen, train.labels)), targets)


def _residuals(chances: Tensor, labels: Tensor) -> np.ndarray:
    """One-hot labels minus probabilities, `(n, C)`."""
    right: np.ndarray = (torch.nn.functional.one_hot(labels, chances.shape[1]) - chances).cpu().numpy()
    return right


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
