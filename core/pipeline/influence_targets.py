"""What influences of a run are asked on, and with what means they are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from turnover.estimators.estimator import Described
from turnover.models.members import Members
from turnover.pipeline.estimate import describe_targets
from turnover.pipeline.model import run_split
from turnover.runs import Run
from turnover.training import Split

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
"""Number types of the large products; None is the model's own."""


@dataclass(frozen=True)
class Resources:
    """What a computation may use: bytes for tiles and slices beside the result, and the number type of its large products."""

    memory: int
    precision: str = "float32"

    @property
    def lowered(self) -> bool:
        """Whether the products are less exact than the model."""
        return PRECISIONS[self.precision] is not None

    @property
    def options(self) -> dict[str, Any]:
        """As keyword arguments of `influence`; half of the memory is for the engine, half for the slices that are estimated."""
        return {"memory": self.memory // 2, "dtype": PRECISIONS[self.precision]}


@dataclass(frozen=True)
class Targets:
    """What influences are asked on: inputs, features `(T, D)`, and the labels that are meant, `truth` and `prediction`."""

    inputs: torch.Tensor
    features: np.ndarray
    labels: dict[str, torch.Tensor]

    @classmethod
    def of(cls, run: Run, chosen: list[int], device: torch.device) -> Targets:
        items = run_split(run, "validation", device, chosen)
        predicted = torch.tensor(run.validation["predicted"].loc[chosen].tolist(), device=device)
        return cls(items.inputs, np.asarray(run.features("validation")[chosen]), {"truth": items.labels, "prediction": predicted})

    @property
    def wrong(self) -> np.ndarray:
        """Which are misclassified, `(T,)`."""
        made: np.ndarray = (self.labels["truth"] != self.labels["prediction"]).cpu().numpy()
        return made

    def split(self, rows: np.ndarray, meaning: str = "truth") -> Split:
        return Split(self.inputs[rows], self.labels[meaning][rows])

    def described(self, model: Members, rows: np.ndarray, meaning: str = "truth") -> Described:
        return describe_targets(model, self.split(rows, meaning), self.features[rows])
