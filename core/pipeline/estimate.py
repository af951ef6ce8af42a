"""What a run's estimator needs to know of items (`turnover.estimators`); its files are written by `turnover.estimators.stored`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from turnover.estimators.estimator import Described, Estimator, choose_estimator
from turnover.masks import UNOWNED
from turnover.models.members import Members
from turnover.runs import Run
from turnover.training import Split, probabilities

_DRAWS = 4


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
