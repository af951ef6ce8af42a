"""What is computed of a run: a request as JSON can hold it, its targets, and the memory for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch

from turnover.attribution.ensemble import Members
from turnover.attribution.estimators.estimator import Described
from turnover.attribution.estimators.shrinkage import Shrinkage
from turnover.errors import TurnoverError
from turnover.runs.model import describe_targets, run_split
from turnover.runs.run import Run
from turnover.storage.artifacts import FORMAT, Parts
from turnover.training.fit import Split
from turnover.workflows import influence_chunks


@dataclass(frozen=True)
class Request:
    """What is computed of a run: the arguments of `compute_influence`, as JSON can hold them."""

    targets: str
    device: str
    full_bytes: int
    memory: int | None
    precision: str
    most: int | None

    def chosen(self, run: Run) -> list[int]:
        """The positions of the targets."""
        chosen = (
            run.misclassified_positions
            if self.targets == "errors"
            else [int(position) for position in run.validation.index]
        )
        if not chosen:
            raise TurnoverError(
                f"{run.folder}: no validation item is misclassified, so there are no errors to "
                "explain; use --targets validation"
            )
        if self.most is None or self.most >= len(chosen):
            return chosen
        drawn = np.random.default_rng(0).choice(chosen, self.most, replace=False)
        return sorted(drawn.tolist())

    def parts(self, run: Run, chosen: list[int]) -> Parts:
        """The finished parts."""
        made_with = {
            **asdict(self),
            "run": run.manifest["files"],
            "targets": chosen,
            "top": influence_chunks.TOP,
            "device": torch.device(self.device).type,
            "torch": torch.__version__,
            "estimator": [part.name for part in fields(Shrinkage)],
            "format": FORMAT,
        }
        return Parts(run.folder / ".influence.partial", made_with)


PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
"""Number types of the large products; None is the model's own."""


@dataclass(frozen=True)
class Resources:
    """Limits of a computation: bytes for tiles and slices beside the result, and the number type of
    its large products.
    """

    memory: int
    precision: str = "float32"

    @property
    def lowered(self) -> bool:
        """Whether the products are less exact than the model."""
        return PRECISIONS[self.precision] is not None

    @property
    def options(self) -> dict[str, Any]:
        """As keyword arguments of `influence`; half of the memory is for the engine, half for the
        slices that are estimated.
        """
        return {"memory": self.memory // 2, "dtype": PRECISIONS[self.precision]}


@dataclass(frozen=True)
class Targets:
    """Targets of influences: inputs, features `(T, D)`, and labels by meaning, `truth` and
    `prediction`.
    """

    inputs: torch.Tensor
    features: np.ndarray
    labels: dict[str, torch.Tensor]

    @classmethod
    def of(cls, run: Run, chosen: list[int], device: torch.device) -> Targets:
        items = run_split(run, "validation", device, chosen)
        predicted = torch.tensor(run.validation["predicted"].loc[chosen].tolist(), device=device)
        return cls(
            items.inputs,
            np.asarray(run.features("validation")[chosen]),
            {"truth": items.labels, "prediction": predicted},
        )

    @property
    def wrong(self) -> np.ndarray:
        """Which are misclassified, `(T,)`."""
        wrong: np.ndarray = (self.labels["truth"] != self.labels["prediction"]).cpu().numpy()
        return wrong

    def split(self, rows: np.ndarray, meaning: str = "truth") -> Split:
        return Split(self.inputs[rows], self.labels[meaning][rows])

    def described(self, model: Members, rows: np.ndarray, meaning: str = "truth") -> Described:
        return describe_targets(model, self.split(rows, meaning), self.features[rows])
