"""The full network in place of the masked one (footnote 4).

Equation (2) compares the half that never saw an item with the half that did, L(f^m̃) − L(f^m). The footnote's other choice
compares it with the whole network, L(f^m̃) − L(f). Both are measured by the linear datamodeling score (`turnover.fidelity.lds`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from turnover.engine import PairPath, path_for
from turnover.engine.plain import evaluating
from turnover.engine.tiles import tiles
from turnover.fidelity.estimators import Evidence
from turnover.fidelity.lds import halves_of, row_of
from turnover.fidelity.methods import Scored, evidence_of, turnover_scores
from turnover.fidelity.options import Options
from turnover.fidelity.row import Figure
from turnover.fidelity.subject import Subject
from turnover.paper.row import PaperRow
from turnover.paper.setup import Setup
from turnover.pipeline.influence import compute_influence
from turnover.pipeline.settings import TrainSettings
from turnover.progress import bar
from turnover.runs import Run

_MEMBERS = 16
_OPTIONS = Options()
MASKED, FULL = "L(f^m̃) − L(f^m), equation (2)", "L(f^m̃) − L(f), footnote 4"


def footnote4(setup: Setup) -> Iterator[PaperRow]:
    """Scores of both choices, estimator by estimator, on digits, and on SST-2 if there is a folder of data."""
    runs = {"footnote4-digits": TrainSettings("digits", model="heads", members=_MEMBERS)}
    if setup.data is not None:
        runs["footnote4-sst2"] = TrainSettings("sst2", path=setup.folder("sst2"), limit=5000, label_noise=0.1, members=_MEMBERS)
    for name, settings in runs.items():
        run = setup.run(name, settings)
        if not run.has_influence:
            compute_influence(run, device_choice=setup.device)
            run = Run(run.folder)
        yield from _rows(Subject.of(run, setup.device))


def _rows(subject: Subject) -> Iterator[PaperRow]:
    evidence, seconds = evidence_of(subject)
    against_full = replace(evidence, values=full_influence(evidence))
    inside, losses = halves_of(subject, _OPTIONS)
    facts = subject.run.manifest
    data = f"{facts['data']['name']}, N = {len(subject.run.train):,}, {evidence.model.members} members"
    for first, second in zip(turnover_scores(evidence, seconds), turnover_scores(against_full, seconds), strict=True):
        for what, scored in ((MASKED, first), (FULL, second)):
            figures = row_of(scored, inside, losses).figures
            yield PaperRow(f"LDS of {what}", f"{data}, {_way(scored)}", "", _measured(figures))


def _way(scored: Scored) -> str:
    return scored.method.removeprefix("turn-over, ") + (f" ({scored.note})" if scored.note else "")


def _measured(figures: dict[str, Figure]) -> str:
    return "; ".join(str(figure) if name == "LDS" else f"{name} {figure}" for name, figure in figures.items())


class _AgainstFull:
    """A path whose masked logits are the full network's."""

    def __init__(self, path: PairPath, full: Tensor) -> None:
        self.path, self.full, self.members = path, full, path.members
        self.name, self.tiling = path.name, path.tiling

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Full and flipped logits, each `(K, targets, ids, classes)`."""
        _, flipped = self.path.tile(targets, ids)
        return self.full[:, targets, None].to(flipped).expand_as(flipped), flipped


def full_influence(evidence: Evidence) -> np.ndarray:
    """L(f^m̃) − L(f) in nats, `(K, T, N)`."""
    model, targets, run = evidence.model, evidence.subject.targets, evidence.subject.run
    ids = torch.arange(len(run.train))
    values = np.empty(evidence.values.shape, np.float32)
    with evaluating(model), bar(values.size, f"{run.name}: against the full network", "pairs") as advance:
        path = _AgainstFull(path_for(model, targets.inputs), model(targets.inputs))
        for rows, columns, (tile,) in tiles(path, (targets.labels,), ids, None, advance):
            values[:, rows, columns] = tile.numpy()
    return values
