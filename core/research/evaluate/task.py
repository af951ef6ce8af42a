"""What is measured: a run with a seeded sample of its targets, and its plain twin as a problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from turnover.attribution.device import choose_device
from turnover.attribution.masks import derive_seed
from turnover.errors import TurnoverError
from turnover.research.baselines.base import Problem, Schedule
from turnover.research.baselines.retraining import plain_classifier, train_problem
from turnover.runs.run import Run
from turnover.workflows.targets import Targets

TARGETS = 100
_TARGETS = 10


@dataclass(frozen=True)
class EvaluationTask(Targets):
    """Targets that are measured."""

    @classmethod
    def of(
        cls,
        run: Run,
        device: str | None = None,
        count: int = TARGETS,
        meaning: str = "truth",
        cluster: str | None = None,
    ) -> Self:
        """Up to `count` random targets from those with influences; errors only for `prediction`.

        Raises:
            TurnoverError: if the run has no influence, or makes no error where errors are
                requested.
        """
        candidates = run.influence.targets if meaning == "truth" else run.influence.misclassified
        if not candidates:
            raise TurnoverError(
                f"{run.folder}: no validation item with influences is misclassified, so there is no"
                " error to explain"
            )
        drawn = np.random.default_rng(derive_seed(0, _TARGETS)).choice(
            candidates, min(count, len(candidates)), replace=False
        )
        return cls(run, choose_device(device), sorted(drawn.tolist()), meaning, cluster)

    @property
    def training_seconds(self) -> float:
        """Of the run's training; 0 where it was trained elsewhere, and nobody knows."""
        return float(self.run.manifest.get("timings", {}).get("training", 0.0))

    @property
    def twin_epochs(self) -> int | None:
        """The kept epoch of the plain twin; None where there is none, as `problem` then says."""
        epochs: int | None = self.run.manifest["results"].get("plain_kept_epoch")
        return epochs

    def problem(self, member: int = 0) -> Problem:
        """The run's plain twin, one member of it, trained now for baselines.

        Raises:
            TurnoverError: if a model like this cannot be trained again step by step.
        """
        model = plain_classifier(self.untrained(member + 1), member)
        return train_problem(
            model, self.train, self.targets, Schedule.of(self.recipe, self.epochs(), member)
        )
